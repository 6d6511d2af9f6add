"""Peer collaborative learning: an ensemble of the peers' embeddings, and moving averages of the peers, teach.

    z_e        = Linear(concat_i e_i)
    L          = sum_i CE(z_i, y) + CE(z_e, y) + w(t) * sum_i [ KL(i <- e) + mean over j != i of KL(i <- m_j) ]
    theta_m_j  <- g * theta_m_j + (1 - g) * theta_j        after step s = 0, 1, ...;  g = min(1 - 1 / (s + 1), decay)

e_i (B, D_i) is the embedding that peer i's classifier reads, m_j the moving average of peer j, theta their parameters,
z_i and z_e (B, K) logits. Each peer, and its moving average with it, sees an augmentation of its own. KL(a <- b) has
the target b detached and T^2 = 9 in it; w(t) ramps up over the first 80 of 300 epochs; decay 0.999. CE(z_e, y) trains
the peers too.

Source: Wu and Gong, "Peer Collaborative Learning for Online Knowledge Distillation", AAAI 2021, arXiv:2006.04147. We
know of no code by its authors. g is that of mean teachers (Tarvainen and Valpola, NeurIPS 2017, arXiv:1703.01780): a
copy at first, then the true mean until the moving average has filled.
Deviation: separate networks of any kind by default; ``shared_trunk=True`` is the paper's network with branches.
Deviation: peers start from different weights, also as branches.
Deviation: buffers (running statistics) are copied, not averaged.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Self, cast

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from codistill.core.batch import Batch
from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import Student, StudentOutput, StudentShape
from codistill.core.teacher import AnsweringTeacher, Taught, Teacher
from codistill.methods.peer_teachers import Listen, everybody_else
from codistill.methods.settings import Decay, Share


class EmbeddingEnsemble(AnsweringTeacher):
    """One linear classifier over all embeddings. ``train_students=False`` detaches the embeddings that it reads."""

    def __init__(self, shapes: Mapping[str, StudentShape], train_students: bool) -> None:
        super().__init__()
        self.students = list(shapes)
        self.train_students = train_students
        width = sum(shape.embedding for shape in shapes.values())
        self.classifier = nn.Linear(width, next(iter(shapes.values())).num_classes)

    def answer(self, outputs: Mapping[str, StudentOutput]) -> StudentOutput:
        """z_e over the joined embeddings (B, sum D_i)."""
        joined = torch.cat([outputs[name].embedding for name in self.students], dim=1)
        joined = joined if self.train_students else joined.detach()
        return StudentOutput(self.classifier(joined), joined, ())


class PeerMeans(Teacher):
    """The moving averages of the students: each student listens to those of the others.

    They have no gradient and no dropout. ``own_augmentations``: student i's average sees augmentation i.
    ``batch_statistics``: in training they normalise by the statistics of the batch, like the students.
    """

    steps: Tensor  # how often the averages have been updated

    def __init__(
        self, shapes: Mapping[str, StudentShape], decay: float, own_augmentations: bool, batch_statistics: bool
    ) -> None:
        super().__init__()
        self.decay = decay
        self.own_augmentations = own_augmentations
        self.batch_statistics = batch_statistics
        self.listen = Listen(everybody_else(list(shapes)))
        self.means = nn.ModuleDict()
        self.register_buffer("steps", torch.zeros(()))

    def enrol(self, students: Mapping[str, Student]) -> None:
        # All at once, so that the copies share a trunk where the students do.
        self.means = nn.ModuleDict(deepcopy(dict(students))).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.means.eval()
        for module in self.means.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode and self.batch_statistics)
        return self

    @torch.no_grad()
    def after_step(self, students: Mapping[str, Student], taken: Tensor | float = 1.0) -> None:
        followed = nn.ModuleDict(students)
        # 1 - g, as such: in single precision 1 - 0.999 would be off by 5e-5 of itself.
        share = torch.clamp(1.0 / (self.steps + 1.0), min=1.0 - self.decay) * taken
        for mean, parameter in zip(self.means.parameters(), followed.parameters(), strict=True):
            mean.lerp_(parameter, share.to(mean.dtype))
        for copy, buffer in zip(self.means.buffers(), followed.buffers(), strict=True):
            copy.copy_(buffer)
        self.steps += taken

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        with torch.no_grad():
            said = {
                name: cast(Student, mean)(batch.augmentation(number if self.own_augmentations else 0))
                for number, (name, mean) in enumerate(self.means.items())
            }
        return self.listen(said, batch)


def pcl(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    ramp: Share = 0.27,
    decay: Decay = 0.999,
    own_augmentations: bool = True,
    shared_trunk: bool = False,
    train_students: bool = True,
    batch_statistics: bool = True,
) -> Method:
    """Peers learn from an ensemble of their embeddings and from averages of each other (AAAI 2021, arXiv:2006.04147).

    temperature: of every KL. ramp: fraction of training over which the links grow to full weight. decay: of the moving
    averages, once they have filled. own_augmentations: each student, and its average, sees an augmentation of its own.
    shared_trunk: the students are branches of one network, as in the paper; False: separate networks of any kind.
    train_students: the ensemble's cross-entropy trains the students too, through their embeddings. batch_statistics:
    in training the averages normalise by the statistics of the batch, as mean teachers do; False: by running ones.
    """
    kl = KL(temperature)
    return Method(
        lessons={
            "ensemble": Lesson(EmbeddingEnsemble(shapes, train_students), {"kl": kl}),
            "means": Lesson(PeerMeans(shapes, decay, own_augmentations, batch_statistics), {"kl": kl}),
        },
        weights={
            "*/ce": 1.0,
            "*/ensemble_kl": Ramp(1.0, over=ramp),
            "*/means_kl": Ramp(1.0, over=ramp),
        },
        own_augmentations=own_augmentations,
        shared_trunk=shared_trunk,
    )
