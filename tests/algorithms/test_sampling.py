"""Batches drawn here are those that SB3's buffer would have drawn."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from pyrl_sb3 import algorithms
from pyrl_sb3.algorithms.sampling import sample

SPACES = {
    "double": spaces.Box(-1, 1, (3,), np.float64),
    "matrix": spaces.Box(-1, 1, (2, 3), np.float32),
    "image": spaces.Box(0, 255, (1, 4, 4), np.uint8),
}


def filled(kind: type[ReplayBuffer], space: Any, steps: int, **arguments: Any) -> Any:
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    buffer = kind(20, space, action_space, device="cpu", **arguments)
    rng, n_envs = np.random.default_rng(0), buffer.n_envs
    for i in range(steps):
        obs = rng.integers(0, 9, (2, n_envs, *space.shape)).astype(space.dtype)
        action, reward = rng.normal(size=(n_envs, 2)), rng.normal(size=n_envs)
        infos = [{"TimeLimit.truncated": i % 4 == 1}] * n_envs
        buffer.add(obs[0], obs[1], action, reward, np.full(n_envs, i % 2 == 1), infos)
    return buffer


@pytest.mark.parametrize("steps", [7, 25])
@pytest.mark.parametrize(
    ("space", "kind", "arguments"),
    [
        ("double", ReplayBuffer, {}),
        ("matrix", ReplayBuffer, {"n_envs": 3}),
        ("image", ReplayBuffer, {"handle_timeout_termination": False}),
        (
            "double",
            ReplayBuffer,
            {"optimize_memory_usage": True, "handle_timeout_termination": False},
        ),
        ("double", NStepReplayBuffer, {"n_steps": 3}),
    ],
)
def test_batches_are_sb3s(space: str, kind: Any, arguments: dict[str, Any], steps: int) -> None:
    buffer = filled(kind, SPACES[space], steps, **arguments)
    np.random.seed(0)
    expected = [buffer.sample(16) for _ in range(2)]
    np.random.seed(0)
    actual = [sample(buffer, 16, None) for _ in range(2)]
    th.testing.assert_close(actual, expected, rtol=0, atol=0)


class KeepsTensors(ReplayBuffer):
    """Makes a tensor while sampling, and writes into it when a transition is added."""

    drawn: th.Tensor | None = None

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        if self.drawn is None:
            self.drawn = th.zeros(1)
        self.drawn += 1
        return super().sample(*args, **kwargs)

    def add(self, *args: Any) -> None:
        if self.drawn is not None:
            self.drawn += 0
        super().add(*args)


def test_a_buffer_may_change_tensors_it_made_in_training(make_env: Any) -> None:
    """Torch forbids it for tensors that are made in inference mode."""
    model = algorithms.SAC(
        "MlpPolicy",
        make_env(),
        replay_buffer_class=KeepsTensors,
        policy_kwargs={"net_arch": [4]},
        learning_starts=5,
        batch_size=4,
        buffer_size=50,
        device="cpu",
    )
    model.learn(10)
    assert model.gradients == "explicit"
    assert model.replay_buffer.drawn == 5


def test_parameters_trained_without_a_graph_can_have_one(make_env: Any) -> None:
    model = algorithms.TD3("MlpPolicy", make_env(), buffer_size=50, device="cpu")
    model.learn(110)
    model.policy.double()
    model.policy.float()
    model.learn(110)  # lays the parameters out again
    loss = model.actor(th.zeros(2, 5)).sum()
    loss.backward()
    assert model.actor.mu[0].weight.grad is not None
