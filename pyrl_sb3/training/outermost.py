"""What stands around an environment and all its wrappers."""

import logging
from contextlib import suppress
from copy import copy, deepcopy
from functools import cache
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_util import is_wrapped

from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.errors import complaint

log = logging.getLogger("pyrl_sb3")

# Ten times what most of Gymnasium's environments end after.
_VERY_MANY_STEPS = 10_000


class Outermost(gym.Wrapper[Any, Any, Any, Any]):
    """
    An environment as training and evaluations want it.

    Some environments say `success`, SB3 reads `is_success`. Where it has parts all must hold at the
    end. None and NaN are no outcomes, nor is what is no number, such as text, of which SB3 fails to
    take the mean; a line warns of it. Infos are copied before anything is written into them.
    The last observation of an episode is a copy: SB3 hands it on only after the next reset, which
    some environments write into the same array.
    An environment that cannot be closed is warned of, once: what it was opened for is done by then.
    So are episodes without a time limit, for whose end evaluations might wait in silence.
    Some environments draw from their spaces, which Gymnasium seeds by themselves: a seeded reset
    seeds them too.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._endless = not is_wrapped(env, TimeLimit)
        self._steps = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, spaces too where there is a seed, and count steps from 0."""
        self._steps = 0
        if options.get("seed") is not None:
            _seed_spaces(self.env, options["seed"])
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and copy `success` where there is one, and what is seen last."""
        self._steps += 1
        if self._endless and self._steps == _VERY_MANY_STEPS:
            _warn_once(
                f"an episode of {self._name} has had {self._steps} steps and has no time limit; "
                "evaluations wait for the end of episodes. A line of the config that sets one: "
                "env_wrapper: [{gymnasium.wrappers.TimeLimit: {max_episode_steps: 1000}}]"
            )
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = _copied(info)  # the environment may keep it, and SB3 too writes into what it gets
        if "success" in info:
            info.setdefault("is_success", info["success"])
        if terminated or truncated:
            observation = deepcopy(observation)
            if info.get("is_success") is not None:
                info["is_success"] = self._outcome(info["is_success"])
        return observation, reward, terminated, truncated, info

    def _outcome(self, success: Any) -> bool | float | None:
        with suppress(*RAISED):
            parts = np.asarray(success)
            if parts.dtype.kind == "O":
                parts = parts.astype(float)  # None becomes NaN
            if parts.dtype.kind in "biuf":
                if np.isnan(parts).any():
                    return None
                return bool(np.all(parts)) if parts.ndim else parts.item()
        _warn_once(
            f"success in infos of {self._name} is a {type(success).__name__}, neither true nor "
            "false nor a number: its episodes count as those that do not say it"
        )
        return None

    def close(self) -> None:
        """Close the environment; whatever it raises is a warning."""
        try:
            super().close()
        except RAISED as error:
            _warn_once(f"environment {self._name} could not be closed: {complaint(error)}")

    @property
    def _name(self) -> str:
        spec = self.unwrapped.spec
        return spec.id if spec else type(self.unwrapped).__name__


def _seed_spaces(env: gym.Env[Any, Any], seed: int) -> None:
    """
    Seed the spaces of an environment and of its wrappers, each of which may have its own.

    Each has another seed, none that of the environment, by which both would draw the same numbers.
    """
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    seeds = np.random.SeedSequence(seed).generate_state(2 * len(layers)).reshape(-1, 2).tolist()
    for layer, own in zip(layers, seeds, strict=True):
        with suppress(*RAISED):  # not each has a space, nor can each space be seeded
            layer.action_space.seed(own[0])
        with suppress(*RAISED):
            layer.observation_space.seed(own[1])


def _copied(info: dict[str, Any]) -> dict[str, Any]:
    """A copy to write into, of the same class where that can be: callbacks may use what it has."""
    with suppress(*RAISED):
        found = copy(info)
        if isinstance(found, dict) and found is not info:
            return found
    return {**info}


@cache
def _warn_once(line: str) -> None:
    log.warning(line)
