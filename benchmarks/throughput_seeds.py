"""
Four seeds on the cores there are, against SB3 for four seeds one after another.

    python benchmarks/throughput_seeds.py --algo sac --steps 20000 --rounds 3

Both by whole processes, start-up included, in turns; prints the wall-clock and processor seconds of
each round and the ratios of their medians. `--sync mean` synchronises our copies. Nothing else
should run: SB3's two threads wait for each other at every operation, and on cores that are taken by
others they come to nothing. `--stock-threads 1` is the fairer opponent then, by processor seconds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from time import perf_counter

STOCK = """
import sys, gymnasium, numpy as np
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise

seed, steps, env, width = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
algo = getattr(stable_baselines3, sys.argv[5])
env = gymnasium.make(env)
size = env.action_space.shape[0]
noise = NormalActionNoise(np.zeros(size), np.full(size, 0.1))
algo(
    "MlpPolicy", env, seed=seed, learning_starts=100, batch_size=256, action_noise=noise,
    policy_kwargs={"net_arch": [width, width]}, buffer_size=steps, device="cpu",
).learn(steps)
"""
# Each side has the threads that it would have by itself.
ENVIRON = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
SETTINGS = {"learning_starts": 100, "batch_size": 256, "gradient_steps": 1, "train_freq": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algo", choices=("td3", "sac"), default="td3")
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock-threads", type=int, help="of SB3; by default PyTorch's choice")
    parser.add_argument("--sync", help="such as mean; without it the seeds are independent")
    args = parser.parse_args()
    theirs, ours = [], []
    for number in range(args.rounds):
        theirs.append(timed(lambda: stock(args)))
        ours.append(timed(lambda: seeds(args)))
        for name, (wall, processor) in (("SB3", theirs[-1]), ("ours", ours[-1])):
            print(
                f"round {number + 1}: {name} {wall:.1f} s, processor {processor:.1f} s", flush=True
            )
    for part, name in enumerate(("wall-clock", "processor")):
        ratio = median(each[part] for each in theirs) / median(each[part] for each in ours)
        print(f"ratio of the medians of {name} seconds: {ratio:.2f}")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock seconds, and processor seconds of the processes that were started."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    work()
    wall, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def stock(args: argparse.Namespace) -> None:
    threads = {"OMP_NUM_THREADS": str(args.stock_threads)} if args.stock_threads else {}
    for seed in range(args.seeds):
        words = [sys.executable, "-c", STOCK, seed, args.steps, args.env, args.width]
        words.append(args.algo.upper())
        subprocess.run([str(word) for word in words], env=ENVIRON | threads, check=True)


def seeds(args: argparse.Namespace) -> None:
    words = [sys.executable, "-m", "pyrl_sb3", f"{args.algo}-train", args.env]
    words += ["--seeds", str(args.seeds), "--timesteps", str(args.steps)]
    words += ["--eval-freq", "0", "--eval-episodes", "1", "--save-freq", "0"]
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
        subprocess.run(words, env=ENVIRON, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
