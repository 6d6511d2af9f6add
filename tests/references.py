"""Slow, literal versions of the formulas, written from the papers with loops and Python floats."""

import math

import torch
from torch import Tensor


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def cosine(u: list[float], v: list[float]) -> float:
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return dot / math.sqrt(sum(a * a for a in u)) / math.sqrt(sum(b * b for b in v))


def kl(learner: Tensor, target: Tensor, temperature: float) -> float:
    """T^2 * KL(softmax(target / T) || softmax(learner / T)), mean over the batch."""
    total = 0.0
    for a, b in zip(learner.tolist(), target.tolist(), strict=True):
        q = softmax([value / temperature for value in a])
        p = softmax([value / temperature for value in b])
        total += sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True))
    return temperature**2 * total / len(learner)


def cross_entropy(logits: Tensor, labels: list[int]) -> float:
    rows = [softmax(row) for row in logits.tolist()]
    return -sum(math.log(row[label]) for row, label in zip(rows, labels, strict=True)) / len(labels)


def joint_cross_entropy(logits_by_turn: list[Tensor], labels: list[int]) -> float:
    """Cross-entropy over 4K joint labels 4y + r, mean over all images at all turns."""
    losses = [
        -math.log(softmax(row)[4 * label + turn])
        for turn, logits in enumerate(logits_by_turn)
        for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    return sum(losses) / len(losses)


def find_own_upright(turned_by_view: list[Tensor], upright: Tensor, temperature: float) -> float:
    uprights = upright.tolist()
    losses = []
    for view in turned_by_view:
        for own, projection in enumerate(view.tolist()):
            similar = softmax([cosine(projection, other) / temperature for other in uprights])
            losses.append(-math.log(similar[own]))
    return sum(losses) / len(losses)


def supervised_contrastive(projections: Tensor, labels: list[int], temperature: float) -> float:
    z = projections.tolist()
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if not positives:
            continue
        denominator = sum(math.exp(cosine(z[i], z[a]) / temperature) for a in others)
        terms = [math.log(math.exp(cosine(z[i], z[p]) / temperature) / denominator) for p in positives]
        losses.append(-sum(terms) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention as loops over images, heads and positions: (B, P, d) each -> (B, P, d)."""
    batch, positions, width = query.shape
    size = width // heads
    out = torch.zeros_like(query)
    for b in range(batch):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for p in range(positions):
                scores = [float(query[b, p, part] @ key[b, o, part]) / math.sqrt(size) for o in range(positions)]
                for o, share in enumerate(softmax(scores)):
                    out[b, p, part] += share * value[b, o, part]
    return out


def layer_norm(row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = row - row.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * weight + bias


def ramp(weight: float, over: float, t: float) -> float:
    return weight * math.exp(-5 * (1 - min(t / over, 1)) ** 2)
