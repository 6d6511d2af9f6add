"""What runs must have in common: keys that came later stand for what they stood for before."""

from codistill.config import make_config
from codistill.finished import ADDED_LATER
from codistill.report.terms import comparable, differing, flatten, terms_of


def test_a_run_of_an_earlier_version_competes_with_the_same_run_of_today() -> None:
    today = make_config({"data": "digits"}).model_dump(mode="json")
    earlier = {key: value for key, value in today.items() if key not in ADDED_LATER}
    earlier["data"] = {key: value for key, value in today["data"].items() if key not in ("resize", "test")}
    earlier["augment"] = {key: today["augment"][key] for key in ("padding", "flip")}
    assert comparable(earlier) == comparable(today)
    other = {**today, "augment": {**today["augment"], "mixup": 0.2}}
    assert comparable(earlier) != comparable(other)


def test_how_a_run_was_spread_over_processes_is_free_but_what_it_normalised_over_is_a_term() -> None:
    today = make_config({"data": "digits"}).model_dump(mode="json")
    assert comparable({**today, "sharding": "parameters"}) == comparable(today)
    synchronised = {**today, "sync_batchnorm": True}
    assert terms_of(flatten(comparable(synchronised))) != terms_of(flatten(comparable(today)))


def test_more_processes_are_another_training() -> None:
    today = make_config({"data": "digits"}).model_dump(mode="json")
    alone, eight = (terms_of(flatten(comparable(today, processes))) for processes in (1, 8))
    assert differing([alone, eight]) == ["processes"]


def test_how_many_students_have_a_task_is_told_by_the_tasks_and_not_by_its_settings() -> None:
    configs = [make_config({"tasks": tasks}).model_dump(mode="json") for tasks in (["rotation", "none"], "rotation")]
    assert differing([flatten(config) for config in configs]) == ["tasks"]
