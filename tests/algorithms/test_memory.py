"""What models hold on to: nothing after they are deleted, and little within a long training."""

import gc
import weakref
from typing import Any

import gymnasium as gym
import pytest
import torch as th

import pyrl_sb3
from pyrl_sb3.algorithms import step


@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG", "DQN", "DiscreteSAC"])
def test_deleted_models_are_gone_at_once(name: str) -> None:
    env = gym.make("CartPole-v1" if name in ("DQN", "DiscreteSAC") else "Pendulum-v1")
    keywords = {"buffer_size": 100, "policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
    there = []
    gc.disable()
    try:
        # PyTorch keeps something of the first optimiser of a process, and so of its model.
        for _ in range(2):
            model = getattr(pyrl_sb3, name)("MlpPolicy", env, **keywords)
            there.append(weakref.ref(model))
            del model
    finally:
        gc.enable()
    assert there[-1]() is None


def test_means_of_many_values_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_MANY", 4)
    metrics, held = step.Metrics(), []
    for i in range(9):
        values: dict[str, Any] = {"actor_loss": th.tensor(float(i)), "critic_loss": th.ones(1)}
        metrics.add(**values) if i % 2 else metrics.add(critic_loss=values["critic_loss"])
        held.append(len(metrics._values))
    assert max(held) < 4
    assert metrics.means() == {"critic_loss": 1.0, "actor_loss": 4.0}
    assert step.Metrics().means() == {}
