"""Flat parameters and their Adam, against modules and torch.optim.Adam."""

import copy

import pytest
import torch as th
from torch import nn

from pyrl_sb3.algorithms.flat import FlatAdam, FlatParameters

CLOSE = {"rtol": 0, "atol": 1e-12}


def pair(**options: float) -> tuple[nn.Module, nn.Module, th.optim.Adam, th.optim.Adam]:
    """Two equal modules of two equal networks each, and an Adam for each."""
    th.manual_seed(0)
    ours = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]).double()
    theirs = copy.deepcopy(ours)
    return (
        ours,
        theirs,
        th.optim.Adam(ours.parameters(), **options),
        th.optim.Adam(theirs.parameters(), **options),
    )


def flatten(module: nn.Module) -> FlatParameters:
    return FlatParameters([list(net.parameters()) for net in module.children()])


def step_both(flat: FlatParameters, adam: FlatAdam, theirs: nn.Module, optimizer) -> None:
    for view, parameter in zip(flat.views(flat.grad), theirs.parameters(), strict=True):
        parameter.grad = th.randn_like(parameter)
        view.copy_(parameter.grad)
    adam.descend()
    optimizer.step()


def assert_same(ours: nn.Module, theirs: nn.Module, a, b) -> None:
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        th.testing.assert_close(p, q, **CLOSE)
        for name in ("step", "exp_avg", "exp_avg_sq"):
            actual, expected = a.state[p][name], b.state[q][name]
            th.testing.assert_close(actual, expected, check_dtype=False, **CLOSE)


OPTIONS = pytest.mark.parametrize(
    "options", [{"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}]
)


@OPTIONS
def test_steps_are_adams(options) -> None:
    ours, theirs, a, b = pair(**options)
    flat = flatten(ours)
    adam = FlatAdam(flat, a)
    for _ in range(5):
        step_both(flat, adam, theirs, b)
        a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = options["lr"] / 2
    assert_same(ours, theirs, a, b)


def test_moments_are_taken_over_from_an_optimizer_in_use() -> None:
    ours, theirs, a, b = pair(lr=0.1)
    for module, optimizer in ((ours, a), (theirs, b)):
        th.manual_seed(1)
        for p in module.parameters():
            p.grad = th.randn_like(p)
        optimizer.step()
    flat = flatten(ours)
    step_both(flat, FlatAdam(flat, a), theirs, b)
    assert_same(ours, theirs, a, b)


def test_the_optimizers_own_step_can_take_turns_with_ours() -> None:
    ours, theirs, a, b = pair(lr=0.1)
    flat = flatten(ours)
    adam = FlatAdam(flat, a)
    for _ in range(2):
        step_both(flat, adam, theirs, b)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = q.grad = th.randn_like(p)
        a.step()
        b.step()
    assert_same(ours, theirs, a, b)
    assert adam.attached()


def test_state_dict_is_read_by_adam_and_back(tmp_path) -> None:
    ours, theirs, a, b = pair(lr=0.1)
    flat = flatten(ours)
    adam = FlatAdam(flat, a)
    for _ in range(3):
        step_both(flat, adam, theirs, b)
    th.save(a.state_dict(), tmp_path / "adam.pt")
    other = copy.deepcopy(theirs)
    stock = th.optim.Adam(other.parameters())
    stock.load_state_dict(th.load(tmp_path / "adam.pt"))
    for p, q in zip(other.parameters(), theirs.parameters(), strict=True):
        p.grad = q.grad = th.randn_like(p)
    stock.step()
    b.step()
    assert_same(other, theirs, stock, b)

    a.load_state_dict(stock.state_dict())
    ours.load_state_dict(other.state_dict())
    assert not adam.attached()
    adam = FlatAdam(flat, a)
    step_both(flat, adam, theirs, b)
    assert_same(ours, theirs, a, b)


@pytest.mark.parametrize("value", [0, 0.0, th.tensor(0.0)], ids=["int", "float", "tensor"])
def test_steps_that_are_set_back_are_counted_from_there(value) -> None:
    ours, theirs, a, b = pair(lr=0.1)
    flat = flatten(ours)
    adam = FlatAdam(flat, a)
    step_both(flat, adam, theirs, b)
    assert adam.attached()
    last, its_last = list(ours.parameters())[-1], list(theirs.parameters())[-1]
    a.state[last]["step"], b.state[its_last]["step"] = value, th.tensor(0.0)
    assert not adam.attached()
    adam = FlatAdam(flat, a)
    step_both(flat, adam, theirs, b)
    assert_same(ours, theirs, a, b)
    assert adam.attached()


def test_parameters_are_views_until_they_are_moved() -> None:
    ours, *_ = pair(lr=0.1)
    before = [p.clone() for p in ours.parameters()]
    flat = flatten(ours)
    assert flat.data.shape == (2, 8)
    assert all(th.equal(p, q) for p, q in zip(ours.parameters(), before, strict=True))
    ours.load_state_dict({name: value + 1 for name, value in ours.state_dict().items()})
    assert flat.attached()
    assert th.equal(flat.data[1, :6], before[2].flatten() + 1)
    ours.float()
    assert not flat.attached()


def test_networks_of_different_shapes_are_refused() -> None:
    networks = [list(nn.Linear(2, width).parameters()) for width in (2, 3)]
    with pytest.raises(ValueError, match="same shapes"):
        FlatParameters(networks)
