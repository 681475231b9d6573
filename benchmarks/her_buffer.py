"""Replay buffers, ours and SB3's, interleaved in one run: bytes; add, sample, save and load.

Transitions have FetchPickAndPlace's shapes (observation 25, goals 3, action 4, 50-step episodes).
Each buffer holds `--slots` transitions, of which 1,000, 10% and all are filled. Every round times
all buffers in turn, so that a change of the machine's speed hits all of them: a block of samples,
or an episode added, from each. Printed are the medians of the blocks' means with quartiles, and the
ratio of the medians. With `--block 1` every sample follows work on other buffers and finds neither
code nor data in the cache, which costs the quicker buffer more. Saves go to a new file or folder in
the directory for temporary files, in at most 3 rounds; ours are flushed to the disk, SB3's are not.

    python benchmarks/her_buffer.py [--slots 1000000] [--rounds 20] [--block 10] [--json FILE]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer as SB3Her
from stable_baselines3.common.buffers import DictReplayBuffer as SB3Dict
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer

LENGTH = 50
FILE_ROUNDS = 3  # SB3 takes seconds
DIMS = {"observation": 25, "achieved_goal": 3, "desired_goal": 3}
Times = dict[str, list[float]]


class FetchShaped(gym.Env[Any, Any]):
    """The spaces and the reward of FetchPickAndPlace, without its physics."""

    def __init__(self) -> None:
        box = {k: spaces.Box(-np.inf, np.inf, (n,), np.float64) for k, n in DIMS.items()}
        self.observation_space = spaces.Dict(box)
        self.action_space = spaces.Box(-1, 1, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {k: np.zeros(n) for k, n in DIMS.items()}, {}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.05).astype(np.float32)

    def compute_terminated(self, achieved: Any, desired: Any, info: Any) -> bool:
        return False


class Source:
    """Endless episodes, made beforehand so that making them is not timed."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.steps = []
        for _ in range(20):
            goal = rng.normal(size=(1, 3))
            states = [
                {
                    "observation": rng.normal(size=(1, 25)),
                    "achieved_goal": rng.normal(size=(1, 3)),
                    "desired_goal": goal,
                }
                for _ in range(LENGTH + 1)
            ]
            for i in range(LENGTH):
                last = i == LENGTH - 1
                action = rng.uniform(-1, 1, (1, 4)).astype(np.float32)
                reward, done = np.array([-1.0], np.float32), np.array([last])
                info = [{"TimeLimit.truncated": last}]
                self.steps.append((states[i], states[i + 1], action, reward, done, info))
        self.next = 0

    def feed(self, buffer: Any, n: int) -> None:
        """Add `n` transitions."""
        for _ in range(n):
            buffer.add(*self.steps[self.next % len(self.steps)])
            self.next += 1


def timed(call: Callable[[], Any], block: int = 1) -> float:
    """Microseconds of a call, the mean over a block."""
    start = time.perf_counter()
    for _ in range(block):
        call()
    return (time.perf_counter() - start) * 1e6 / block


def resident() -> float:
    """Mebibytes of memory in use by this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def held(buffer: Any) -> int:
    """Bytes that a buffer holds: its arrays, and what SB3's HER keeps in dicts."""
    arrays: list[Any] = []
    if hasattr(buffer, "store"):
        store = buffer.store
        arrays = [store.actions, store.rewards, store.bits.words, store.bits.before]
        arrays += store.table.fields.values()
        for column in store.columns:
            arrays += [column.ring, column.pending]
        return sum(x.nbytes for x in arrays)
    for value in vars(buffer).values():
        arrays += value.values() if isinstance(value, dict) else [value]
    n_bytes = sum(x.nbytes for x in arrays if isinstance(x, np.ndarray))
    if hasattr(buffer, "infos"):
        n_bytes += buffer.infos.size * sys.getsizeof({})
    return n_bytes


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": median, "q25": low, "q75": high}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--block", type=int, default=10, help="samples timed together")
    parser.add_argument("--json", help="also write the results to this file")
    args = parser.parse_args()
    slots = args.slots

    env = DummyVecEnv([FetchShaped])
    space, action = env.observation_space, env.action_space
    classes: dict[str, Callable[[], Any]] = {
        "HER ours": lambda: HerReplayBuffer(slots, space, action, env=env),
        "HER sb3": lambda: SB3Her(slots, space, action, env=env),
        "Dict ours": lambda: DictReplayBuffer(slots, space, action),
        "Dict sb3": lambda: SB3Dict(slots, space, action),
    }
    results: dict[str, Any] = {"machine": machine(), "slots": slots, "rounds": args.rounds}
    print(" ".join(f"{key}={value}" for key, value in results["machine"].items()))
    buffers = constructed(classes, slots, results)
    measure(buffers, slots, args.rounds, args.block, results)
    half = HerReplayBuffer(slots, space, action, env=env, dtype="float16")
    Source().feed(half, slots)
    print_bytes({**buffers, "HER ours, float16": half}, slots, results)
    del half
    save_and_load(buffers, classes, slots, min(args.rounds, FILE_ROUNDS), results)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
    }


def constructed(
    classes: dict[str, Callable[[], Any]], slots: int, results: dict[str, Any]
) -> dict[str, Any]:
    """The buffers; print and keep what their construction took."""
    buffers = {}
    print(f"\nconstruction of {slots:,} slots       ms      MiB")
    for name, make in classes.items():
        before, start = resident(), time.perf_counter()
        buffers[name] = make()
        took, memory = (time.perf_counter() - start) * 1e3, resident() - before
        results[name] = {"construct_ms": took, "construct_mib": memory}
        print(f"{name:30} {took:10.2f} {memory:8.2f}")
    return buffers


