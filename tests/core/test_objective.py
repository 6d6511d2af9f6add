"""The table of weights."""

import pytest
import references
import torch

from codistill import Objective, Ramp, UserError

LOSSES = {"a/ce": torch.tensor(1.0), "b/ce": torch.tensor(2.0), "a/kl": torch.tensor(4.0)}


def test_the_last_matching_key_wins() -> None:
    objective = Objective({"*": 1.0, "a/*": 10.0, "a/kl": 0.5})
    assert objective(LOSSES).item() == 10 * 1 + 1 * 2 + 0.5 * 4


def test_a_key_that_weighs_nothing_is_an_error_that_suggests_a_loss() -> None:
    with pytest.raises(UserError, match=r"'b/cee'. Did you mean 'b/ce'\?"):
        Objective({"*": 1.0, "b/cee": 0.0}).table(LOSSES)


def test_a_training_loop_that_asks_for_no_table_hears_of_a_key_that_weighs_nothing() -> None:
    with pytest.raises(UserError, match=r"'b/cee'. Did you mean 'b/ce'\?"):
        Objective({"*": 1.0, "b/cee": 0.0})(LOSSES)


def test_a_key_that_later_ones_overrule_is_an_error_unless_it_is_a_default() -> None:
    objective = Objective({"*/ce": 1.0, "a/*": 0.5, "b/ce": 2.0, "*/kl": 3.0})
    objective.check_heard(["a/*", "b/ce", "*/kl"], LOSSES)
    with pytest.raises(UserError, match=r"'\*/ce' in weights changes nothing: 'a/\*' and 'b/ce' below it"):
        objective.check_heard(["*/ce"], LOSSES)


def test_a_loss_that_nothing_weighs_is_an_error() -> None:
    with pytest.raises(UserError, match="No weight for loss 'a/kl'"):
        Objective({"*/ce": 1.0}).table(LOSSES)


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_a_ramp_is_the_literal_formula(progress: float) -> None:
    assert Ramp(2.0, 0.27).at(progress) == pytest.approx(references.ramp(2.0, 0.27, progress))
    assert Ramp(2.0, 0.0).at(progress) == 2.0


def test_the_order_of_losses_and_of_weights_changes_not_one_bit() -> None:
    torch.manual_seed(0)
    losses = {f"{i}/ce": torch.rand(()) for i in range(20)}
    weights = {name: float(torch.rand(())) for name in losses}
    backwards = Objective(dict(reversed(weights.items())))(dict(reversed(losses.items())))
    assert torch.equal(Objective(weights)(losses), backwards)


def test_a_loss_of_weight_zero_stays_in_the_graph_with_zero_gradient() -> None:
    value = torch.ones((), requires_grad=True)
    Objective({"*": 0.0})({"a/ce": value * 3}).backward()
    assert value.grad is not None
    assert value.grad.item() == 0.0
