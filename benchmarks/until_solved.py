"""A callback that trains until a task is solved, and keeps how long that took."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solved import PARTS
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from pyrl_sb3.training.evaluation import evaluate

STARTS, OTHER_STARTS = 10_000, 20_000  # seeds of the environments that evaluate


@dataclass(frozen=True)
class Task:
    """
    When a task is solved, and how often that is looked at.

    `quick` episodes are run every `every` steps; all `episodes` where their mean is within `slack`
    of the threshold.
    """

    threshold: float
    limit: int
    every: int
    episodes: int = 100
    quick: int = 20
    slack: float = 10.0
    success: bool = False
    save_freq: int = 0
    zoo: str | None = None  # the zoo's entry, where it is called otherwise there


class Clock:
    """Seconds of each of `PARTS`, by the clock on the wall and then by the processor's."""

    def __init__(self, spent: list[float] | None = None) -> None:
        self.spent = spent or [0.0] * 2 * len(PARTS)
        self.part = "other"
        self.last = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def enter(self, part: str) -> str:
        """Begin a part; returns the one that ends."""
        now, before = self.now(), self.part
        for i in range(2):
            self.spent[PARTS.index(before) + i * len(PARTS)] += now[i] - self.last[i]
        self.part, self.last = part, now
        return before


class UntilSolved(BaseCallback):
    """Evaluates, keeps what came of it in a file, and stops the training when it is solved."""

    def __init__(self, task: Task, test: VecEnv, file: Path, facts: dict[str, Any]) -> None:
        super().__init__()
        self.task, self.test, self.file, self.facts = task, test, file, facts

    def _on_training_start(self) -> None:
        rows = json.loads(self.file.read_text())["curve"] if self.file.is_file() else []
        # What an interrupted run did after its last checkpoint is done again.
        self.curve = [row for row in rows if row[0] <= self.num_timesteps]
        self.clock = Clock(self.curve[-1][2:] if self.curve else None)
        env: Any = self.training_env.unwrapped
        step_wait: Callable[[], Any] = env.step_wait

        def timed() -> Any:
            self.clock.enter("environment")
            result = step_wait()
            self.clock.enter("other")
            return result

        env.step_wait = timed

    def _on_rollout_start(self) -> None:
        self.clock.enter("other")

    def _on_rollout_end(self) -> None:
        self.clock.enter("update")

    def _on_step(self) -> bool:
        if self.num_timesteps % self.task.every or self.num_timesteps == 0:
            return True
        before = self.clock.enter("evaluation")
        task, found = self.task, self._score(self.task.quick)
        full = found
        if found >= task.threshold - task.slack or self.num_timesteps >= task.limit:
            full = self._score(task.episodes)
        solved = full >= task.threshold and full is not found
        again = self._score(task.episodes, OTHER_STARTS) if solved else None
        self.clock.enter(before)
        seconds = [round(each, 2) for each in self.clock.spent]
        self.curve.append([self.num_timesteps, round(full, 4), *seconds])
        self._write(solved, again)
        print(self.file.stem, self.num_timesteps, round(full, 3), *seconds, flush=True)
        return not solved and self.num_timesteps < task.limit

    def _score(self, episodes: int, starts: int = STARTS) -> float:
        if isinstance(self.test, VecNormalize):
            sync_envs_normalization(self.training_env, self.test)
        self.test.seed(starts)
        evaluation = evaluate(self.model, self.test, episodes)
        if self.task.success:
            assert evaluation.success_rate is not None
            return evaluation.success_rate
        return float(evaluation.returns.mean())

    def _write(self, solved: bool, again: float | None) -> None:
        found = {
            **self.facts,
            "solved": solved,
            "on_other_starts": None if again is None else round(again, 4),
            "curve": self.curve,
        }
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(found).replace("], [", "],\n[") + "\n")
        part.replace(self.file)