def measure(
    buffers: dict[str, Any], slots: int, rounds: int, block: int, results: dict[str, Any]
) -> None:
    """Print and keep the times of adding and sampling, as the buffers fill."""
    normalize = VecNormalize(DummyVecEnv([FetchShaped]), norm_reward=False)
    sources = {name: Source() for name in buffers}
    # With all buffers full, stepping through one must not find the others' data in the cache.
    for filled in (1_000, slots // 10, slots):
        times: dict[str, Times] = {name: {} for name in buffers}
        for name, buffer in buffers.items():
            sources[name].feed(buffer, filled - buffer.size())
        for _ in range(rounds):
            for name, buffer in buffers.items():
                work = {
                    "sample(256)": lambda b=buffer: b.sample(256),
                    "sample(2048)": lambda b=buffer: b.sample(2048),
                    "sample(256, VecNormalize)": lambda b=buffer: b.sample(256, env=normalize),
                    "add": lambda b=buffer, s=sources[name]: s.feed(b, LENGTH),
                }
                if filled < slots:
                    del work["add"]  # it would change how much is filled
                for what, call in work.items():
                    adds = what == "add"
                    took = timed(call) / LENGTH if adds else timed(call, block)
                    times[name].setdefault(what, []).append(took)
        report(filled, times, results)
    small, large = (results["HER ours"][f"sample(256) at {n}"]["median"] for n in (1000, slots))
    print(
        f"\nHER ours, sample(256): {slots:,} filled takes {large / small:.2f} times "
        "what 1,000 filled take"
    )


def print_bytes(buffers: dict[str, Any], slots: int, results: dict[str, Any]) -> None:
    """Print and keep what a transition takes in full buffers."""
    print("\nbytes per transition, full")
    for name, buffer in buffers.items():
        label, _, dtype = name.partition(", ")
        key = f"bytes_{dtype}" if dtype else "bytes"
        results[label][key] = held(buffer) / slots
        print(f"{name:30} {results[label][key]:10.2f}")


def save_and_load(
    buffers: dict[str, Any],
    classes: dict[str, Callable[[], Any]],
    slots: int,
    rounds: int,
    results: dict[str, Any],
) -> None:
    """Print and keep sizes and times of files: of full buffers, deleted then, and of small ones."""
    heading = "{:,} saved: milliseconds, median [quartiles] of {} rounds; megabytes"
    print("\n" + heading.format(slots, rounds))
    saved(slots, buffers, classes, rounds, results)
    print("\n" + heading.format(slots // 100, rounds))
    for name, make in classes.items():
        del buffers[name]
        few = make()
        Source().feed(few, slots // 100)
        saved(slots // 100, {name: few}, classes, rounds, results)


def report(filled: int, times: dict[str, Times], results: dict[str, Any]) -> None:
    """Print and keep what was measured at this filling."""
    print(f"\n{filled:,} filled: microseconds, median [quartiles]")
    for what in times["HER ours"]:
        for kind in ("HER", "Dict"):
            for side in ("ours", "sb3"):
                name = f"{kind} {side}"
                results[name][f"{what} at {filled}"] = each = summary(times[name][what])
                spread = f"[{each['q25']:.0f} {each['q75']:.0f}]"
                print(f"{what:26} {name:10} {each['median']:10.1f} {spread:16}", end="")
            ratio = np.median(times[f"{kind} sb3"][what]) / np.median(times[f"{kind} ours"][what])
            print(f" sb3/ours {ratio:6.2f}")


def from_folder(make: Callable[[], Any], path: Path) -> Any:
    """Ours, construction included: SB3 unpickles a whole buffer."""
    buffer = make()
    buffer.load(path)
    return buffer


def bytes_of(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def saved(filled: int, buffers: Any, classes: Any, rounds: int, results: dict[str, Any]) -> None:
    """Print and keep sizes and times of saves as wholes, and of loads into new buffers."""
    folder = ("folder", lambda buffer, path: buffer.save(path), from_folder)
    # As SB3's `save_replay_buffer` and `load_replay_buffer`
    pickle = (
        "pickle",
        lambda buffer, path: save_to_pkl(path, buffer),
        lambda make, path: load_from_pkl(path),
    )
    each: dict[Any, tuple[Times, int]] = {}
    for _ in range(rounds):
        for name, buffer in buffers.items():
            for way, save, load in (folder, pickle) if name.endswith("ours") else (pickle,):
                with tempfile.TemporaryDirectory() as parent:
                    path = Path(parent, f"buffer.{way}")
                    times, _ = each.setdefault((name, way), ({"save": [], "load": []}, 0))
                    times["save"].append(timed(lambda s=save, b=buffer, p=path: s(b, p)) / 1e3)
                    make = classes[name]
                    times["load"].append(timed(lambda r=load, m=make, p=path: r(m, p)) / 1e3)
                    each[name, way] = times, bytes_of(path)
    for (name, way), (times, size) in each.items():
        print(f"{name:10} {way:8}", end="")
        for what, values in times.items():
            results[name][f"{what} {way} at {filled}, ms"] = some = summary(values)
            spread = f"[{some['q25']:.1f} {some['q75']:.1f}]"
            print(f" {what} {some['median']:9.1f} {spread:18}", end="")
        results[name][f"{way} at {filled}, MB"] = size / 1e6
        print(f" {size / 1e6:8.2f}")


if __name__ == "__main__":
    main()
