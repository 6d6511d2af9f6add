"""The image, decoded from the last feature map (supervised auto-encoders, Le et al., NeurIPS 2018).

x are the normalised images (mean 0 and variance 1 in each channel over the training data), F the student's last
feature map of x, or of x with some cells of a 4x4 grid hidden:

    loss = mean over images, channels and pixels of (decoder(F) - x)^2

All pixels count, hidden or not. A loss of 1 is what the mean colour alone would get.

Sources: L. Le, A. Patterson, M. White, "Supervised autoencoders: Improving generalization performance with
unsupervised regularizers", NeurIPS 2018; hidden cells: a coarse form of He et al., CVPR 2022, arXiv:2111.06377.
Deviation: hidden cells, and the decoder: it goes back through the sizes of the student's own stages. It shows no more
detail than the grid of the first stage can: where that is coarser than the image (patches, strided stems), its cells
are enlarged.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import CLEAN, MASK_GRID
from codistill.errors import UserError


class _Enlarge(nn.Module):
    """(B, C, h, w) -> (B, out, *size): mixed where the grid is small, then enlarged and smoothed."""

    def __init__(self, channels: int, out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.mix = nn.Sequential(nn.Conv2d(channels, out, 1), nn.ReLU(inplace=True))
        self.smooth = nn.Conv2d(out, out, 3, padding=1, groups=out, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.smooth(F.interpolate(self.mix(x), size=self.size, mode="nearest")))


class Decoder(nn.Module):
    """Last feature map (B, C, h, w) -> images (B, 3, H, W): back through the sizes of a student's stages."""

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        stages = shape.feature_maps[::-1]
        # A student with a single stage map gets one block at its own size.
        steps = list(zip(stages, stages[1:] or stages, strict=False))
        self.blocks = nn.Sequential(*[_Enlarge(stage[0], to[0], to[1:]) for stage, to in steps])
        self.to_colour = nn.Conv2d(steps[-1][1][0], 3, 3, padding=1)

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        return self.to_colour(F.interpolate(self.blocks(feature_map), size=size, mode="nearest"))


class Reconstruction(Task):
    """Decode the image from the last feature map.

    masked: share of the 16 cells of a 4x4 grid that are hidden from the student, other ones each time, rounded to
    whole cells; 0 decodes the clean look itself, which costs no further pass.
    """

    def __init__(self, shape: StudentShape, *, masked: float = 0.0) -> None:
        super().__init__()
        cells = MASK_GRID**2
        hidden = round(masked * cells)
        if masked != 0 and not 0 < hidden < cells:
            raise UserError(
                f"Task 'reconstruction' hides {masked:g} of an image: masked must be 0, or hide between 1 and "
                f"{cells - 1} of {cells} cells ({1 / cells:g} to {1 - 1 / cells:g})."
            )
        self.views = (f"masked{hidden}",) if hidden else ()
        self.decoder = Decoder(shape)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        (view,) = self.views or (CLEAN,)
        height, width = batch.images.shape[-2:]
        return F.mse_loss(self.decoder(seen[view].feature_maps[-1], (height, width)), batch.images)
