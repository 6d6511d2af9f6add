"""Two ways to train one configuration, in parts that can be timed: ours, and the loop that one writes first.

The plain loop makes the same losses with the same networks and weights: NCHW memory, fp32, eager, one student after
the other, images augmented one by one with PIL in a ``DataLoader``, an optimizer per student, every loss read after
every step. It is what public training loops do, without their evaluation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from codistill.config.schema import RunConfig
from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.data.images import Images
from codistill.errors import UserError
from codistill.training.build import Experiment, build
from codistill.training.optim import OPTIMIZERS
from codistill.training.runtime import Runtime, choose_device
from codistill.training.step import Step

LEARNING_RATE = 0.01  # small, so that losses stay comparable over a few steps


class Loop(ABC):
    """One training step at a time. Attribute ``experiment``: what is trained."""

    experiment: Experiment

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Augmented batches without end."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """The loss that is minimised."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None: ...

    @abstractmethod
    def update(self) -> None: ...


class Ours(Loop):
    """What ``codistill train`` does."""

    def __init__(self, config: RunConfig) -> None:
        self.experiment = build(config)
        cohort, runtime = self.experiment.cohort, self.experiment.runtime
        optimizer = runtime.optimizer(cohort, lr=LEARNING_RATE, **config.optimizer.settings)
        self._step = Step(cohort, self.experiment.objective, optimizer, runtime, config.optimizer.clip_norm)

    def batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.experiment.loader.epoch(epoch)
            epoch += 1

    def forward(self, batch: Batch) -> Tensor:
        return self._step.forward(batch, progress=1.0)[1]

    def backward(self, loss: Tensor) -> None:
        self._step.backward(loss)

    def update(self) -> None:
        self._step.update(LEARNING_RATE)


class Plain(Loop):
    """The plain loop. ``workers``: of its DataLoader."""

    def __init__(self, config: RunConfig, workers: int = 0) -> None:
        self.experiment = build(config, runtime=PlainRuntime(choose_device(config.device)))
        cohort = self.experiment.cohort
        self._clip_norm = config.optimizer.clip_norm
        settings = config.optimizer.settings
        make = OPTIMIZERS[settings.pop("name")]
        self._optimizers = [
            make(parameters, lr=LEARNING_RATE, **settings) for parameters in cohort.parameter_groups().values()
        ]
        self._losses: dict[str, Tensor] = {}
        facts = self.experiment.facts
        augment = self.experiment.config.augment
        if (augment.crop, augment.policy, augment.mixup, augment.cutmix) != ("padded", "none", 0, 0):
            raise UserError("The plain loop has a padded crop and flip only: leave other keys of augment out.")
        self._loader = DataLoader(
            PilImages(
                self.experiment.train_images,
                facts["mean"],
                facts["std"],
                augment.padding or 0,
                bool(augment.flip),
                cohort.augmentations,
            ),
            config.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
        )

    def batches(self) -> Iterator[Batch]:
        device = self.experiment.runtime.device
        while True:
            for (images, *extra), labels in self._loader:
                draws = torch.randint(0, 2**31 - 1, (len(labels),)).to(device)
                yield Batch(images.to(device), labels.to(device), tuple(more.to(device) for more in extra), draws)

    def forward(self, batch: Batch) -> Tensor:
        self._losses = self.experiment.cohort(batch)
        return self.experiment.objective(self._losses)

    def backward(self, loss: Tensor) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()

    def update(self) -> None:
        for optimizer in self._optimizers:
            if self._clip_norm is not None:
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self._clip_norm)
            optimizer.step()
        self.experiment.cohort.after_step()
        for loss in self._losses.values():
            loss.item()


class PlainRuntime(Runtime):
    """As PyTorch comes."""

    def place(self, cohort: Cohort, image_shape: tuple[int, int, int]) -> Cohort:
        return cohort.to(self.device)


class PilImages(Dataset[tuple[list[Tensor], int]]):
    """Each image augmented by itself: zero-padded crop, flip, normalisation, as often as a batch needs it."""

    def __init__(
        self, images: Images, mean: Sequence[float], std: Sequence[float], padding: int, flip: bool, augmentations: int
    ) -> None:
        self._images = [Image.fromarray(pixels.numpy()) for pixels in images.pixels]
        self._labels = images.labels.tolist()
        self._mean, self._std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self._padding, self._flip, self._augmentations = padding, flip, augmentations

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[list[Tensor], int]:
        return [self._augmented(self._images[row]) for _ in range(self._augmentations)], self._labels[row]

    def _augmented(self, image: Image.Image) -> Tensor:
        width, height = image.size
        left, top = torch.randint(0, 2 * self._padding + 1, (2,)).tolist()
        crop = ImageOps.expand(image, self._padding).crop((left, top, left + width, top + height))
        if self._flip and torch.rand(()) < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous().float() / 255
        return (pixels - self._mean) / self._std


LOOPS: dict[str, Callable[[RunConfig], Loop]] = {"ours": Ours, "naive": Plain}
