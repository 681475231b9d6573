"""
Gradient steps and rollouts of SB3, of this package and, where it is installed, of SBX.

    python benchmarks/train_step.py [--threads 1 2] [--blocks 13] [--json results.json]

All are measured in one run, in turn, a block of steps each: a machine that is shared or changes its
clock does so for all of them, and only ratios mean something. They are taken round by round, SB3's
block by the other, and their quartiles given. For each number of threads a process of its own is
started, since switching slows later products down. With one thread it is processor time that is
taken, to which other processes add less.

The floor is the time of the 16 products of a (256, 256) with a (256, 256) matrix that a step of SAC
cannot do without.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

BATCH, WIDTH, STEPS = 256, 256, 12
NAMES = ("SAC", "TD3", "DDPG")


def fill(model: Any) -> None:
    """Random transitions in all of the buffer, without stepping an environment."""
    import numpy as np

    rng, buffer = np.random.default_rng(0), model.replay_buffer
    for array in (buffer.observations, buffer.next_observations, buffer.rewards):
        array[:] = rng.standard_normal(array.shape)
    buffer.actions[:] = rng.uniform(-1, 1, buffer.actions.shape)
    buffer.full = True


def model_of(module: Any, name: str, **arguments: Any) -> Any:
    settings = {"policy_kwargs": {"net_arch": [WIDTH, WIDTH]}, "seed": 0, "device": "cpu"}
    settings |= {"batch_size": BATCH, "buffer_size": 100_000}
    return getattr(module, name)("MlpPolicy", "HalfCheetah-v5", **settings | arguments)


def trainer(module: Any, name: str, fused: int = 1) -> Callable[[], None]:
    """
    A function that takes ``STEPS`` gradient steps.

    :param fused: how many of them one call of ``train()`` takes
    """
    model = model_of(module, name)
    model._setup_learn(1)
    fill(model)

    def block() -> None:
        for _ in range(STEPS // fused):
            model.train(fused, BATCH)
        if module.__name__ == "sbx":
            # jax returns before it is done
            importlib.import_module("jax").block_until_ready(model.policy.qf_state.params)

    return block


def roller(module: Any, name: str, steps: int = 200) -> Callable[[], None]:
    """A function that takes steps in the environment, without training."""
    model = model_of(module, name, learning_starts=0, gradient_steps=0)
    model.learn(1)
    return lambda: model.learn(steps, reset_num_timesteps=False)


def products() -> Callable[[], None]:
    import torch as th

    a, b, c = (th.randn(WIDTH, WIDTH) for _ in range(3))

    def block() -> None:
        for _ in range(16 * STEPS):
            th.mm(a, b, out=c)

    return block


def contestants() -> dict[str, tuple[Callable[[], None], int]]:
    """Blocks by name, and how many steps each takes."""
    import stable_baselines3 as sb3

    from pyrl_sb3 import algorithms

    blocks: dict[str, tuple[Callable[[], None], int]] = {"floor": (products(), STEPS)}
    for name in NAMES:
        for package, module in (("SB3", sb3), ("ours", algorithms)):
            blocks[f"{name} step, {package}"] = trainer(module, name), STEPS
    if importlib.util.find_spec("sbx"):
        import sbx

        blocks["SAC step, SBX"] = trainer(sbx, "SAC"), STEPS
        blocks["SAC step, SBX fused"] = trainer(sbx, "SAC", fused=STEPS), STEPS
    for name in ("SAC", "TD3"):
        for package, module in (("SB3", sb3), ("ours", algorithms)):
            blocks[f"{name} rollout, {package}"] = roller(module, name), 200
    return blocks


def measure(threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per step of each contestant: median and quartiles."""
    import torch as th

    th.set_num_threads(threads)
    blocks = contestants()
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(rounds + 1):
        for name, (block, steps) in blocks.items():
            start = clock()
            block()
            times[name].append((clock() - start) / steps * 1000)
    times = {name: values[1:] for name, values in times.items()}
    return {
        "threads": threads,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "versions": {p: version(p) for p in ("torch", "stable-baselines3", "numpy", "gymnasium")},
        "ms": {name: statistics.quantiles(values, n=4) for name, values in times.items()},
        "speedup": {name: ratios(times, name) for name in times},
    }


def ratios(times: dict[str, list[float]], name: str) -> list[float]:
    """Quartiles over the rounds of the time of SB3's block by that of this one."""
    what = name.split(",")[0]
    reference = times.get(f"{what}, SB3", times["SAC step, SB3"])
    return statistics.quantiles([a / b for a, b in zip(reference, times[name], strict=True)], n=4)


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['threads']} thread(s), {result['machine']}, load {result['load']:.1f}, "
        f"torch {result['versions']['torch']}, SB3 {result['versions']['stable-baselines3']}",
        "",
        "| what | ms, median | quartiles | times SB3's speed, median | quartiles |",
        "|---|---|---|---|---|",
    ]
    for name, (low, median, high) in result["ms"].items():
        slow, usual, fast = result["speedup"][name]
        lines.append(
            f"| {name} | {median:.2f} | {low:.2f}-{high:.2f} "
            f"| {usual:.2f} | {slow:.2f}-{fast:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--blocks", type=int, default=13)
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.threads[0], arguments.blocks)))
        return
    results = []
    for threads in arguments.threads:
        command = [sys.executable, __file__, "--worker", "--blocks", str(arguments.blocks)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        output = subprocess.run(
            [*command, "--threads", str(threads)],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        results.append(json.loads(output.splitlines()[-1]))
        print(table(results[-1]), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
