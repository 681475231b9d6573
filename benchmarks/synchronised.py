"""
Four synchronised copies against one that learns alone, at equal total environment steps.

    python benchmarks/synchronised.py --out synchronised.jsonl
    python benchmarks/synchronised.py --out synchronised.jsonl --report

TD3 with two layers of 64, each strategy with its defaults. Each of the four makes a quarter of the
environment steps, and four gradient steps where a copy alone makes one: as many gradient steps each
as the one alone, four times as many together. The copies take turns in one process, so that a run
depends on its seed alone. `--out` gets one line per run; runs that it holds are not
repeated. What is judged is the master: the agent that stands for all copies.

The report gives, for each environment and strategy, the final return, the probability of
improvement over a run alone with a 95 % bootstrap interval, and the environment steps and processor
time until an evaluation reaches the threshold: medians, `>` where half of the runs never do.
Processor time is that of one copy, as if each had a core for itself.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)

from pyrl_sb3 import TD3
from pyrl_sb3.report.statistics import probability_of_improvement
from pyrl_sb3.testing.lockstep import Lockstep, LockstepGroup
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.state import write_state
from pyrl_sb3.training.sync.strategies import STRATEGIES

ALONE, COPIES, ROUNDS = "alone", 4, 10
PATHS = (ALONE, *STRATEGIES)


@dataclass(frozen=True)
class Task:
    """An environment: steps of all copies together, when it counts as solved, hyperparameters."""

    steps: int
    solved: float
    episodes: int
    noise: Callable[[], ActionNoise]
    arguments: dict[str, Any]


TASKS = {
    "Pendulum-v1": Task(
        6_000,
        -200.0,
        5,
        lambda: NormalActionNoise(np.zeros(1), np.full(1, 0.1)),
        {"gamma": 0.98, "learning_rate": 3e-3},
    ),
    # With SB3's dt of 0.01 noise is all but constant in an episode and seldom finds the flag.
    "MountainCarContinuous-v0": Task(
        8_000,
        90.0,
        3,
        lambda: OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.5), dt=0.1),
        {"gamma": 0.999, "learning_rate": 1e-3, "tau": 0.05, "train_freq": 2},
    ),
}


@dataclass
class Record:
    """Evaluations in the course of a run: total steps, mean return, processor time of a copy."""

    points: list[tuple[int, float, float]] = field(default_factory=list)
    final: float = float("nan")
    evaluating: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--report", action="store_true", help="only print what there is")
    args = parser.parse_args()
    th.set_num_threads(1)
    done = _read(args.out)
    for repetition in range(0 if args.report else args.repetitions):
        for task in args.tasks:
            for path in args.paths:
                if (task, path, repetition) not in done:
                    record = run(task, path, repetition)
                    line = {"task": task, "path": path, "repetition": repetition, **asdict(record)}
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(task, path, repetition, f"{record.final:.1f}", flush=True)
    for line in report(_read(args.out)):
        print(line)


def _read(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    lines = map(json.loads, path.read_text("utf-8").splitlines()) if path.exists() else []
    return {(each["task"], each["path"], each["repetition"]): each for each in lines}


def run(task: str, path: str, repetition: int) -> Record:
    record = Record()
    size = 1 if path == ALONE else COPIES
    start = process_time()

    def train(group: LockstepGroup) -> None:
        model = _model(task, size, seed=1000 * repetition + group.rank)
        judge = Judge(task, size, start, record) if group.rank == 0 else None
        if path == ALONE:
            assert judge
            model.learn(TASKS[task].steps, callback=judge)
            judge.finish(model)
            return
        sync = Judged(path, TASKS[task].steps // COPIES // ROUNDS, group, judge)
        model.learn(TASKS[task].steps // COPIES, callback=sync)

    Lockstep(size).run([train] * size)
    return record


class Judge(BaseCallback):
    """Evaluates an agent, always from the same starts, outside of the run's time."""

    def __init__(self, task: str, size: int, start: float, record: Record) -> None:
        super().__init__()
        self.task, self.size, self.start, self.record = task, size, start, record
        self.env = make_vec_env(task, n_envs=5)

    def _on_step(self) -> bool:
        if self.num_timesteps % (TASKS[self.task].steps // ROUNDS) == 0:
            self.note(self.model, self.num_timesteps)
        return True

    def note(self, model: Any, steps: int) -> None:
        begin = process_time()
        spent = (begin - self.start - self.record.evaluating) / self.size
        value = self._mean(model, TASKS[self.task].episodes, seed=10_000)
        self.record.points.append((steps, value, spent))
        self.record.evaluating += process_time() - begin

    def finish(self, model: Any) -> None:
        self.record.final = self._mean(model, 20, seed=20_000)

    def _mean(self, model: Any, episodes: int, seed: int) -> float:
        self.env.seed(seed)
        return float(np.mean(evaluate_policy(model, self.env, episodes)[0]))


class Judged(SeedSyncCallback):
    """Shows the master to a judge at each synchronisation."""

    def __init__(
        self, strategy: str, interval: int, group: LockstepGroup, judge: Judge | None
    ) -> None:
        super().__init__(strategy, interval=interval, group=group)
        self.judge = judge
        self.shown = _model(judge.task, COPIES, seed=0) if judge else None

    def synchronise(self) -> None:
        super().synchronise()
        if self.judge:
            write_state(self.shown, self.master)
            self.judge.note(self.shown, self.num_timesteps * COPIES)

    def _on_training_end(self) -> None:
        super()._on_training_end()
        if self.judge:
            self.judge.finish(self.shown)


def _model(task: str, size: int, seed: int) -> TD3:
    return TD3(
        "MlpPolicy",
        Monitor(gym.make(task)),
        action_noise=TASKS[task].noise(),
        batch_size=64,
        buffer_size=TASKS[task].steps,
        learning_starts=400 // size,
        gradient_steps=size,
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
        **TASKS[task].arguments,
    )


def report(done: dict[tuple[str, str, int], dict[str, Any]]) -> Iterator[str]:
    """A table in Markdown for each environment."""
    for task, each in TASKS.items():
        runs = {
            path: [line for (t, p, _), line in sorted(done.items()) if (t, p) == (task, path)]
            for path in PATHS
        }
        yield f"\n{task}: {each.steps} steps in all, solved at {each.solved}\n"
        yield "| | runs | final return | P(improvement) | solved | steps in all | seconds each |"
        yield "|---|---|---|---|---|---|---|"
        for path, lines in runs.items():
            if lines:
                yield _row(path, lines, runs[ALONE], each)


def _row(path: str, lines: list[dict[str, Any]], alone: list[dict[str, Any]], task: Task) -> str:
    finals = np.array([line["final"] for line in lines])
    first = [
        next(((p[0], p[2]) for p in line["points"] if p[1] >= task.solved), None) for line in lines
    ]
    solved = sum(each is not None for each in first)
    steps = _median([each[0] if each else np.inf for each in first], ".0f")
    seconds = _median([each[1] if each else np.inf for each in first], ".1f")
    better = "" if path == ALONE else _improvement(finals, np.array([a["final"] for a in alone]))
    result = f"{finals.mean():.1f} ± {finals.std():.1f}"
    return f"| {path} | {len(lines)} | {result} | {better} | {solved} | {steps} | {seconds} |"


def _median(values: list[float], style: str) -> str:
    middle = float(np.percentile(values, 50, method="lower"))
    return ">" if np.isinf(middle) else format(middle, style)


def _improvement(ours: NDArray[Any], theirs: NDArray[Any]) -> str:
    """The probability that a run is better than one alone (Agarwal 2021, arXiv:2108.13264)."""
    rng = np.random.default_rng(0)

    def probability(x: NDArray[Any], y: NDArray[Any]) -> float:
        return float(probability_of_improvement(x[:, None], y[:, None]))

    draws = [
        probability(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs)))
        for _ in range(2000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{probability(ours, theirs):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
