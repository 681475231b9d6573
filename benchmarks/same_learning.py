"""
Whether the algorithms here learn what SB3's learn: ten seeds each on Pendulum-v1.

    python benchmarks/same_learning.py --results runs.jsonl [--seeds 10] [--steps 5000]

Both packages get the same hyperparameters and seeds. A run's result is the mean return of 20
evaluation episodes of the deterministic policy after the last step. Each run is a line of the
results file as soon as it is over: the command goes on where it was interrupted.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise

from pyrl_sb3 import algorithms
from pyrl_sb3.report import statistics

PACKAGES = {"SB3": sb3, "ours": algorithms}
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 256,
    "learning_starts": 500,
    "buffer_size": 20_000,
    "device": "cpu",
}


def run(package: str, name: str, seed: int, steps: int) -> float:
    """The mean return at the end of a training."""
    # Made anew each time: SB3 writes into the one it is given.
    own: dict[str, Any] = {"policy_kwargs": {"net_arch": [64, 64]}}
    if name == "TD3":
        own["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    env = Monitor(gym.make("Pendulum-v1"))
    model = getattr(PACKAGES[package], name)("MlpPolicy", env, seed=seed, **own, **SETTINGS)
    model.learn(steps)
    env.reset(seed=1000 + seed)
    return float(evaluate_policy(model, env, n_eval_episodes=20)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5000)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    done: dict[tuple[str, str], dict[int, float]] = {}
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    for line in map(json.loads, lines):
        if line["steps"] == arguments.steps:
            done.setdefault((line["name"], line["package"]), {})[line["seed"]] = line["return"]
    cases = itertools.product(range(arguments.seeds), ("SAC", "TD3"), PACKAGES)
    for seed, name, package in cases:
        runs = done.setdefault((name, package), {})
        if seed in runs:
            continue
        runs[seed] = run(package, name, seed, arguments.steps)
        line = {"name": name, "package": package, "seed": seed, "steps": arguments.steps}
        with arguments.results.open("a") as file:
            file.write(json.dumps(line | {"return": runs[seed]}) + "\n")
    print("| algorithm | package | runs | IQM of returns | 95% interval |\n|---|---|---|---|---|")
    for (name, package), runs in sorted(done.items()):
        returns = np.array([runs[seed] for seed in sorted(runs)[: arguments.seeds]])
        rng = np.random.default_rng(0)
        found = statistics.estimate(returns[:, None], statistics.iqm, rng)
        ends = "-" if found.low is None else f"{found.low:.1f}, {found.high:.1f}"
        print(f"| {name} | {package} | {len(returns)} | {found.value:.1f} | {ends} |")


if __name__ == "__main__":
    main()
