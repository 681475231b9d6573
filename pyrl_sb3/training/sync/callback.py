"""Synchronisation as a callback of SB3's `learn`, and the built-in strategies as its plugins."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.plugins import SeedGroup, SyncContext
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync.ranges import require_in_range
from pyrl_sb3.training.sync.replay import SharedReplay
from pyrl_sb3.training.sync.state import AgentState, Arrays, part_of, read_state, write_state
from pyrl_sb3.training.sync.statistics import merged, read_statistics, since, write_statistics
from pyrl_sb3.training.sync.strategies import Report, Strategy, strategy_of

_STATISTICS, _SCORE = "statistics/", "score"

Score = Callable[[OffPolicyAlgorithm], float]


def mean_return(model: OffPolicyAlgorithm, episodes: int = 10) -> float:
    """Return the mean return of the last training episodes; NaN before one has ended."""
    returns = [episode["r"] for episode in list(model.ep_info_buffer or ())[-episodes:]]
    return float(np.mean(returns)) if returns else float("nan")


class SeedSyncCallback(BaseCallback):
    """
    Synchronises copies of a model that train side by side, each in its own process:

        model = TD3("MlpPolicy", env, seed=int(os.environ["RANK"]))
        model.learn(20_000, callback=SeedSyncCallback("mean", interval=1000))

    under ``torchrun --standalone --nproc-per-node 4 script.py``. All copies begin with the weights
    of the first one, whatever their seeds; their environments, noise and batches stay different.
    At each synchronisation, and when the training ends, each reports its state, and the strategy
    says what it goes on from; not where all have been told to stop, and may go on later. Statistics
    of `VecNormalize` are merged whatever the strategy.

    A group of one trains as without the callback. Each copy of several logs `sync/rounds`,
    `sync/score` and `sync/total_timesteps`, the environment steps of all copies together.

    Subclasses may override `synchronise`.

    Args:
        strategy: a name in `strategies.STRATEGIES`, or a function like these.
        interval: environment steps of one copy between two synchronisations.
        group: the copies; by default those that torchrun has started.
        score: how good a copy is, for strategies that ask; by default its `mean_return`.
        share_replay: also give each copy's transitions to all others at each synchronisation.
        params: of the strategy.

    Raises:
        InputError: there is no such strategy, or a parameter or `interval` is out of its range.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        strategy: str | Strategy = "mean",
        *,
        interval: int = 1000,
        group: SeedGroup | None = None,
        score: Score = mean_return,
        share_replay: bool = False,
        **params: Any,
    ) -> None:
        super().__init__()
        self.strategy = strategy_of(strategy, params)
        if interval < 1:
            raise InputError(f"interval={interval}: must be at least 1")
        self.interval = interval
        self.score = score
        self.rounds = 0
        self.master: AgentState | None = None  # of the last synchronisation
        self._group = group
        self._replay = SharedReplay() if share_replay else None
        self._next = interval
        self._begun = False
        self._memory: dict[str, Arrays] = {}
        self._timesteps: dict[int, int] = {}  # of each copy when last heard, also of ended ones
        self._statistics: dict[str, NDArray[Any]] = {}  # as they were when last the same everywhere

    @property
    def group(self) -> SeedGroup:
        """The copies."""
        if self._group is None:
            from pyrl_sb3.training.sync.group import DistributedGroup

            self._group = DistributedGroup.of_torchrun()
        return self._group

    def _on_training_start(self) -> None:
        self._next = self.model.num_timesteps + self.interval
        if self.group.size == 1:
            return
        if not self._begun:
            statistics = read_statistics(self.model.get_vec_normalize_env())
            first = next(iter(self.group.all_gather(self._report(statistics)).values()))
            write_state(self.model, AgentState.of_arrays(first))
            self._adopt_statistics(part_of(_STATISTICS, first))
            self._memory = {"weights": read_state(self.model).weights}
            self._begun = True
        if self._replay:
            self._replay.begin(self.model)

    def _on_step(self) -> bool:
        # After the last step, the end of the training does it.
        if self.group.size > 1 and self._next <= self.num_timesteps < self.model._total_timesteps:
            self._next += self.interval
            self.synchronise()
        return True

    def _on_training_end(self) -> None:
        if self.group.size > 1:
            if not getattr(self.group, "stop", None):  # optional, as `leave` is: see `SeedGroup`
                if self._next <= self.num_timesteps:  # the same one, should more steps follow
                    self._next += self.interval
                self.synchronise()
            if self._replay:
                self._replay.end(self.model)
        leave = getattr(self.group, "leave", None)
        if leave:
            leave()

    def synchronise(self) -> None:
        """Exchange states with the other copies and go on from what the strategy says."""
        news = since(read_statistics(self.model.get_vec_normalize_env()), self._statistics)
        everybody = self.group.all_gather(self._report(news))
        reports = {
            rank: Report(state=AgentState.of_arrays(each), score=float(each[_SCORE]))
            for rank, each in everybody.items()
        }
        outcome = self.strategy(reports, self.group.rank, self._memory)
        write_state(self.model, outcome.state)
        self._memory = dict(outcome.memory)
        self.master = outcome.master
        heard = [part_of(_STATISTICS, each) for each in everybody.values()]
        self._adopt_statistics(merged(self._statistics, heard))
        if self._replay:
            self._replay.exchange(self.model, self.group)
        self._timesteps |= {rank: int(each["timesteps"]) for rank, each in everybody.items()}
        self.rounds += 1
        self.logger.record("sync/rounds", self.rounds)
        self.logger.record("sync/score", self.score(self.model))
        self.logger.record("sync/total_timesteps", sum(self._timesteps.values()))

    def _report(self, statistics: Arrays) -> dict[str, NDArray[Any]]:
        return {
            **read_state(self.model).as_arrays(),
            **{_STATISTICS + name: array for name, array in statistics.items()},
            _SCORE: np.array(self.score(self.model)),
            "timesteps": np.array(self.model.num_timesteps),
        }

    def _adopt_statistics(self, statistics: Arrays) -> None:
        self._statistics = {name: np.array(array) for name, array in statistics.items()}
        write_statistics(self.model.get_vec_normalize_env(), self._statistics)


