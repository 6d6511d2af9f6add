"""Online distillation with diverse peers: N - 1 peers with a target each, and a leader that learns from all of them.

    q_a = Q e_a,  k_b = K e_b                                   e the peers' embeddings; Q, K to ``width`` dimensions
    s_a = softmax over peers b of (q_a . k_b)                   per image; asymmetric: s_ab is not s_ba
    t_a = sum_b s_ab z_b                                        b = a included
    L   = sum_i CE(z_i, y) + w(t) * [ sum over peers KL(a <- t_a) + KL(leader <- mean over peers of z_b) ]

w(t) = exp(-5 (1 - min(t / ramp, 1))^2), T = 3. The leader is the network meant for use. Q and K learn from the KLs
alone, through the targets. In the authors' code nothing is detached, so the peers learn through the targets too: each
is also trained to be an easy target for those that attend to it, and for the leader.

Source: Chen, Mei, Wang, Feng, Chen, "Online Knowledge Distillation with Diverse Peers" (AAAI 2020, arXiv:1912.00350)
and the authors' code, which settles the details: logits are mixed, Q and K have no bias, the products are not scaled,
and the ramp is 80 of 300 epochs.

Deviation: peers whose embeddings differ in width have a Q and a K for each width; those of equal width share them.
Deviation: the authors' code adds 1e-7 to each target probability; the KL here is exact without.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Target, Taught, Teacher
from codistill.errors import UserError, unknown
from codistill.methods.settings import Share


def log_attention(query: Tensor, key: Tensor) -> Tensor:
    """log s: (P, B, d) each -> (P, P, B); the first peer attends to the second, over which the shares sum to 1."""
    # A product and a sum, not a matrix product, keep full precision under autocast.
    return (query[:, None] * key[None]).sum(dim=-1).log_softmax(dim=1)


def mix(log_shares: Tensor, logits: Tensor, temperature: float | None = None) -> Tensor:
    """The targets of L learners: log shares (L, P, B or 1) in P speakers with logits (P, B, K) -> logits (L, B, K).

    Logits are mixed; with a temperature, the probabilities that it softens are, and their logits returned.
    """
    if temperature is None:
        return (log_shares.exp()[..., None] * logits).sum(dim=1)
    return temperature * (log_shares[..., None] + (logits / temperature).log_softmax(dim=-1)).logsumexp(dim=1)


class DiversePeers(Teacher):
    """Each peer's own mixture of all peers.

    through_target=False detaches the peers' logits and embeddings on the way in, which leaves Q and K to be trained.
    mix_at: the temperature at which probabilities are mixed; None mixes logits.
    """

    def __init__(
        self,
        shapes: Mapping[str, StudentShape],
        *,
        width: int = 8,
        through_target: bool = True,
        mix_at: float | None = None,
    ) -> None:
        super().__init__()
        self.peers = {name: str(shape.embedding) for name, shape in shapes.items()}  # which Q and K it uses
        self.through_target = through_target
        self.mix_at = mix_at
        widths = dict.fromkeys(shape.embedding for shape in shapes.values())
        self.query = nn.ModuleDict({str(size): nn.Linear(size, width, bias=False) for size in widths})
        self.key = nn.ModuleDict({str(size): nn.Linear(size, width, bias=False) for size in widths})

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        logits = torch.stack([outputs[name].logits for name in self.peers])
        embeddings = {name: outputs[name].embedding for name in self.peers}
        if not self.through_target:
            logits = logits.detach()
            embeddings = {name: embedding.detach() for name, embedding in embeddings.items()}
        query = torch.stack([self.query[size](embeddings[name]) for name, size in self.peers.items()])
        key = torch.stack([self.key[size](embeddings[name]) for name, size in self.peers.items()])
        targets = mix(log_attention(query.float(), key.float()), logits.float(), self.mix_at)
        one = targets.new_ones(1)
        return Taught({name: Target(t[None], one) for name, t in zip(self.peers, targets, strict=True)}, losses={})


class Group(Teacher):
    """Teaches the leader the plain mean of the peers, of their logits or, with ``mix_at``, of their probabilities."""

    def __init__(self, peers: list[str], leader: str, mix_at: float | None = None) -> None:
        super().__init__()
        self.peers = peers
        self.leader = leader
        self.mix_at = mix_at

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        logits = torch.stack([outputs[name].logits for name in self.peers]).float()
        equal = logits.new_zeros(1, len(self.peers), 1).log_softmax(dim=1)
        return Taught({self.leader: Target(mix(equal, logits, self.mix_at), logits.new_ones(1))}, losses={})


def okddip(
    shapes: Mapping[str, StudentShape],
    *,
    leader: str | None = None,
    temperature: PositiveFloat = 3.0,
    width: PositiveInt = 8,
    ramp: Share = 0.27,
    shared_trunk: bool = True,
    through_target: bool = True,
    aggregate: Literal["logits", "probabilities"] = "logits",
) -> Method:
    """Diverse peers: attention gives each peer its own target, a leader learns from all (AAAI 2020, arXiv:1912.00350).

    leader: the student that learns from all peers and teaches none; None is the last. temperature: of the KLs.
    width: of the queries and keys. ramp: fraction of training over which the links grow to full weight; 0 is none.
    shared_trunk: students share all but their last stage; False gives each a network of its own, of any architecture.
    through_target: the KLs train the peers that the target comes from, too, as in the authors' code; False trains the
    learner and the attention only. aggregate: what the targets mix: the peers' logits, as in the authors' code, or
    their probabilities, softened by the temperature.
    """
    leader = list(shapes)[-1] if leader is None else leader
    if leader not in shapes:
        raise unknown("leader", leader, shapes)
    if len(shapes) < 3:
        raise UserError(
            f"OKDDip needs three students or more: a leader and two peers that attend to each other, got {len(shapes)}."
        )
    peers = {name: shape for name, shape in shapes.items() if name != leader}
    mix_at = temperature if aggregate == "probabilities" else None
    kl = KL(temperature)
    attending = DiversePeers(peers, width=width, through_target=through_target, mix_at=mix_at)
    return Method(
        lessons={
            # Always through the target, or nothing would train the attention; the teacher itself keeps the peers out.
            "peers": Lesson(attending, {"kl": kl}, through_target=True),
            "group": Lesson(Group(list(peers), leader, mix_at), {"kl": kl}, through_target=through_target),
        },
        weights={"*/ce": 1.0, "*/peers_kl": Ramp(1.0, over=ramp), "*/group_kl": Ramp(1.0, over=ramp)},
        shared_trunk=shared_trunk,
    )
