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
from pyrl_sb3.testing.require import CheckError, require

BATCH = 64
BATCHES = 20
DRAWS = 40  # so many times as many, before what was not there is taken to be never drawn
# Correlation: 0.03 by chance; 0.5 where a tenth of sorted transitions keep their goals, else more.
RELATED = 0.4
Stored = dict[int, Transition]


def check_batches(buffer: Any, stored: Stored) -> None:
    """Insist that what is sampled is of stored transitions."""
    for _ in range(BATCHES):
        check_batch(buffer.sample(BATCH), stored)


def check_batch(batch: Any, stored: Stored) -> None:
    """Insist that a batch is of stored transitions, but for the goals."""
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


def _check_goal(goal: Any, step: Transition, stored: Stored) -> None:
    if np.array_equal(goal, step.obs["desired_goal"]):
        return
    same_episode = (t for t in stored.values() if t.episode == step.episode)
    achieved = any(np.array_equal(goal, t.next_obs["achieved_goal"]) for t in same_episode)
    require(achieved, "a goal is neither the real one nor was achieved in the episode")


def check_all_are_drawn(buffer: Any, stored: Stored) -> None:
    """Insist that each stored transition is sampled sometime; how often is the buffer's choice."""
    missing = set(stored)
    for _ in range(DRAWS):
        missing -= set(numbers(tensors(buffer.sample(BATCH * BATCHES))))
        if not missing:
            return
    newest = max(step.step for step in stored.values())
    lost = any(stored[index].step == newest for index in missing)
    which = "the newest among them" if lost else "older ones"
    raise CheckError(f"{len(missing)} of {len(stored)} transitions are never sampled, {which}")


def check_goals_go_to_any(batches: list[Any], stored: Stored, n_envs: int) -> None:
    """Insist that which transitions get a new goal has little to do with their step, or env."""
    got = np.concatenate([batch.observations["desired_goal"][:, 0].numpy() for batch in batches])
    drawn = np.array([index for batch in batches for index in numbers(tensors(batch))])
    real = np.array([stored[index].obs["desired_goal"][0] for index in drawn.tolist()])
    new = got != real
    for what, of in (("step", drawn // n_envs), ("environment", drawn % n_envs)):
        if new.std() and of.std():
            related = abs(np.corrcoef(new, of)[0, 1])
            problem = f"which transitions get new goals goes by their {what}"
            require(related < RELATED, f"{problem}: draw them in random order")


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
