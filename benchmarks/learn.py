"""
Whole ``learn()`` calls, environment, replay buffer and logging included: SB3 against this package.

    python benchmarks/learn.py [--threads 1] [--blocks 7] [--steps 200] [--slots 1000000]

All runs in one process, in turn, a block of steps each; benchmarks/train_step.py says why, and how
ratios are taken and with which clock.
On FetchPush each uses its own HerReplayBuffer, filled to all of its slots before the clock starts.
"""

import argparse
import json
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch as th

from pyrl_sb3 import HerReplayBuffer, SACPolicy, algorithms

CASES = ("Pendulum-v1", "HalfCheetah-v5", "BipedalWalker-v3", "FetchPush-v4")


def model_of(module: Any, env_id: str, slots: int, policy: Any = None, **policy_kwargs: Any) -> Any:
    her = env_id.startswith("Fetch")
    policy_kwargs["net_arch"] = [256, 256]
    settings: dict[str, Any] = {"policy_kwargs": policy_kwargs, "batch_size": 256}
    if her:
        import gymnasium_robotics

        gym.register_envs(gymnasium_robotics)
        buffer = sb3.HerReplayBuffer if module is sb3 else HerReplayBuffer
        settings |= {"replay_buffer_class": buffer}
    model = module.SAC(
        policy or ("MultiInputPolicy" if her else "MlpPolicy"),
        gym.make(env_id),
        learning_starts=100,
        buffer_size=slots,
        seed=0,
        device="cpu",
        **settings,
    )
    if her:
        fill(model, slots)
    return model


def fill(model: Any, slots: int) -> None:
    """Random episodes of fifty steps, through the buffer's own ``add``."""
    space, rng = model.observation_space, np.random.default_rng(0)
    space.seed(0)
    pool = [{k: np.asarray(v)[None] for k, v in space.sample().items()} for _ in range(51)]
    actions = rng.uniform(-1, 1, (50, 1, *model.action_space.shape)).astype(np.float32)
    zero = np.zeros(1, np.float32)
    for i in range(slots - slots % 50):
        step = i % 50
        done = step == 49
        info = {"TimeLimit.truncated": done}
        model.replay_buffer.add(
            pool[step], pool[step + 1], actions[step], zero, np.array([done]), [info]
        )


def measure(env_id: str, rounds: int, steps: int, slots: int) -> dict[str, Any]:
    """Milliseconds per step of ``learn()`` and times SB3's speed: quartiles of each contestant."""
    models = {
        "SB3": model_of(sb3, env_id, slots),
        "SB3 with our policy": model_of(sb3, env_id, slots, SACPolicy),
        "and constant_critic": model_of(sb3, env_id, slots, SACPolicy, constant_critic=True),
        "ours": model_of(algorithms, env_id, slots),
    }
    if env_id.startswith("Fetch"):
        # Two buffers of SB3's with a million slots do not fit into most memories.
        del models["SB3 with our policy"], models["and constant_critic"]
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.learn(150)
    clock = time.process_time if th.get_num_threads() == 1 else time.perf_counter
    for _ in range(rounds):
        for name, model in models.items():
            start = clock()
            model.learn(steps, reset_num_timesteps=False)
            times[name].append((clock() - start) / steps * 1000)
    return {
        name: {
            "ms": statistics.quantiles(values, n=4),
            "speedup": statistics.quantiles(
                [a / b for a, b in zip(times["SB3"], values, strict=True)], n=4
            ),
        }
        for name, values in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200, help="per block")
    parser.add_argument("--slots", type=int, default=1_000_000, help="of the replay buffers")
    parser.add_argument("--envs", nargs="+", default=list(CASES))
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    results = {}
    print(f"SAC, {arguments.threads} thread(s), torch {th.__version__}, SB3 {sb3.__version__}\n")
    print("| environment | who | ms a step, median | quartiles | times SB3's speed | quartiles |")
    print("|---|---|---|---|---|---|")
    for env_id in arguments.envs:
        slots = arguments.slots if env_id.startswith("Fetch") else 100_000
        result = measure(env_id, arguments.blocks, arguments.steps, slots)
        results[env_id] = result
        for name, quartiles in result.items():
            low, median, high = quartiles["ms"]
            slow, usual, fast = quartiles["speedup"]
            numbers = f"{median:.2f} | {low:.2f}-{high:.2f} | {usual:.2f} | {slow:.2f}-{fast:.2f}"
            print(f"| {env_id} | {name} | {numbers} |", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"threads": arguments.threads, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
