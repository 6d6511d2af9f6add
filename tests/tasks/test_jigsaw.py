"""Which permutation of its tiles a shuffled image shows."""

from itertools import combinations, permutations

import numpy as np
import pytest
import references
import torch
from cohorts import CLASSES, SIZE, make_batch

from codistill import Student, observe_shapes
from codistill.core.views import JIGSAWS, VIEWS, which_jigsaw
from codistill.models import MODELS
from codistill.tasks.jigsaw import Jigsaw


@pytest.mark.parametrize(("grid", "size"), [(2, 8), (2, 7), (3, 9), (3, 8), (3, 10)])
def test_a_shuffled_image_is_the_literal_one_and_a_border_left_over_is_blank(grid: int, size: int) -> None:
    images = torch.randn(5, 3, size, size)
    draws = torch.tensor([0, 1, 7, 23, 2**31 - 2])
    shuffled = VIEWS[f"jigsaw{grid}"](images, draws)
    for image, result, which in zip(images, shuffled, which_jigsaw(draws, grid).tolist(), strict=True):
        assert torch.equal(result, references.jigsaw(image, list(JIGSAWS[grid][which]), grid))
    if size % grid == 0:
        assert torch.equal(shuffled[0], images[0])  # the first permutation leaves every tile in its place


def test_of_four_tiles_every_permutation_is_used() -> None:
    assert set(JIGSAWS[2]) == set(permutations(range(4)))
    assert sorted(which_jigsaw(torch.arange(100, 124), 2).tolist()) == list(range(24))


def test_of_nine_tiles_thirty_permutations_are_chosen_by_the_farthest_first_rule() -> None:
    every = np.array(list(permutations(range(9))), dtype=np.int8)
    nearest, total = np.full(len(every), 10), np.zeros(len(every), dtype=np.int64)
    chosen = [0]
    while len(chosen) < 30:
        distance = (every != every[chosen[-1]]).sum(axis=1)
        nearest, total = np.minimum(nearest, distance), total + distance
        farthest = np.flatnonzero(nearest == nearest.max())
        chosen.append(int(farthest[total[farthest].argmax()]))
    assert JIGSAWS[3] == tuple(tuple(map(int, every[row])) for row in chosen)
    distances = [(every[a] != every[b]).sum() for a, b in combinations(chosen, 2)]
    assert min(distances) == 7


def test_draws_decide_and_are_asked_for() -> None:
    images = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
    same, other = VIEWS["jigsaw2"](images, torch.tensor([5, 5])), VIEWS["jigsaw2"](images, torch.tensor([5, 6]))
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])
    with pytest.raises(ValueError, match="'jigsaw2' chooses at random: the batch must have draws"):
        VIEWS["jigsaw2"](images, None)


@pytest.mark.parametrize("grid", [2, 3])
def test_the_loss_is_the_literal_cross_entropy_of_the_permutation_shown(grid: int) -> None:
    student = Student(MODELS["resnet8"](), CLASSES).eval()
    task = Jigsaw(observe_shapes(student, (3, SIZE, SIZE)), grid=grid)  # type: ignore[arg-type]
    batch = make_batch()
    assert batch.draws is not None
    seen = {view: student(VIEWS[view](batch.images, batch.draws)) for view in task.views}
    count = {2: 24, 3: 30}[grid]
    expected = references.cross_entropy(task.head(seen[f"jigsaw{grid}"].embedding), (batch.draws % count).tolist())
    assert task(seen, batch).item() == pytest.approx(expected, abs=1e-5)
