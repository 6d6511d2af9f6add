"""A checkpoint knows whether it is whole; a damaged one is named, and the previous one is used."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codistill import UserError
from codistill.storage.checkpoint import Checkpoints, read, seal


def state(epoch: int) -> dict[str, Any]:
    return {
        "cohort": {"weight": torch.full((50,), float(epoch))},
        "optimizer": {},
        "config": "epochs: 2",
        "epochs_done": epoch,
        "steps_done": 3 * epoch,
    }


@pytest.fixture
def two(tmp_path: Path) -> Checkpoints:
    """The checkpoints of epochs 1 and 2."""
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2):
        checkpoints.save(seal(state(epoch)))
    return checkpoints


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def cut_by_its_last_byte(data: bytes) -> bytes:
    return data[:-1]


def emptied(data: bytes) -> bytes:
    return b""


def zeroed_at_its_end(data: bytes) -> bytes:  # what some file systems leave after a power cut
    return data[:-500] + bytes(500)


def altered_by_one_bit(data: bytes) -> bytes:
    middle = data.index(torch.full((50,), 2.0).numpy().tobytes())  # in the weights, where only a checksum can tell
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES = [cut, cut_by_its_last_byte, emptied, zeroed_at_its_end, altered_by_one_bit]


def test_what_was_saved_is_read_and_the_one_before_is_kept(two: Checkpoints) -> None:
    assert read(two.last)["epochs_done"] == 2
    assert read(two.previous)["epochs_done"] == 1
    torch.testing.assert_close(read(two.last)["cohort"], state(2)["cohort"], atol=0, rtol=0)


def test_torch_reads_a_checkpoint_without_this_library(two: Checkpoints) -> None:
    weights = torch.load(two.last, weights_only=True)["cohort"]
    torch.testing.assert_close(weights, state(2)["cohort"], atol=0, rtol=0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_set_aside_and_the_previous_one_is_used(
    two: Checkpoints, damage: Callable[[bytes], bytes]
) -> None:
    damaged = damage(two.last.read_bytes())
    two.last.write_bytes(damaged)
    warnings: list[str] = []
    assert two.recover(warnings.append)["epochs_done"] == 1
    (warning,) = warnings
    assert f"'{two.last}' is damaged: it was " in warning
    assert "The previous checkpoint is used instead, of epoch 1." in warning
    assert two.damaged.read_bytes() == damaged
    # The next save must not keep the damaged one as the previous.
    two.save(seal(state(2)))
    assert (read(two.last)["epochs_done"], read(two.previous)["epochs_done"]) == (2, 1)


def test_a_missing_checkpoint_is_named_and_the_previous_one_is_used(two: Checkpoints) -> None:
    two.last.unlink()
    warnings: list[str] = []
    assert two.recover(warnings.append)["epochs_done"] == 1
    assert warnings == [f"'{two.last}' is missing. The previous checkpoint is used instead, of epoch 1."]
    assert read(two.last)["epochs_done"] == 1


def test_a_whole_checkpoint_is_used_without_a_word(two: Checkpoints) -> None:
    two.previous.write_bytes(b"")
    warnings: list[str] = []
    assert two.recover(warnings.append)["epochs_done"] == 2
    assert not warnings


def test_if_both_are_damaged_both_are_named_and_nothing_is_changed(two: Checkpoints) -> None:
    two.last.write_bytes(cut(two.last.read_bytes()))
    two.previous.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        two.recover(pytest.fail)
    for words in (f"'{two.last}' is damaged", f"'{two.previous}' is damaged", "codistill train", "config.yaml run="):
        assert words in str(caught.value)
    assert two.last.exists()
    assert two.previous.exists()


class Evil:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, sealed: bool) -> None:
    mark, path = tmp_path / "executed", tmp_path / "checkpoint.pt"
    evil = {"epochs_done": 1, "cohort": Evil(mark)}
    pickle.loads(pickle.dumps(evil))
    assert mark.exists(), "the test's pickle does nothing"
    mark.unlink()
    path.write_bytes(seal(evil) if sealed else pickle.dumps(evil))
    with pytest.raises(UserError, match="nothing but tensors and plain data is read" if sealed else "was cut off"):
        Checkpoints(tmp_path).recover(pytest.fail)
    assert not mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {"weight": 1}, {**state(1), "config": None}])
def test_what_is_sealed_but_no_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(seal(content))
    with pytest.raises(UserError, match="is not the checkpoint of a run"):
        read(tmp_path / "checkpoint.pt")
