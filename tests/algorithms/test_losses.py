"""The equations against numbers worked out by hand, and their gradients against autograd."""

import pytest
import torch as th

from pyrl_sb3 import discrete_losses, losses


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
    with pytest.raises(ValueError, match=r"dones is \(3,\), must be \(3, 1\)"):
        losses.td_target(rewards, flat, 0.9, Q)
    with pytest.raises(ValueError, match="expected one column"):
        losses.td_target(flat, flat, 0.9, Q)
    with pytest.raises(ValueError, match="q is"):
        losses.critic_loss(Q[:, :2], rewards)
    with pytest.raises(ValueError, match="next_log_prob is"):
        losses.soft_td_target(rewards, rewards, 0.9, Q, flat, flat)
    with pytest.raises(ValueError, match="noise is"):
        losses.smoothed_action(th.zeros(3, 2), th.zeros(3, 1), 0.5)


FLAT, ROWS = th.zeros(3), th.zeros(3, 1)
CRITICS, ACTIONS = th.zeros(2, 3, 1), th.zeros(3, 3)


@pytest.mark.parametrize(
    ("equation", "arguments", "message"),
    [
        (
            "td_target",
            (ROWS, ROWS, FLAT, CRITICS),
            r"gamma is \(3,\), must be a number or \(3, 1\)",
        ),
        ("td_target", (ROWS, ROWS, ROWS.T, CRITICS), "gamma is"),
        ("td_target", (ROWS, ROWS, 0.9, ROWS), r"next_q is \(3, 1\), must be \(N, 3, 1\)"),
        ("td_target", (ROWS, CRITICS, 0.9, CRITICS), r"dones is \(2, 3, 1\), must be \(3, 1\)"),
        ("soft_td_target", (ROWS, ROWS, FLAT, CRITICS, 0.1, ROWS), "gamma is"),
        (
            "soft_td_target",
            (ROWS, ROWS, 0.9, CRITICS, FLAT, ROWS),
            r"alpha is \(3,\), must be a number or \(1,\)",
        ),
        ("critic_loss", (th.zeros(3, 2, 3, 1), ROWS), r"q is \(3, 2, 3, 1\)"),
        ("critic_loss", (ROWS, ROWS), "q is"),
        ("critic_loss", (CRITICS, ROWS, CRITICS), r"weights is \(2, 3, 1\), must be \(3, 1\)"),
        ("critic_gradient", (ROWS, ROWS), "q is"),
        ("critic_gradient", (CRITICS, ROWS, CRITICS), "weights is"),
        ("soft_policy_loss", (CRITICS, FLAT, ROWS), "alpha is"),
        ("soft_policy_loss", (ROWS, 0.1, ROWS), "q is"),
        ("soft_policy_gradient", (CRITICS, FLAT, ROWS), "alpha is"),
        ("soft_policy_gradient", (ROWS, th.ones(1), ROWS), "q is"),
        ("deterministic_policy_loss", (CRITICS,), r"q is \(2, 3, 1\), must be \(1, B, 1\)"),
        ("deterministic_policy_gradient", (CRITICS,), "q is"),
        ("deterministic_policy_gradient", (ROWS,), "q is"),
        ("temperature_loss", (FLAT, ROWS, -1.0), "log_alpha is"),
        ("temperature_loss", (th.zeros(1), FLAT, -1.0), r"expected one column.* not \(3,\)"),
        ("temperature_gradient", (ACTIONS, -1.0), r"expected one column.* not \(3, 3\)"),
        ("clipped_to_sparse_returns", (CRITICS, ROWS), r"gamma is \(3, 1\), must be a number"),
        ("q_filter", (ROWS, ROWS), r"demo_q is \(3, 1\), must have 3 axes"),
        ("cloning_loss", (th.zeros(1, 2), th.zeros(1, 2), ROWS), r"actions is \(1, 2\)"),
        ("cloning_gradient", (FLAT, FLAT, ROWS), r"actions is \(3,\)"),
        ("q_learning_target", (ROWS, ROWS, FLAT, ACTIONS, ACTIONS), "gamma is"),
        ("q_learning_target", (ROWS, ROWS, 0.9, FLAT, FLAT), "next_q is"),
        ("huber_loss", (CRITICS, ROWS), "q is"),
        ("q_learning_target", (ROWS, FLAT, 0.9, ACTIONS, ACTIONS), "dones is"),
        ("expected_soft_value", (ACTIONS, FLAT, ACTIONS), "alpha is"),
        ("expected_soft_value", (CRITICS, 0.1, CRITICS), r"q is \(2, 3, 1\), must have 2 axes"),
        ("policy_entropy", (FLAT,), r"log_pi is \(3,\), must have 2 axes"),
        ("policy_entropy", (CRITICS,), "log_pi is"),
        ("clipped_critic_loss", (CRITICS, ROWS, ROWS, 0.5), "target_q is"),
        ("clipped_critic_loss", (ROWS, ROWS, ROWS, 0.5), "q is"),
        ("clipped_critic_loss", (CRITICS, CRITICS, ROWS, 0.5, FLAT), "weights is"),
    ],
)
def test_each_equation_refuses_shapes_that_broadcasting_would_hide(equation, arguments, message):
    function = getattr(losses, equation, None) or getattr(discrete_losses, equation)
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("alpha", [0.5, th.tensor(0.5), th.tensor([0.5])])
@pytest.mark.parametrize("gamma", [0.5, th.tensor(0.5), th.full((3, 1), 0.5)])
def test_a_temperature_or_a_discount_may_be_a_number(alpha, gamma):
    y = losses.soft_td_target(ROWS, ROWS, gamma, CRITICS, alpha, th.ones(3, 1))
    assert y.flatten().tolist() == [-0.25] * 3


