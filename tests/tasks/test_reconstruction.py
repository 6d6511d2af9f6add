"""The image, decoded from the last feature map."""

import math

import pytest
import references
import torch
from cohorts import BACKBONES, CLASSES, SIZE, make_batch, make_cohort

from codistill import Student, UserError, observe_shapes
from codistill.core.views import VIEWS
from codistill.tasks.reconstruction import Reconstruction


@pytest.mark.parametrize("masked", [0.0, 0.5])
@pytest.mark.parametrize("model", ["resnet8", "cnn", "vit"])
def test_the_loss_is_the_literal_squared_error_to_the_whole_image(model: str, masked: float) -> None:
    student = Student(BACKBONES[model](), CLASSES).eval()
    task = Reconstruction(observe_shapes(student, (3, SIZE, SIZE)), masked=masked).eval()
    batch = make_batch(2)
    seen = {view: student(VIEWS[view](batch.images, batch.draws)) for view in ("clean", *task.views)}
    assert list(seen) == (["clean", "masked8"] if masked else ["clean"])
    decoded = task.decoder(list(seen.values())[-1].feature_maps[-1], (SIZE, SIZE))
    assert task(seen, batch).item() == pytest.approx(references.mean_squared_error(decoded, batch.images), abs=1e-5)


@pytest.mark.parametrize("cells", [1, 8, 15])
@pytest.mark.parametrize("size", [8, 10])
def test_the_cells_that_a_mask_hides_are_the_literal_ones(cells: int, size: int) -> None:
    draws = torch.tensor([0, 1, 12345, 2**31 - 2])
    masked = VIEWS[f"masked{cells}"](torch.ones(4, 3, size, size), draws)
    for image, draw in zip(masked, draws.tolist(), strict=True):
        corners = [(math.ceil(cell // 4 * size / 4), math.ceil(cell % 4 * size / 4)) for cell in range(16)]
        hidden = [cell for cell, (y, x) in enumerate(corners) if image[0, y, x] == 0]
        assert hidden == references.hidden_cells(draw, cells)
        assert set(image.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(image[0], image[1])


def test_every_cell_is_hidden_equally_often() -> None:
    draws = torch.randint(0, 2**31 - 1, (4000,), generator=torch.Generator().manual_seed(0))
    hidden = 1 - VIEWS["masked4"](torch.ones(4000, 1, 4, 4), draws)
    assert hidden.sum(dim=(1, 2, 3)).unique().tolist() == [4.0]
    torch.testing.assert_close(hidden.mean(dim=0), torch.full((1, 4, 4), 0.25), atol=0.03, rtol=0)


def test_masks_ask_for_draws() -> None:
    with pytest.raises(ValueError, match="'masked4' chooses at random: the batch must have draws"):
        VIEWS["masked4"](torch.ones(1, 3, 8, 8), None)


@pytest.mark.parametrize("masked", [0.01, 0.99, 1.0, -0.5])
def test_hiding_nothing_or_all_is_refused(masked: float) -> None:
    shape = observe_shapes(Student(BACKBONES["cnn"](), CLASSES), (3, SIZE, SIZE))
    with pytest.raises(UserError, match=r"masked must be 0, or hide between 1 and 15 of 16 cells \(0.0625 to 0.9375\)"):
        Reconstruction(shape, masked=masked)


def test_images_can_be_learnt_by_heart() -> None:
    torch.manual_seed(0)
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, ["reconstruction", None])
    batch = make_batch(2)
    smooth = torch.nn.functional.interpolate(batch.images[..., :4, :4], size=(SIZE, SIZE), mode="nearest")
    optimizer = torch.optim.Adam(cohort.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = cohort(batch._replace(images=smooth))["a/reconstruction"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * smooth.var().item()
