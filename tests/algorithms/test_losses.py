"""The equations against numbers worked out by hand, and their gradients against autograd."""

import pytest
import torch as th

from pyrl_sb3 import losses


def column(*values: float) -> th.Tensor:
    return th.tensor(values, dtype=th.float64).reshape(-1, 1)


Q = th.stack([column(1.0, 5.0, -2.0), column(3.0, 4.0, -2.5)])  # (2, 3, 1)


def test_td_target_takes_the_smaller_critic_and_stops_at_the_end() -> None:
    y = losses.td_target(column(1, 2, 3), column(0, 1, 0), 0.5, Q)
    assert y.flatten().tolist() == [1 + 0.5 * 1, 2, 3 + 0.5 * -2.5]


def test_td_target_takes_one_discount_per_row() -> None:
    y = losses.td_target(column(0, 0, 0), column(0, 0, 0), column(1, 0.5, 0.1), Q)
    assert y.flatten().tolist() == pytest.approx([1, 2, -0.25])


def test_soft_td_target_adds_the_entropy() -> None:
    alpha, log_prob = th.tensor([0.5], dtype=th.float64), column(-2, 1, 4)
    y = losses.soft_td_target(column(1, 1, 1), column(0, 0, 1), 0.9, Q, alpha, log_prob)
    assert y.flatten().tolist() == pytest.approx([1 + 0.9 * (1 + 1), 1 + 0.9 * (4 - 0.5), 1])


def test_smoothed_action_clips_the_noise_and_then_the_action() -> None:
    actions = th.tensor([[0.0, 0.9, -0.9]])
    noise = th.tensor([[2.0, 0.3, -0.05]])
    smoothed = losses.smoothed_action(actions, noise, clip=0.5)
    assert smoothed.flatten().tolist() == pytest.approx([0.5, 1.0, -0.95])


def test_critic_loss_sums_over_critics_and_averages_over_rows() -> None:
    y = column(1, 4, -2)
    # squared errors 0, 1, 0 and 4, 0, 0.25
    assert losses.critic_loss(Q, y) == pytest.approx((1 + 4.25) / 3)
    assert losses.critic_loss(Q, y, scale=0.5) == pytest.approx((1 + 4.25) / 6)
    assert losses.critic_loss(Q, y, column(1, 0, 2)) == pytest.approx((4 + 0.5) / 3)


def test_soft_policy_loss() -> None:
    alpha = th.tensor([0.1], dtype=th.float64)
    loss = losses.soft_policy_loss(Q, alpha, column(1, 2, 3))
    assert loss == pytest.approx((0.1 - 1 + 0.2 - 4 + 0.3 + 2.5) / 3)


def test_deterministic_policy_loss() -> None:
    assert losses.deterministic_policy_loss(Q[:1]) == pytest.approx(-4 / 3)


def test_temperature_rises_when_entropy_is_below_its_target() -> None:
    # entropy -mean(log pi) = -1 is below the target 2: the gradient is negative
    gradient = losses.temperature_gradient(column(0, 1, 2), target_entropy=2.0)
    assert gradient == pytest.approx(-3)
    log_alpha = th.tensor([0.5], dtype=th.float64)
    assert losses.temperature_loss(log_alpha, column(0, 1, 2), 2.0) == pytest.approx(-1.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_critics", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_critic_gradient_is_autograds(weighted: bool, n_critics: int, scale: float) -> None:
    th.manual_seed(0)
    q = th.randn(n_critics, 7, 1, dtype=th.float64, requires_grad=True)
    y, w = th.randn(7, 1, dtype=th.float64), th.rand(7, 1, dtype=th.float64)
    arguments = (q, y, w if weighted else None, scale)
    (expected,) = th.autograd.grad(losses.critic_loss(*arguments), q)
    th.testing.assert_close(losses.critic_gradient(*arguments), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n_critics", [1, 2, 5])
def test_policy_gradients_are_autograds(n_critics: int) -> None:
    th.manual_seed(0)
    q = th.randn(n_critics, 7, 1, dtype=th.float64, requires_grad=True)
    log_prob = th.randn(7, 1, dtype=th.float64, requires_grad=True)
    alpha = th.tensor([0.3], dtype=th.float64)
    expected = th.autograd.grad(losses.soft_policy_loss(q, alpha, log_prob), (q, log_prob))
    actual = losses.soft_policy_gradient(q, alpha, log_prob)
    th.testing.assert_close(actual, expected, rtol=0, atol=1e-14)

    (expected_q,) = th.autograd.grad(losses.deterministic_policy_loss(q[:1]), q)
    actual_q = losses.deterministic_policy_gradient(q[:1])
    th.testing.assert_close(actual_q, expected_q[:1], rtol=0, atol=1e-14)


def test_temperature_gradient_is_autograds() -> None:
    log_alpha = th.tensor([0.2], dtype=th.float64, requires_grad=True)
    log_prob = column(0.5, -1.0, 2.0)
    loss = -(log_alpha * (log_prob + 1.5)).mean()
    assert losses.temperature_loss(log_alpha, log_prob, 1.5).item() == pytest.approx(loss.item())
    (expected,) = th.autograd.grad(loss, log_alpha)
    assert losses.temperature_gradient(log_prob, 1.5).item() == pytest.approx(expected.item())


def test_shapes_that_would_broadcast_are_refused() -> None:
    rewards, flat = column(1, 2, 3), th.zeros(3, dtype=th.float64)
    with pytest.raises(ValueError, match=r"dones is \(3,\), its last axes must be \(3, 1\)"):
        losses.td_target(rewards, flat, 0.9, Q)
    with pytest.raises(ValueError, match="expected one column"):
        losses.td_target(flat, flat, 0.9, Q)
    with pytest.raises(ValueError, match="q is"):
        losses.critic_loss(Q[:, :2], rewards)
    with pytest.raises(ValueError, match="next_log_prob is"):
        losses.soft_td_target(rewards, rewards, 0.9, Q, flat, flat)
    with pytest.raises(ValueError, match="noise is"):
        losses.smoothed_action(th.zeros(3, 2), th.zeros(3, 1), 0.5)