def test_the_discount_of_clipped_returns_may_be_a_tensor_of_one_number():
    q = th.tensor([[[3.0], [-30.0], [-1.5]]])
    clipped = losses.clipped_to_sparse_returns(q, th.tensor(0.5))
    assert clipped.flatten().tolist() == [0, -2, -1.5]


class TestDiscreteActions:
    """Two states, two actions, numbers worked out by hand."""

    next_q = th.tensor([[1.0, 3.0], [2.0, 0.0]])

    def test_q_learning_takes_the_best_value(self) -> None:
        r, d = th.tensor([[1.0], [1.0]]), th.tensor([[0.0], [1.0]])
        y = discrete_losses.q_learning_target(r, d, 0.5, self.next_q, self.next_q)
        assert y.tolist() == [[2.5], [1.0]]

    def test_double_q_learning_values_another_networks_choice(self) -> None:
        r, d = th.zeros(2, 1), th.zeros(2, 1)
        choosing = th.tensor([[5.0, 4.0], [-2.0, -1.0]])
        y = discrete_losses.q_learning_target(r, d, 0.5, self.next_q, choosing)
        assert y.tolist() == [[0.5], [0.0]]
        with pytest.raises(ValueError, match="choosing_q"):
            discrete_losses.q_learning_target(r, d, 0.5, self.next_q, choosing[:, :1])

    def test_huber_is_a_parabola_near_zero_and_a_line_further_off(self) -> None:
        q, y = th.tensor([[0.5], [3.0]]), th.zeros(2, 1)
        assert discrete_losses.huber_loss(q, y).item() == (0.125 + 2.5) / 2
        assert discrete_losses.huber_loss(q, y, th.tensor([[2.0], [0.0]])).item() == 0.125
        with pytest.raises(ValueError, match="one column"):
            discrete_losses.huber_loss(q.flatten(), y.flatten())

    def test_the_soft_value_is_an_expectation(self) -> None:
        log_pi = th.tensor([[0.25, 0.75]]).log()
        q = th.tensor([[4.0, 8.0]])
        value = discrete_losses.expected_soft_value(q, th.tensor(2.0), log_pi)
        # 0.25 * 4 + 0.75 * 8 + 2 * H, H = 0.25 ln 4 + 0.75 ln (4/3) = 0.562335
        assert value.item() == pytest.approx(7 + 2 * 0.562335, abs=1e-5)
        assert discrete_losses.policy_entropy(log_pi).item() == pytest.approx(0.562335, abs=1e-5)
        with pytest.raises(ValueError, match="log_pi is"):
            discrete_losses.expected_soft_value(q, th.tensor(2.0), log_pi.T)

    def test_the_entropy_penalty_is_half_the_squared_change(self) -> None:
        uniform, other = th.tensor([[0.5, 0.5]]).log(), th.tensor([[0.25, 0.75]]).log()
        # (ln 2 - 0.562335)^2 / 2
        assert discrete_losses.entropy_penalty(other, uniform).item() == pytest.approx(
            0.0085559, abs=1e-6
        )
        assert discrete_losses.entropy_penalty(other, other).item() == 0

    def test_the_clipped_loss_stops_at_the_distance(self) -> None:
        q = th.tensor([[[2.0]]], requires_grad=True)
        target, y = th.tensor([[[1.0]]]), th.tensor([[3.0]])
        # Half a unit from the target is 1.5, which is 1.5 from y: more than 2.0 is.
        loss = discrete_losses.clipped_critic_loss(q, target, y, 0.5, scale=0.5)
        assert loss.item() == 0.5 * 1.5**2
        (gradient,) = th.autograd.grad(loss, q)
        assert gradient.item() == 0
        # Within the distance it is the usual loss, and away from y it is too.
        assert discrete_losses.clipped_critic_loss(q, target, y, 2.0).item() == 1.0
        assert discrete_losses.clipped_critic_loss(q, target, th.zeros(1, 1), 0.5).item() == 4.0

    def test_the_clipped_loss_sums_over_critics_and_averages_over_rows(self) -> None:
        q, target = column(1, 3), column(1, 0)
        q, target = th.stack([q, column(2, 0)]), th.stack([target, column(2, 0)])
        y = column(0, 4)
        # squared errors 1, (0.5 - 4)^2 in the place of (3 - 4)^2, and 4, 16
        loss = discrete_losses.clipped_critic_loss(q, target, y, 0.5, scale=0.5)
        assert loss.item() == (1 + 3.5**2 + 4 + 16) / 4
        loss = discrete_losses.clipped_critic_loss(q, target, y, 0.5, column(2, 0.25))
        assert loss.item() == (2 * (1 + 4) + 0.25 * (3.5**2 + 16)) / 2
