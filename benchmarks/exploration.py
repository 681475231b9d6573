"""
Parameter noise against noise on the actions: DDPG on MountainCarContinuous-v0, whose reward is
deceptive: standing still is better than anything but reaching the flag.

    python benchmarks/exploration.py --out exploration.json

Runs one seed after the other; what `--out` holds already is not repeated. Prints, for each noise,
the mean return of the trained agents with a 95 % bootstrap interval over the seeds.
"""

import argparse
import json
from pathlib import Path
from time import process_time
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from pyrl_sb3 import DDPG, DDPGPolicy
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config

ENV, STEPS, SOLVED = "MountainCarContinuous-v0", 10_000, 90.0
NOISES = ("param_0.2", "normal_0.2", "ou_0.5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--noises", nargs="+", default=list(NOISES))
    args = parser.parse_args()
    th.set_num_threads(1)
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for seed in range(args.seeds):
        for noise in args.noises:
            key = f"{noise} {seed}"
            if key not in results:
                results[key] = trained(noise, seed)
                args.out.write_text(json.dumps(results, indent=1))
                print(key, results[key], flush=True)
    for noise in args.noises:
        report(noise, [results[f"{noise} {seed}"] for seed in range(args.seeds)])


def trained(noise: str, seed: int) -> dict[str, float]:
    env = Monitor(gym.make(ENV))
    context = NoiseContext(
        action_space=env.action_space,
        rng=np.random.default_rng(seed),
        max_episode_steps=999,
        total_timesteps=STEPS,
    )
    model = DDPG(
        DDPGPolicy,
        env,
        action_noise=noise_from_config(get_plugin_manager(), noise, context),
        policy_kwargs={"net_arch": [64, 64], "layer_norm": "actor"},
        learning_rate=1e-3,
        batch_size=128,
        learning_starts=1000,
        buffer_size=STEPS,
        seed=seed,
    )
    begin = process_time()
    model.learn(STEPS)
    seconds = process_time() - begin
    test = Monitor(gym.make(ENV))
    test.reset(seed=1000 + seed)
    returns, _ = evaluate_policy(model, test, 10)
    reached = [each["r"] for each in model.ep_info_buffer or [] if each["l"] < 999]
    return {"return": round(float(returns), 2), "reached": len(reached), "seconds": round(seconds)}


def report(noise: str, results: list[dict[str, float]]) -> None:
    returns = np.array([each["return"] for each in results])
    draws = np.random.default_rng(0).choice(returns, (10_000, len(returns))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    solved = int((returns >= SOLVED).sum())
    print(
        f"{noise}: mean return {returns.mean():.1f} [{low:.1f}, {high:.1f}], "
        f"solved by {solved} of {len(returns)} seeds"
    )


if __name__ == "__main__":
    main()
