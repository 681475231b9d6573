"""
Four seeds on the cores there are, against SB3's TD3 for four seeds one after another.

    python benchmarks/throughput_seeds.py --steps 20000 --rounds 3

Both by whole processes, start-up included, in turns; prints the wall-clock seconds of each round
and the ratio of their medians. `--sync mean` synchronises our copies. Nothing else should run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter

STOCK = """
import sys, gymnasium, numpy as np
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise

seed, steps, env, width = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
env = gymnasium.make(env)
size = env.action_space.shape[0]
TD3(
    "MlpPolicy", env, seed=seed, learning_starts=100, batch_size=256,
    action_noise=NormalActionNoise(np.zeros(size), np.full(size, 0.1)),
    policy_kwargs={"net_arch": [width, width]}, buffer_size=steps, device="cpu",
).learn(steps)
"""
SETTINGS = {"learning_starts": 100, "batch_size": 256, "gradient_steps": 1, "train_freq": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sync", help="such as mean; without it the seeds are independent")
    args = parser.parse_args()
    theirs, ours = [], []
    for number in range(args.rounds):
        theirs.append(timed(lambda: stock(args)))
        ours.append(timed(lambda: seeds(args)))
        print(f"round {number + 1}: SB3 {theirs[-1]:.1f} s, ours {ours[-1]:.1f} s", flush=True)
    print(f"ratio of the medians: {median(theirs) / median(ours):.2f}")


def timed(work) -> float:  # type: ignore[no-untyped-def]
    start = perf_counter()
    work()
    return perf_counter() - start


def stock(args: argparse.Namespace) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for seed in range(args.seeds):
        words = [sys.executable, "-c", STOCK, seed, args.steps, args.env, args.width]
        subprocess.run([str(word) for word in words], env=environ, check=True)


def seeds(args: argparse.Namespace) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    words = [sys.executable, "-m", "pyrl_sb3", "td3-train", args.env, "--seeds", args.seeds]
    words += ["--timesteps", args.steps, "--eval-freq", 0, "--eval-episodes", 1, "--save-freq", 0]
    settings = {
        **SETTINGS,
        "buffer_size": args.steps,
        "noise": "normal_0.1",
        "policy_kwargs.net_arch": f"[{args.width},{args.width}]",
    }
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    if args.sync:
        words += ["--sync", args.sync]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [str(word) for word in words],
            env=environ,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
