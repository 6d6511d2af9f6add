"""What runs must have in common: keys that came later stand for what they stood for before."""

from codistill.config import make_config
from codistill.report.terms import comparable


def test_a_run_of_an_earlier_version_competes_with_the_same_run_of_today() -> None:
    today = make_config({"data": "digits"}).model_dump(mode="json")
    earlier = {
        key: value for key, value in today.items() if key not in ("sync_batchnorm", "poison", "trackers", "project")
    }
    earlier["data"] = {key: value for key, value in today["data"].items() if key not in ("resize", "test")}
    earlier["augment"] = {key: today["augment"][key] for key in ("padding", "flip")}
    assert comparable(earlier) == comparable(today)
    other = {**today, "augment": {**today["augment"], "mixup": 0.2}}
    assert comparable(earlier) != comparable(other)
