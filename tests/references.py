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


def clipped(gradients: dict[str, Tensor], most: float) -> dict[str, Tensor]:
    """Gradients by parameter name, shortened to norm ``most`` by student, by task of a student and by teacher."""

    def owner(name: str) -> str:
        return ".".join(name.split(".")[: 3 if name.startswith("tasks.") else 2])

    squares: dict[str, float] = {}
    for name, gradient in gradients.items():
        squares[owner(name)] = squares.get(owner(name), 0.0) + gradient.double().square().sum().item()
    shares = {own: min(1.0, most / (math.sqrt(square) + 1e-6)) for own, square in squares.items()}
    return {name: shares[owner(name)] * gradient for name, gradient in gradients.items()}


def cross_entropy(logits: Tensor, labels: list[int]) -> float:
    rows = [softmax(row) for row in logits.tolist()]
    return -sum(math.log(row[label]) for row, label in zip(rows, labels, strict=True)) / len(labels)


def joint_cross_entropy(logits_by_turn: list[Tensor], labels: list[int]) -> float:
    """Cross-entropy over P K joint labels P y + p (4 y + r for turns), mean over all images at all turns."""
    losses = [
        -math.log(softmax(row)[len(logits_by_turn) * label + turn])
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


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    z = [*first.tolist(), *second.tolist()]
    count = len(first)
    losses = []
    for i in range(2 * count):
        other = i + count if i < count else i - count
        similar = {k: math.exp(cosine(z[i], z[k]) / temperature) for k in range(2 * count) if k != i}
        losses.append(-math.log(similar[other] / sum(similar.values())))
    return sum(losses) / len(losses)


def jigsaw(image: Tensor, permutation: list[int], grid: int) -> Tensor:
    """One image (C, H, W), pixel by pixel; what the grid leaves over around the centre is 0."""
    _, height, width = image.shape
    h, w = height // grid, width // grid
    top, left = (height - grid * h) // 2, (width - grid * w) // 2
    out = torch.zeros_like(image)
    for y in range(grid * h):
        for x in range(grid * w):
            tile = permutation[(y // h) * grid + x // w]
            from_y, from_x = (tile // grid) * h + y % h, (tile % grid) * w + x % w
            out[:, top + y, left + x] = image[:, top + from_y, left + from_x]
    return out


def hidden_cells(draw: int, count: int) -> list[int]:
    """The cells, 0 to 15, for which Park and Miller's generator, started at the draw, gives the smallest numbers."""
    state, numbers = draw % (2**31 - 2) + 1, []
    for _ in range(16):
        state = 16807 * state % (2**31 - 1)
        numbers.append(state)
    return sorted(sorted(range(16), key=lambda cell: numbers[cell])[:count])


def mean_squared_error(decoded: Tensor, images: Tensor) -> float:
    pairs = list(zip(decoded.flatten().tolist(), images.flatten().tolist(), strict=True))
    return sum((a - b) ** 2 for a, b in pairs) / len(pairs)


def linear_cka(x: Tensor, y: Tensor) -> float:
    """HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) of the linear kernels, each centred as H K H with H = I - 1/n."""

    def centred_kernel(z: list[list[float]]) -> list[list[float]]:
        n = len(z)
        kernel = [[sum(a * b for a, b in zip(u, v, strict=True)) for v in z] for u in z]
        rows = [sum(row) / n for row in kernel]
        return [[kernel[i][j] - rows[i] - rows[j] + sum(rows) / n for j in range(n)] for i in range(n)]

    def hsic(k: list[list[float]], other: list[list[float]]) -> float:
        return sum(a * b for u, v in zip(k, other, strict=True) for a, b in zip(u, v, strict=True))

    k, other = centred_kernel(x.tolist()), centred_kernel(y.tolist())
    return hsic(k, other) / math.sqrt(hsic(k, k) * hsic(other, other))
