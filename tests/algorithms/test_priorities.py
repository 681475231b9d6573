"""The contract with a prioritised replay buffer: weights in, temporal-difference errors back."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import configure

from pyrl_sb3 import algorithms, losses

NAMES = pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])
EITHER_PATH = pytest.mark.parametrize("obstacle", [None, "forced"])


class Weighted(NamedTuple):
    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    dones: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor | None
    weights: th.Tensor
    indices: np.ndarray[Any, Any]


class PrioritizedBuffer(ReplayBuffer):
    """Samples the rows in order; row 0 has weight 0, the others 2."""

    def sample(self, batch_size: int, env: Any = None) -> Any:
        indices = np.arange(batch_size)
        data = self._get_samples(indices)
        weights = th.full((batch_size, 1), 2.0)
        weights[0] = 0
        return Weighted(*data[:5], None, weights, indices)

    def update_priorities(self, indices: Any, td_errors: Any) -> None:
        self.updated = indices, td_errors


def make(name: str, env: Any, spoiled: bool) -> Any:
    model = getattr(algorithms, name)(
        "MlpPolicy",
        env,
        replay_buffer_class=PrioritizedBuffer,
        policy_kwargs={"net_arch": [8]},
        learning_starts=100,
        buffer_size=50,
        seed=0,
    )
    model.learn(20)
    model.set_logger(configure(None, []))
    if spoiled:
        model.replay_buffer.rewards[0] = 1000
    return model


@NAMES
@EITHER_PATH
def test_rows_without_weight_teach_nothing(
    name: str, obstacle: str | None, make_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrl_sb3.algorithms.step.find_obstacle", lambda model: obstacle)
    critics = []
    for spoiled in (False, True):
        model = make(name, make_env(), spoiled)
        before = model.critic.state_dict()["qf0.0.weight"].clone()
        th.manual_seed(0)
        model.train(1, batch_size=10)
        critics.append(model.critic.state_dict())
        assert not th.equal(critics[-1]["qf0.0.weight"], before)
    th.testing.assert_close(critics[0], critics[1], rtol=0, atol=0)


@NAMES
@EITHER_PATH
def test_the_buffer_is_told_how_wrong_the_critics_were(
    name: str, obstacle: str | None, make_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrl_sb3.algorithms.step.find_obstacle", lambda model: obstacle)
    targets = []
    for function in ("td_target", "soft_td_target"):
        original = getattr(losses, function)

        def record(*arguments: Any, original: Any = original) -> th.Tensor:
            targets.append(original(*arguments))
            return targets[-1]

        monkeypatch.setattr(losses, function, record)
    model = make(name, make_env(), spoiled=False)
    data = model.replay_buffer.sample(10)
    with th.no_grad():
        q = th.stack(model.critic(data.observations, data.actions))
    model.train(1, batch_size=10)
    indices, td_errors = model.replay_buffer.updated
    np.testing.assert_array_equal(indices, np.arange(10))
    assert td_errors.shape == (10,)
    expected = (q - targets[0]).abs().mean(dim=0).flatten()
    np.testing.assert_allclose(td_errors, expected, rtol=1e-5)


class Unnumbered(PrioritizedBuffer):
    """Its batches do not say which rows they are of: it remembers what it gave last."""

    def sample(self, batch_size: int, env: Any = None) -> Any:
        return super().sample(batch_size, env)._replace(indices=None)


def test_a_buffer_that_remembers_its_last_batch_needs_no_indices(make_env: Any) -> None:
    model = make("SAC", make_env(), spoiled=False)
    model.replay_buffer.__class__ = Unnumbered
    model.train(1, batch_size=10)
    indices, td_errors = model.replay_buffer.updated
    assert indices is None
    assert td_errors.shape == (10,)