def _callback(
    context: SyncContext, strategy: str, *, episodes: int | None = None, **params: Any
) -> SeedSyncCallback:
    if episodes is not None:
        require_in_range({"episodes": episodes}, ["episodes"])
        params["score"] = partial(mean_return, episodes=episodes)
    return SeedSyncCallback(strategy, interval=context.interval, group=context.group, **params)


def mean(context: SyncContext, *, share_replay: bool = False) -> SeedSyncCallback:
    """Make `strategies.mean` a plugin."""
    return _callback(context, "mean", share_replay=share_replay)


def weighted(
    context: SyncContext,
    *,
    temperature: float = 1.0,
    episodes: int = 10,
    share_replay: bool = False,
) -> SeedSyncCallback:
    """Make `strategies.weighted` a plugin; the score is the mean return of so many episodes."""
    return _callback(
        context, "weighted", episodes=episodes, temperature=temperature, share_replay=share_replay
    )


def best(
    context: SyncContext, *, patience: int = 2, episodes: int = 10, share_replay: bool = False
) -> SeedSyncCallback:
    """Make `strategies.best` a plugin; the score is the mean return of so many episodes."""
    return _callback(
        context, "best", episodes=episodes, patience=patience, share_replay=share_replay
    )


def soft_best(
    context: SyncContext, *, pull: float = 0.5, episodes: int = 10, share_replay: bool = False
) -> SeedSyncCallback:
    """Make `strategies.soft_best` a plugin; the score is the mean return of so many episodes."""
    return _callback(context, "soft-best", episodes=episodes, pull=pull, share_replay=share_replay)


def elastic(
    context: SyncContext, *, beta: float = 0.9, share_replay: bool = False
) -> SeedSyncCallback:
    """Make `strategies.elastic` a plugin."""
    return _callback(context, "elastic", beta=beta, share_replay=share_replay)


def outer(
    context: SyncContext,
    *,
    learning_rate: float = 0.7,
    momentum: float = 0.9,
    share_replay: bool = False,
) -> SeedSyncCallback:
    """Make `strategies.outer` a plugin."""
    return _callback(
        context,
        "outer",
        learning_rate=learning_rate,
        momentum=momentum,
        share_replay=share_replay,
    )
