"""Whether sampled batches are of what was stored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

from pyrl_sb3.testing.numbered import (
    ACTIONS_PER_UNIT,
    Transition,
    actions_of,
    compute_reward,
)
from pyrl_sb3.testing.require import require

BATCH = 64
Stored = dict[int, Transition]


def check_batch(batch: Any, stored: Stored) -> list[int]:
    """Insist that a batch is of stored transitions, but for the goals; their numbers."""
    flat = tensors(batch)
    indices = numbers(flat)
    values = {name: tensor.numpy() for name, tensor in flat.items()}
    expected = actions_of(np.array(indices))
    for place, index in enumerate(indices):
        require(index in stored, "a transition is sampled that was never stored, or is too old")
        as_stored = np.array_equal(values["actions"][place], expected[place])
        require(as_stored, "actions are not as stored")
        step = stored[index]
        for name, obs in (("observations", step.obs), ("next_observations", step.next_obs)):
            for key in obs.keys() - {"desired_goal"}:
                got = values[f"{name}/{key}" if f"{name}/{key}" in values else name]
                require(np.array_equal(got[place], obs[key]), f"{name} are not as stored: {key}")
        reward, goal = step.reward, values.get("observations/desired_goal")
        if goal is not None:
            achieved = step.next_obs["achieved_goal"]
            reward = float(compute_reward(achieved, goal[place]))
            _check_goal(goal[place], step, stored)
        require(values["rewards"][place, 0] == np.float32(reward), "rewards are not as stored")
    return indices


def _check_goal(goal: Any, step: Transition, stored: Stored) -> None:
    if np.array_equal(goal, step.obs["desired_goal"]):
        return
    same_episode = (t for t in stored.values() if t.episode == step.episode)
    achieved = any(np.array_equal(goal, t.next_obs["achieved_goal"]) for t in same_episode)
    require(achieved, "a goal is neither the real one nor was achieved in the episode")


def tensors(batch: Any) -> dict[str, th.Tensor]:
    """The tensors of a sample by name, observations of dicts as `name/key`."""
    flat = {}
    fields = ("observations", "actions", "next_observations", "dones", "rewards")
    for name in (*fields, "discounts", "weights"):
        value = getattr(batch, name, None)
        if isinstance(value, dict):
            flat.update({f"{name}/{key}": tensor for key, tensor in value.items()})
        elif value is not None:
            flat[name] = value
    return flat


def numbers(flat: Mapping[str, th.Tensor]) -> list[int]:
    """The numbers of sampled transitions, which their actions say."""
    return (flat["actions"][:, 0] * ACTIONS_PER_UNIT).round().long().tolist()


def same(a: Any, b: Any) -> bool:
    """Whether two samples are equal."""
    pairs = zip(tensors(a).values(), tensors(b).values(), strict=True)
    return all(bool((x == y).all()) for x, y in pairs)
