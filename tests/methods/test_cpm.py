"""The Collaborative Processing Module against loops over positions."""

import pytest
import references
import torch
from cohorts import CLASSES, make_batch, make_cohort

from codistill import StudentOutput, StudentShape
from codistill.errors import UserError
from codistill.methods.cpm import CollaborativeProcessing, attend, others_mean
from codistill.methods.reliability import Reliability


def random_outputs(shapes: dict[str, StudentShape], batch: int = 2) -> dict[str, StudentOutput]:
    return {
        name: StudentOutput(
            torch.randn(batch, shape.num_classes),
            torch.randn(batch, shape.embedding),
            tuple(torch.randn(batch, *size) for size in shape.feature_maps),
        )
        for name, shape in shapes.items()
    }


TWO = {"a": StudentShape(CLASSES, 8, ((8, 2, 2),)), "b": StudentShape(CLASSES, 12, ((12, 4, 4),))}
THREE = {**TWO, "c": StudentShape(CLASSES, 8, ((16, 2, 2),))}


def literal_fuse(cpm: CollaborativeProcessing, outputs: dict[str, StudentOutput], trust: list[float]) -> torch.Tensor:
    """z_t, written position by position from the formula in codistill/methods/cpm.py."""
    rows, columns = cpm.grid
    tokens = []
    for name in cpm.students:
        branch, feature_map = cpm.branches[name], outputs[name].feature_maps[-1]
        step = feature_map.shape[-1] // columns
        own = torch.zeros(len(feature_map), rows * columns, cpm.width)
        for b in range(len(feature_map)):
            for p in range(rows * columns):
                y, x = divmod(p, columns)
                cell = feature_map[b, :, y * step : (y + 1) * step, x * step : (x + 1) * step]
                projected = branch.project.weight[:, :, 0, 0] @ cell.flatten(1).mean(dim=1)
                own[b, p] = references.layer_norm(projected, branch.token_norm.weight, branch.token_norm.bias)
        tokens.append(own)
    queries = [own @ cpm.branches[name].query.weight.T for name, own in zip(cpm.students, tokens, strict=True)]
    improved = []
    for i, name in enumerate(cpm.students):
        branch = cpm.branches[name]
        others = [trust[j] * queries[j] for j in range(len(queries)) if j != i]
        seen = sum(others) / len(others)
        key_weight, value_weight = branch.key_value.weight.chunk(2)
        attended = references.attention(seen, tokens[i] @ key_weight.T, tokens[i] @ value_weight.T, cpm.heads)
        a, b, c, e = branch.scales.tolist()
        s = a * tokens[i] + b * attended
        norm, first, _, second = branch.mlp
        rows_of_s = [references.layer_norm(row, norm.weight, norm.bias) for row in s.flatten(0, 1)]
        normed = torch.stack(rows_of_s).view_as(s)
        improved.append(c * s + e * second(torch.nn.functional.gelu(first(normed))))
    joined = torch.cat(improved, dim=-1).transpose(1, 2).reshape(len(tokens[0]), -1, rows, columns)
    mixed = cpm.depthwise(joined)
    weighted = [trust[i] * part for i, part in enumerate(mixed.split(cpm.width, dim=1))]
    return cpm.classifier(cpm.pointwise(torch.cat(weighted, dim=1)).flatten(2).mean(dim=2))


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_the_literal_one(heads: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 5, 8)
    torch.testing.assert_close(
        attend(query, key, value, heads), references.attention(query, key, value, heads), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("grid", "maps", "common"),
    [
        (2, ((8, 4, 4), (12, 8, 8)), (2, 2)),
        (3, ((8, 4, 4), (12, 8, 8)), (3, 3)),
        (None, ((8, 4, 4), (12, 8, 8)), (4, 4)),
        (2, ((8, 1, 1), (12, 8, 8)), (1, 1)),
        (2, ((8, 1, 3), (12, 4, 4)), (1, 2)),
    ],
)
def test_it_works_on_the_smallest_map_and_on_no_more_positions_than_the_grid_has(
    grid: int | None, maps: tuple[tuple[int, int, int], ...], common: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    shapes = {name: StudentShape(CLASSES, 8, (own,)) for name, own in zip("ab", maps, strict=True)}
    cpm = CollaborativeProcessing(shapes, grid=grid)
    assert cpm.grid == common
    outputs = random_outputs(shapes)
    tokens = cpm.branches["b"].tokens(outputs["b"].feature_maps[-1])
    assert tokens.shape == (2, common[0] * common[1], cpm.width)


def test_a_map_averaged_before_it_is_projected_is_what_it_was_averaged_after() -> None:
    torch.manual_seed(0)
    branch = CollaborativeProcessing(TWO).branches["b"]
    feature_map = torch.randn(3, 12, 4, 4)
    after = torch.nn.functional.adaptive_avg_pool2d(branch.project(feature_map), (2, 2))
    expected = branch.token_norm(after.flatten(2).transpose(1, 2))
    torch.testing.assert_close(branch.tokens(feature_map), expected, atol=1e-5, rtol=0)


def test_what_the_others_ask_for_is_their_mean() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert others_mean(values).tolist() == [4.0, 3.5, 1.5]


@pytest.mark.parametrize("shapes", [TWO, THREE], ids=["two students", "three students"])
def test_the_answer_is_the_literal_one_for_students_of_different_shapes(shapes: dict[str, StudentShape]) -> None:
    torch.manual_seed(0)
    trust = Reliability(list(shapes), sharpness=1.0)
    trust.running_ce.copy_(torch.tensor([0.3, 1.0, 0.5][: len(shapes)]))
    cpm = CollaborativeProcessing(shapes, heads=2, reliability=trust).eval()
    for parameter in cpm.parameters():  # none at a special value
        torch.nn.init.normal_(parameter, 0.5, 0.3)
    outputs = random_outputs(shapes)
    with torch.no_grad():
        expected = literal_fuse(cpm, outputs, [float(w) for w in trust.weights().values()])
        torch.testing.assert_close(cpm.predict(outputs), expected, atol=1e-5, rtol=1e-5)


def test_a_student_without_any_reliability_changes_nothing_in_the_answer() -> None:
    trust = Reliability(["a", "b"], sharpness=1.0)
    trust.running_ce.copy_(torch.tensor([0.0, 1000.0]))
    cpm = CollaborativeProcessing(TWO, reliability=trust).eval()
    before = random_outputs(TWO)
    after = {**before, "b": random_outputs(TWO)["b"]}
    torch.testing.assert_close(cpm.predict(before), cpm.predict(after))
    after = {**before, "a": random_outputs(TWO)["a"]}
    assert not torch.allclose(cpm.predict(before), cpm.predict(after))


def test_reliability_falls_with_the_own_running_loss_and_stays_put_in_evaluation() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "resnet8"}, method="collaborative")
    trust = cohort.teachers["reliability"]
    assert isinstance(trust, Reliability)
    with torch.no_grad():
        cohort.students["b"].classifier.bias.copy_(torch.tensor([50.0, 0, 0, 0, 0]))  # always class 0, and sure of it
    cohort.eval()
    cohort(make_batch())
    assert trust.running_ce.tolist() == [0.0, 0.0]
    cohort.train()
    for _ in range(20):
        cohort(make_batch())
    weights = trust.weights()
    assert weights["a"] == 1.0
    assert weights["b"] < 0.1


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of its 4 heads, got 6"):
        CollaborativeProcessing(TWO, width=6)
