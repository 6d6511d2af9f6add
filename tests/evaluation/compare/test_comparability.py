"""What runs must have in common to compete."""

from typing import Any

from codistill.config.schema import make_config
from codistill.evaluation.compare.comparability import comparable, differing, flatten, terms_of


def config_of_a_run() -> dict[str, Any]:
    return make_config({"method": "dml", "tasks": "none"}).model_dump(mode="json")


def test_a_recorded_run_without_the_optimizer_s_name_competes_with_the_same_run_of_today() -> None:
    today = config_of_a_run()
    later = ("name", "beta2", "lr_factors")
    recorded = {**today, "optimizer": {key: value for key, value in today["optimizer"].items() if key not in later}}
    assert comparable(recorded) == comparable(today)
    other = {**today, "optimizer": {**today["optimizer"], "name": "adamw"}}
    assert comparable(recorded) != comparable(other)


def test_how_a_run_was_spread_over_processes_is_free_but_what_it_normalised_over_is_a_term() -> None:
    today = config_of_a_run()
    assert comparable({**today, "sharding": "parameters"}) == comparable(today)
    synchronised = {**today, "sync_batchnorm": True}
    assert terms_of(flatten(comparable(synchronised))) != terms_of(flatten(comparable(today)))


def test_more_processes_are_another_training() -> None:
    today = config_of_a_run()
    alone, eight = (terms_of(flatten(comparable(today, processes))) for processes in (1, 8))
    assert differing([alone, eight]) == ["processes"]


def test_how_many_students_have_a_task_is_told_by_the_tasks_and_not_by_its_settings() -> None:
    configs = [make_config({"tasks": tasks}).model_dump(mode="json") for tasks in (["rotation", "none"], "rotation")]
    assert differing([flatten(config) for config in configs]) == ["tasks"]
