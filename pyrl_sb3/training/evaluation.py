"""How good an agent is: whole episodes with its deterministic policy."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from pyrl_sb3.errors import counted
from pyrl_sb3.training.signals import StopAskedError, StopSignals

log = logging.getLogger("pyrl_sb3")

EachStep = Callable[[int], None]  # gets how many episodes had ended before the step
Record = Callable[[int, "Evaluation"], None]


@dataclass(frozen=True)
class Evaluation:
    """
    What happened in a number of episodes.

    Attributes:
        returns: `(episodes,)`, undiscounted sums of rewards.
        lengths: `(episodes,)`, in steps.
        successes: `(episodes,)`, whether the goal held at the end, or to which share; NaN for
            episodes that do not say so, with None or NaN. None where none does.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    successes: npt.NDArray[np.bool_ | np.float64] | None

    @property
    def success_rate(self) -> float | None:
        """The share of episodes that ended in success, of those that say so."""
        return None if self.successes is None else float(np.nanmean(self.successes))

    def __str__(self) -> str:
        parts = [f"return {self.returns.mean():.2f} ± {self.returns.std():.2f}"]
        if self.success_rate is not None:
            parts.append(f"success rate {self.success_rate:.2f}")
        parts.append(f"length {self.lengths.mean():.1f} steps")
        return ", ".join(parts)


def evaluate(
    model: BaseAlgorithm, env: VecEnv, episodes: int, each_step: EachStep | None = None
) -> Evaluation:
    """
    Run whole episodes with the deterministic policy.

    Args:
        model: whose policy acts.
        env: where it acts; if it normalises, it must not update its statistics.
        episodes: how many, spread evenly over the environments.
        each_step: called after every step.
    """
    said: list[Any] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["done"]:
            said.append(local["info"].get("is_success"))
        if each_step:
            each_step(len(local["episode_rewards"]))

    returns, lengths = evaluate_policy(
        model, env, episodes, callback=note, return_episode_rewards=True
    )
    successes = np.array([np.nan if success is None else success for success in said])
    return Evaluation(
        returns=np.asarray(returns, dtype=np.float64),
        lengths=np.asarray(lengths, dtype=np.int64),
        successes=None if np.isnan(successes).all() else successes,
    )


def sync_statistics(model: BaseAlgorithm, env: VecEnv) -> None:
    """Give an environment for evaluations the statistics of a model's `VecNormalize`, if any."""
    if model.get_vec_normalize_env() is not None:
        learning = model.get_env()
        assert learning is not None
        sync_envs_normalization(learning, env)


class PeriodicEvaluation(EvalCallback):
    """
    SB3's evaluation in the course of training, except that a signal ends it within a step. It is
    then made where the training goes on, with the agent that it was due for.

    `record` gets the environment steps and each evaluation.
    """

    model: BaseAlgorithm

    def __init__(self, *args: Any, signals: StopSignals, record: Record, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.signals = signals
        self.record = record
        self.owed = 0  # the steps after which one was interrupted; checkpoints keep it

    def _init_callback(self) -> None:
        with warnings.catch_warnings():
            # Where those of the training are in processes of their own.
            warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            super()._init_callback()

    def _on_rollout_start(self) -> None:
        if self.owed:
            self._evaluate(self.owed)

    def _on_training_end(self) -> None:
        # After the last step comes no rollout, before which one that is owed would be made.
        if self.owed and not self.signals.received:
            self._evaluate(self.owed)

    def _on_step(self) -> bool:
        return self.n_calls % self.eval_freq != 0 or self._evaluate(self.num_timesteps)

    def _evaluate(self, timesteps: int) -> bool:
        """Evaluate the agent as it was after so many steps; return whether training goes on."""
        self.owed = timesteps
        env = self.eval_env
        sync_statistics(self.model, env)
        try:
            evaluation = evaluate(self.model, env, self.n_eval_episodes, self.signals.check)
        except StopAskedError:
            return False
        self.owed = 0
        log.info("evaluation after %s: %s", counted(timesteps, "step"), evaluation)
        self._log(timesteps, evaluation)
        self.last_mean_reward = float(evaluation.returns.mean())
        goes_on = True
        if self.last_mean_reward > self.best_mean_reward:
            self.best_mean_reward = self.last_mean_reward
            goes_on = self.callback_on_new_best is None or self.callback_on_new_best.on_step()
        self.record(timesteps, evaluation)  # at last: what has no record is made up for
        return goes_on

    def _log(self, timesteps: int, evaluation: Evaluation) -> None:
        self.logger.record("eval/mean_reward", float(evaluation.returns.mean()))
        self.logger.record("eval/mean_ep_length", float(evaluation.lengths.mean()))
        if evaluation.success_rate is not None:
            self.logger.record("eval/success_rate", evaluation.success_rate)
        self.logger.record("time/total_timesteps", timesteps, exclude="tensorboard")
        self.logger.dump(timesteps)
