"""How good an agent is: whole episodes with its deterministic policy."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.training.signals import StopAskedError, StopSignals

log = logging.getLogger("pyrl_sb3")

StepCallback = Callable[[dict[str, Any], dict[str, Any]], None]


@dataclass(frozen=True)
class Evaluation:
    """
    What happened in a number of episodes.

    Attributes:
        returns: `(episodes,)`, undiscounted sums of rewards.
        lengths: `(episodes,)`, in steps.
        successes: `(episodes,)`, whether the goal held at the end; None where nothing says so.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    successes: npt.NDArray[np.bool_] | None

    @property
    def success_rate(self) -> float | None:
        """The share of episodes that ended in success."""
        return None if self.successes is None else float(self.successes.mean())

    def __str__(self) -> str:
        parts = [f"return {self.returns.mean():.2f} ± {self.returns.std():.2f}"]
        if self.success_rate is not None:
            parts.append(f"success rate {self.success_rate:.2f}")
        parts.append(f"length {self.lengths.mean():.1f} steps")
        return ", ".join(parts)


def evaluate(
    model: BaseAlgorithm, env: VecEnv, episodes: int, each_step: StepCallback | None = None
) -> Evaluation:
    """
    Run whole episodes with the deterministic policy.

    Args:
        model: whose policy acts.
        env: where it acts; if it normalises, it must not update its statistics.
        episodes: how many, spread evenly over the environments.
        each_step: called after every step with `evaluate_policy`'s local and global variables.
    """
    successes: list[bool] = []

    def note(local: dict[str, Any], everything: dict[str, Any]) -> None:
        if local["done"] and "is_success" in local["info"]:
            successes.append(bool(local["info"]["is_success"]))
        if each_step:
            each_step(local, everything)

    returns, lengths = evaluate_policy(
        model, env, episodes, callback=note, return_episode_rewards=True
    )
    return Evaluation(
        returns=np.asarray(returns, dtype=np.float64),
        lengths=np.asarray(lengths, dtype=np.int64),
        successes=np.asarray(successes, dtype=bool) if successes else None,
    )


class PeriodicEvaluation(EvalCallback):
    """SB3's evaluation in the course of training, except that a signal ends it within a step."""

    def __init__(self, *args: Any, signals: StopSignals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signals = signals

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        self.signals.check()
        super()._log_success_callback(locals_, globals_)

    def _on_step(self) -> bool:
        evaluations = len(self.evaluations_timesteps)
        try:
            proceed = super()._on_step()
        except StopAskedError:
            return False
        if len(self.evaluations_timesteps) > evaluations:
            log.info("evaluation after %s steps: %s", self.num_timesteps, self._latest())
        return proceed

    def _latest(self) -> Evaluation:
        return Evaluation(
            returns=np.asarray(self.evaluations_results[-1]),
            lengths=np.asarray(self.evaluations_length[-1]),
            successes=np.asarray(self._is_success_buffer) if self._is_success_buffer else None,
        )
