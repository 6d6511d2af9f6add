"""Where the CPM looks and what comes from whom, against the module itself."""

import pytest
import torch
from test_cpm import THREE, TWO, random_outputs

from codistill.methods.cpm import CollaborativeProcessing, attend, others_mean
from codistill.methods.cpm_maps import attention_weights, cpm_maps
from codistill.methods.reliability import Reliability


def built(shapes: dict, **settings: object) -> CollaborativeProcessing:
    torch.manual_seed(0)
    return CollaborativeProcessing(shapes, **settings).eval()  # type: ignore[arg-type]


def test_the_attention_weights_are_those_by_which_the_module_weighs_its_values() -> None:
    query, key, value = torch.randn(3, 2, 5, 8)
    weights = attention_weights(query, key, heads=4)
    attended = (weights @ value.unflatten(-1, (4, 2)).transpose(1, 2)).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attended, attend(query, key, value, heads=4))


@pytest.mark.parametrize("shapes", [TWO, THREE])
def test_attention_sums_to_one_over_positions_and_contributions_over_students(shapes: dict) -> None:
    cpm = built(shapes)
    with torch.no_grad():
        maps = cpm_maps(cpm, random_outputs(shapes, batch=3))
    assert list(maps.attention) == list(maps.contribution) == list(shapes)
    for attention in maps.attention.values():
        assert attention.shape == (3, *cpm.grid)
        torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(3))
    torch.testing.assert_close(sum(maps.contribution.values()), torch.ones(3, *cpm.grid))


def test_the_attention_on_a_student_is_asked_by_the_others() -> None:
    cpm, outputs = built(THREE), random_outputs(THREE)
    with torch.no_grad():
        tokens = {name: cpm.branches[name].tokens(outputs[name].feature_maps[-1]) for name in THREE}
        queries = torch.stack([cpm.branches[name].query(tokens[name]) for name in THREE])
        key = cpm.branches["b"].key_value(tokens["b"])[..., : cpm.width]
        expected = attention_weights(others_mean(queries)[1], key, cpm.heads).mean(dim=(1, 2)).view(2, *cpm.grid)
        torch.testing.assert_close(cpm_maps(cpm, outputs).attention["b"], expected)


def test_the_parts_that_are_weighed_are_those_that_the_fused_map_is_the_sum_of() -> None:
    cpm, outputs = built(TWO), random_outputs(TWO)
    with torch.no_grad():
        mixed = cpm.mix(outputs).mixed
        alone = {}
        for i, name in enumerate(TWO):
            masked = torch.zeros_like(mixed)
            masked[:, i * cpm.width : (i + 1) * cpm.width] = mixed[:, i * cpm.width : (i + 1) * cpm.width]
            alone[name] = cpm.pointwise[0](masked)
        torch.testing.assert_close(sum(alone.values()), cpm.pointwise[0](mixed))
        total = sum(part.norm(dim=1) for part in alone.values())
        torch.testing.assert_close(cpm_maps(cpm, outputs).contribution["a"], alone["a"].norm(dim=1) / total)


def test_a_student_that_nobody_trusts_contributes_nothing() -> None:
    reliability = Reliability(list(TWO), sharpness=1000.0)
    reliability.running_ce.copy_(torch.tensor([0.1, 5.0]))
    with torch.no_grad():
        maps = cpm_maps(built(TWO, reliability=reliability), random_outputs(TWO))
    assert maps.trust == {"a": 1.0, "b": 0.0}
    assert maps.contribution["b"].abs().max() == 0
