"""
FetchPickAndPlace-v4 with 100 scripted demonstrations, and without: environment steps until at
least 90 of 100 evaluation episodes succeed.

    python benchmarks/demonstrations.py --seeds 0 1 2 --out runs/demonstrations
    python benchmarks/demonstrations.py --seeds 0 1 2 --without --out runs/demonstrations

Runs one seed after the other, until it succeeds or has had its steps. A run that is interrupted
goes on from its last checkpoint, one that failed does when it is given more steps.
`<out>/results.json` holds what came out.
"""

import argparse
import json
import os
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3 import SAC, TD3, HerReplayBuffer
from pyrl_sb3.config import read_experiment
from pyrl_sb3.training.demos import record
from pyrl_sb3.training.environments import env_spec, vector_env
from pyrl_sb3.training.hyperparams import packaged_config

ENV, SOLVED, EPISODES = "FetchPickAndPlace-v4", 0.9, 100
IN_THE_AIR = 0.46  # metres; goals on the table are at 0.42
EVERY = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--agent", default="her-sac", choices=["her-sac", "her-td3"])
    parser.add_argument("--without", action="store_true", help="no demonstrations")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=150_000, help="environment steps")
    parser.add_argument("--set", action="append", default=[], help="as for the commands")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    env_spec(ENV)  # registers it
    demos = args.out / "demonstrations.npz"
    if not demos.exists():
        record(ENV, "scripted", demos, seed=10_000)
    for seed in args.seeds:
        run(args, seed, None if args.without else demos)


def run(args: Any, seed: int, demos: Path | None) -> None:
    name = f"{args.agent}-{'without' if demos is None else 'with'}-{seed}"
    results = args.out / "results.json"
    overrides = [*args.set, *([f"demonstrations={demos}"] if demos else [])]
    experiment = read_experiment(packaged_config(args.agent), args.agent, ENV, overrides=overrides)
    outcome = read(results).get(name, {"curve": [], "seconds": 0.0})
    if over(outcome, args.limit):
        return
    model, outcome = started(args, name, seed, experiment)
    env = vector_env(ENV, 1, 1000 + seed, experiment, training=False)
    test = VecNormalize(env, training=False)
    while not over(outcome, args.limit):
        begin = process_time()
        model.learn(EVERY, reset_num_timesteps=model.num_timesteps == 0, log_interval=None)
        outcome["seconds"] += process_time() - begin
        assess(model, test, outcome, args.limit)
        results.write_text(json.dumps({**read(results), name: outcome}, indent=1))
        if model.num_timesteps % (4 * EVERY) == 0 or over(outcome, args.limit):
            checkpoint(model, args.out / name, outcome)


def read(results: Path) -> dict[str, Any]:
    return json.loads(results.read_text()) if results.exists() else {}


def over(outcome: dict[str, Any], limit: int) -> bool:
    steps = outcome["curve"][-1][0] if outcome["curve"] else 0
    return outcome.get("success", 0.0) >= SOLVED or steps >= limit


def started(args: Any, name: str, seed: int, experiment: Any) -> tuple[Any, dict[str, Any]]:
    """The model as it was last saved, or a new one."""
    kind = {"her-sac": SAC, "her-td3": TD3}[args.agent]
    folder = args.out / name
    env = vector_env(ENV, 1, seed, experiment)
    if (folder / "progress.json").exists():
        env = VecNormalize.load(str(folder / "statistics.pkl"), env)
        model = kind.load(folder / "model.zip", env=env)
        model.load_replay_buffer(folder / "buffer")
        return model, json.loads((folder / "progress.json").read_text())
    normalize = experiment.normalize or {"norm_reward": False, "clip_obs": 5.0}
    env = VecNormalize(env, **normalize)
    keywords = {**experiment.model_arguments(4), "replay_buffer_class": HerReplayBuffer}
    model = kind(env=env, seed=seed, **keywords)
    return model, {"curve": [], "seconds": 0.0}


def assess(model: Any, test: VecNormalize, outcome: dict[str, Any], limit: int) -> None:
    """A quick look; 100 episodes where that is promising, or when time is up."""
    test.obs_rms = model.get_vec_normalize_env().obs_rms
    test.clip_obs = model.get_vec_normalize_env().clip_obs
    quick, _ = success(model, test, 20)
    outcome["curve"].append([model.num_timesteps, round(quick, 3)])
    print(model.num_timesteps, f"{quick:.2f}, {outcome['seconds']:.0f} s", flush=True)
    if quick >= SOLVED or model.num_timesteps >= limit:
        overall, air = success(model, test, EPISODES)
        print(f"  over {EPISODES} episodes: {overall:.2f}, in the air {air:.2f}", flush=True)
        outcome.update(steps=model.num_timesteps, success=overall, in_the_air=air)


def success(model: Any, test: VecNormalize, episodes: int) -> tuple[float, float]:
    """The share of episodes that end in success: of all, and of those with a goal in the air."""
    ends, air = [], []
    obs = test.reset()
    while len(ends) < episodes:
        high = test.get_original_obs()["desired_goal"][0, 2] > IN_THE_AIR
        obs, _, dones, infos = test.step(model.predict(obs, deterministic=True)[0])
        if dones[0]:
            ends.append(bool(infos[0]["is_success"]))
            air.append(high)
    return float(np.mean(ends)), float(np.mean(np.array(ends)[np.array(air)]))


def checkpoint(model: Any, folder: Path, outcome: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.zip")
    model.save_replay_buffer(folder / "buffer")
    model.get_vec_normalize_env().save(str(folder / "statistics.pkl"))
    part = folder / "progress.json.part"
    part.write_text(json.dumps(outcome))
    os.replace(part, folder / "progress.json")


if __name__ == "__main__":
    main()
