"""What is left to ``auto`` follows the length of training, and nothing that is set is changed by it."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import Silent
from interrupted import killed_after_step
from PIL import Image

from codistill.config.schema import RunConfig, make_config
from codistill.data.loader import batches_per_epoch
from codistill.errors import UserError
from codistill.experiments.sweep.queue import Job
from codistill.experiments.sweep.sweep_file import Entry
from codistill.storage.run_files import read_config
from codistill.training import trainer
from codistill.training.auto import (
    BURN_IN,
    ENOUGH_FOR_PEERS,
    ENOUGH_FOR_TASKS,
    METHOD,
    TASK,
    Length,
    is_open,
    settle,
    settled_as,
)
from codistill.training.build import build, read_data
from codistill.training.distributed.process_group import Processes
from codistill.training.resume import config_to_go_on

SHORT = Length(ENOUGH_FOR_PEERS.steps - 1, ENOUGH_FOR_PEERS.epochs - 1)
SMALL: dict[str, Any] = {"data": {"name": "digits", "per_class": 12}, "batch_size": 32, "epochs": 2}


class Noting(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def chosen(length: Length, **given: Any) -> tuple[list[str], str, list[list[str]]]:
    """Students, method and tasks."""
    settled, _ = settle(make_config(given), length)
    assert not is_open(settled)
    tasks = [[task.name for task in own] for own in settled.tasks_of_students.values()]
    return list(settled.students), settled.method.name, tasks


def said(length: Length, **given: Any) -> str:
    return settle(make_config(given), length)[1]


def test_a_training_too_short_for_peers_has_one_student_alone() -> None:
    assert chosen(SHORT) == (["resnet8_1"], "independent", [[]])
    assert chosen(SHORT, students="resnet20") == (["resnet20_1"], "independent", [[]])


def test_a_longer_training_has_two_students_who_teach_each_other_and_a_long_one_their_tasks_too() -> None:
    pair = ["resnet8_1", "resnet8_2"]
    assert chosen(ENOUGH_FOR_PEERS) == (pair, METHOD, [[], []])
    assert chosen(ENOUGH_FOR_TASKS) == (pair, METHOD, [[TASK], [TASK]])


@pytest.mark.parametrize("enough", [ENOUGH_FOR_PEERS, ENOUGH_FOR_TASKS])
def test_a_training_is_long_by_its_steps_and_by_its_epochs(enough: Length) -> None:
    assert enough.reaches(enough)
    assert not enough._replace(steps=enough.steps - 1).reaches(enough)
    assert not enough._replace(epochs=enough.epochs - 1).reaches(enough)
    assert ENOUGH_FOR_TASKS.reaches(ENOUGH_FOR_PEERS)


def test_students_that_are_listed_are_all_trained_each_alone_where_training_is_short() -> None:
    assert chosen(SHORT, students=["resnet8", "resnet20"]) == (["resnet8", "resnet20"], "independent", [[], []])
    assert chosen(ENOUGH_FOR_PEERS, students=["resnet8", "resnet20"])[1] == METHOD


@pytest.mark.parametrize("length", [SHORT, ENOUGH_FOR_PEERS, ENOUGH_FOR_TASKS])
def test_what_is_set_is_never_changed(length: Length) -> None:
    pair = ["resnet8_1", "resnet8_2"]
    assert chosen(length, method=METHOD)[:2] == (pair, METHOD)
    assert chosen(length, method="dml") == (pair, "dml", [[], []])
    assert chosen(length, method="independent") == (pair, "independent", [[], []])
    assert chosen(length, tasks="rotation")[2] == [["rotation"]] * (1 if length is SHORT else 2)
    assert chosen(length, tasks=["rotation", "none"])[::2] == (pair, [["rotation"], []])
    assert chosen(length, tasks="none", method=METHOD) == (pair, METHOD, [[], []])
    assert chosen(length, students="resnet8", peers=None)[0] == pair
    assert chosen(length, students=["resnet8"]) == (["resnet8"], "independent", [[]])
    pair_of = {"students": ["resnet8", "resnet8"], "burn_in": 0.25}
    whole = make_config({**pair_of, "method": {"name": METHOD, "grid": 3}, "tasks": "jigsaw"})
    assert settle(whole, length) == (whole, "")


def test_burn_in_comes_with_a_method_that_was_chosen_for_students_of_one_model_in_one_process() -> None:
    def burn_in(processes: int = 1, **keys: object) -> object:
        return settle(make_config(keys), ENOUGH_FOR_PEERS, processes)[0].burn_in

    assert burn_in() == burn_in(students=["resnet8", "resnet8"]) == burn_in(tasks="rotation") == BURN_IN
    assert burn_in(students=["resnet8", "resnet20"]) == 0
    assert burn_in(method=METHOD) == burn_in(method="dml") == burn_in(processes=2) == 0
    assert burn_in(students={"a": "resnet8", "b": "resnet8"}, optimizer={"lr_factors": {"b": 2}}) == 0
    assert burn_in(burn_in=0.75) == burn_in(burn_in=0.75, method="dml") == 0.75


@pytest.mark.parametrize(
    "given",
    [
        {"poison": {"student": "resnet8_2", "random_labels": 0.5}},
        {"optimizer": {"lr_factors": {"resnet8_2": 0.1}}},
        {"tasks": ["rotation", "colour"]},
        {"weights": {"resnet8_2/ce": 0.5}},
    ],
)
def test_a_student_for_whom_something_is_set_is_there_however_short_training_is(given: dict[str, Any]) -> None:
    assert chosen(SHORT, **given)[:2] == (["resnet8_1", "resnet8_2"], "independent")


def test_a_weight_of_a_loss_that_only_peers_have_asks_for_peers() -> None:
    weights = {"*/peers_kl": 0.5}
    assert chosen(SHORT, weights=weights)[:2] == (["resnet8_1", "resnet8_2"], METHOD)
    build(make_config({**SMALL, "weights": weights}))  # a weight of no loss would be refused
    assert chosen(SHORT, weights={"*/ce": 0.5})[1] == "independent"


def test_a_pretrained_student_gets_no_task() -> None:
    student = {"name": "timm/resnet10t", "pretrained": True}
    assert chosen(ENOUGH_FOR_TASKS, students=[student, "resnet8"]) == (["resnet10t", "resnet8"], METHOD, [[], []])
    assert TASK not in said(ENOUGH_FOR_PEERS, students=[student, "resnet8"])


def test_the_sentence_says_what_was_chosen_why_and_what_more_time_would_change() -> None:
    later = f"a peer pays from about {ENOUGH_FOR_PEERS} on"
    assert said(SHORT) == f"Chosen for {SHORT}: resnet8 is trained alone; {later}."
    assert said(SHORT, students=["resnet8", "resnet20"]) == f"Chosen for {SHORT}: method=independent; {later}."
    of_tasks = f"{TASK} pays from about {ENOUGH_FOR_TASKS} on"
    burnt = f"burn_in={BURN_IN:g}"
    assert (
        said(ENOUGH_FOR_PEERS)
        == f"Chosen for {ENOUGH_FOR_PEERS}: method={METHOD} with tasks=none, {burnt}; {of_tasks}."
    )
    assert said(ENOUGH_FOR_PEERS, method=METHOD) == f"Chosen for {ENOUGH_FOR_PEERS}: tasks=none; {of_tasks}."
    assert said(ENOUGH_FOR_PEERS, tasks="rotation") == f"Chosen for {ENOUGH_FOR_PEERS}: method={METHOD}, {burnt}."
    assert said(ENOUGH_FOR_TASKS) == f"Chosen for {ENOUGH_FOR_TASKS}: method={METHOD} with tasks={TASK}, {burnt}."
    assert said(SHORT, method="dml") == said(SHORT, students=["resnet8"]) == ""


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (Length(1, 1.0), "1 epoch and 1 steps"),
        (Length(2, 0.25), "0.25 epochs and 2 steps"),
        (Length(12_345, 123.4), "123 epochs and 12,345 steps"),
    ],
)
def test_a_length_is_said_in_epochs_and_steps(length: Length, words: str) -> None:
    assert str(length) == words


def test_a_run_is_settled_by_its_epochs_and_writes_down_what_was_chosen(tmp_path: Path) -> None:
    display = Noting()
    trainer.train(SMALL, tmp_path / "run", display)
    written = read_config(tmp_path / "run")
    assert "peers" not in written
    assert (list(written["students"]), written["method"], written["tasks"]) == (
        ["resnet8_1"],
        {"name": "independent"},
        [[]],
    )
    assert display.notes[1] == said(Length(6, 2.0))
    again = Noting()
    trainer.train(make_config(written), tmp_path / "again", again)
    assert not any(note.startswith("Chosen for") for note in again.notes)


def steps_an_epoch() -> int:
    config = make_config(SMALL)
    return batches_per_epoch(read_data(config)[1].train, config.batch_size, config.order)


def test_a_long_run_is_built_with_peers_and_tasks() -> None:
    epochs = max(ENOUGH_FOR_TASKS.epochs, -(-ENOUGH_FOR_TASKS.steps // steps_an_epoch()))
    experiment = build(make_config({**SMALL, "epochs": int(epochs)}))
    assert {"resnet8_1", "resnet8_2"} == set(experiment.cohort.students)
    assert list(experiment.cohort.tasks["resnet8_1"]) == [TASK]  # type: ignore[call-overload]
    assert experiment.choice in said(Length(int(epochs) * steps_an_epoch(), epochs))


def test_with_minutes_it_is_settled_by_what_fits_and_not_by_the_epochs() -> None:
    long = make_config({**SMALL, "epochs": 10**6})
    assert len(build(long, ends=time.time()).cohort.students) == 1
    assert len(build(make_config(SMALL), ends=time.time() + 1e6).cohort.students) == 2


def test_the_steps_that_are_timed_leave_no_trace_in_what_is_trained() -> None:
    timed = build(make_config(SMALL), ends=time.time())
    epochs_given = build(make_config(SMALL))
    torch.testing.assert_close(timed.cohort.state_dict(), epochs_given.cohort.state_dict(), atol=0, rtol=0)
    one, other = (next(iter(experiment.loader.epoch(0))) for experiment in (timed, epochs_given))
    assert torch.equal(one.images, other.images)


def listed_with_superclasses(folder: Path) -> Path:
    lines = ["path,label,kind"]
    for number in range(40):
        Image.new("RGB", (8, 8), (6 * number, number, 255 - 6 * number)).save(folder / f"{number}.png")
        label = number % 4
        lines.append(f"{number}.png,{'abcd'[label]},{'xy'[label // 2]}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def test_a_task_that_takes_superclasses_from_the_data_can_be_timed(tmp_path: Path) -> None:
    data = {"name": str(listed_with_superclasses(tmp_path)), "label": "label", "superclass": "kind"}
    config = make_config({"data": data, "batch_size": 8, "tasks": "coarse"})
    (own,) = build(config, ends=time.time()).config.tasks_of_students.values()
    assert own[0].settings["superclasses"] == [0, 0, 1, 1]


def test_a_resumed_run_keeps_what_was_settled_however_long_it_becomes(tmp_path: Path) -> None:
    with killed_after_step(4):
        trainer.train({**SMALL, "save_minutes": 1e-9}, tmp_path / "run", Silent())
    longer = config_to_go_on(tmp_path / "run", {"epochs": 3})
    trainer.train(longer, tmp_path / "run", Silent(), resume=True)
    written = read_config(tmp_path / "run")
    assert (written["epochs"], list(written["students"])) == (3, ["resnet8_1"])


@pytest.mark.parametrize(("minutes", "later"), [(None, None), (1e-4, 1e6)])
def test_a_run_that_a_launcher_starts_again_keeps_what_was_settled(
    minutes: float | None, later: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**SMALL, "save_minutes": 1e-9}
    with killed_after_step(2):
        trainer.train(given, tmp_path / "run", Silent(), minutes=minutes)
    before = read_config(tmp_path / "run")
    monkeypatch.setattr(Processes, "restarted", True)
    trainer.train(given, tmp_path / "run", Silent(), minutes=later)  # in a million minutes peers would fit
    after = read_config(tmp_path / "run")
    assert list(after["students"]) == ["resnet8_1"]
    assert [after[key] for key in ("students", "tasks", "method")] == [
        before[key] for key in ("students", "tasks", "method")
    ]


@pytest.mark.parametrize("length", [SHORT, ENOUGH_FOR_PEERS, ENOUGH_FOR_TASKS])
def test_what_is_open_is_taken_from_a_run_that_began_with_it(length: Length) -> None:
    config = make_config({"students": "resnet20"})
    run, _ = settle(config, length)
    assert settled_as(config, run) == run
    assert settled_as(run, run) == run


def finished_run(config: RunConfig, folder: Path) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(config.to_yaml())
    (folder / "summary.json").write_text("{}")


@pytest.mark.parametrize("length", [SHORT, ENOUGH_FOR_PEERS, ENOUGH_FOR_TASKS])
def test_a_row_of_a_sweep_that_leaves_things_open_is_known_again_in_the_run_that_was_trained(
    length: Length, tmp_path: Path
) -> None:
    config = make_config({"students": "resnet20", "epochs": 3})
    finished_run(settle(config, length)[0], tmp_path / "row")
    assert Job(Entry("row", config), tmp_path).state == "finished"


@pytest.mark.parametrize(
    ("now", "key"),
    [
        ({"students": "resnet8"}, r"students\.resnet20_1"),
        ({"students": "resnet20", "tasks": "rotation"}, "tasks"),
        ({"students": "resnet20", "method": "dml"}, "students"),
        ({"students": "resnet20", "epochs": 5}, "epochs"),
    ],
)
def test_a_row_of_a_sweep_that_says_otherwise_than_its_run_is_named(
    now: dict[str, Any], key: str, tmp_path: Path
) -> None:
    finished_run(settle(make_config({"students": "resnet20", "epochs": 3}), SHORT)[0], tmp_path / "row")
    with pytest.raises(UserError, match=rf"it differs in .*{key}"):
        Job(Entry("row", make_config({"epochs": 3, **now})), tmp_path)


def test_a_run_of_a_method_that_auto_never_chooses_is_not_taken_for_the_rows(tmp_path: Path) -> None:
    finished_run(make_config({"method": "dml", "tasks": "none", "students": ["resnet8"] * 2}), tmp_path / "row")
    with pytest.raises(UserError, match=r"it differs in .*method"):
        Job(Entry("row", make_config({})), tmp_path)


def test_few_steps_are_remarked_on_for_tasks_that_were_set_and_not_for_those_that_were_chosen(tmp_path: Path) -> None:
    def remarks(**given: Any) -> list[str]:
        display = Noting()
        trainer.train({**SMALL, "epochs": 1, **given}, tmp_path / str(len(list(tmp_path.iterdir()))), display)
        return [note for note in display.notes if "few for tasks" in note]

    assert remarks(tasks="jigsaw", method="collaborative") == [
        "3 steps are few for tasks: at equal compute, 900 steps with rotation end below training without a task. "
        "Train longer, or set tasks=none."
    ]
    assert remarks(method="collaborative") == []
