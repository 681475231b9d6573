"""
Discrete actions: hindsight on bit-flipping, and LunarLander and CartPole, from shipped configs.

    python benchmarks/discrete.py [--out discrete] [--only her-dqn/BitFlipping-v0 ...] [--seeds 0 1]
    python benchmarks/discrete.py --out discrete --json docs/discrete.json
    python benchmarks/discrete.py --out docs/discrete.json --plot docs/images/bit_flipping.png

Each run leaves a JSON file in the folder, and is skipped where that is there; a run that was
stopped goes on from its checkpoint. One thread. `sb3-dqn` is SB3's own DQN, policy and buffer, with
the values of RL Zoo, which are those of the shipped dqn.yml.
"""

import argparse
import json
import statistics
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from pyrl_sb3.config import read_experiment
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.folders import BEST_MODEL, MODEL, runs_of
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out
from pyrl_sb3.training.unfinished import has_checkpoint

FIVE, THREE = range(5), range(3)
CASES = {
    "her-dqn/BitFlipping-v0": FIVE,
    "dqn/BitFlipping-v0": FIVE,
    "sac-discrete/CartPole-v1": THREE,
    "qrdqn/CartPole-v1": THREE,
    "sb3-dqn/CartPole-v1": THREE,
    "sac-discrete/LunarLander-v3": THREE,
    "qrdqn/LunarLander-v3": THREE,
    "sb3-dqn/LunarLander-v3": THREE,
}
EPISODES, EVALUATIONS = 100, 20  # of the models in the end, while training


def episodes(env_id: str) -> int:
    """Of an evaluation while training; those of bit-flipping are short."""
    return 20 if env_id == "BitFlipping-v0" else 10


def ours(agent: str, env_id: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train, or go on, and try out the last and the best model."""
    earlier = runs_of(folder, env_id) if folder.is_dir() else []
    if earlier and has_checkpoint(earlier[-1]):
        result = resume(earlier[-1])
    else:
        request = TrainingRequest(
            agent=agent,
            env_id=env_id,
            seed=seed,
            threads=1,
            save=folder,
            eval_episodes=episodes(env_id),
        )
        result = train(request)
    if result.stopped_by:
        raise SystemExit(128 + result.stopped_by)
    run = result.folder
    found = {}
    for name, file in (("last", MODEL), ("best", BEST_MODEL)):
        trial = TrialRequest(
            agent=agent, env_id=env_id, path=run / file, episodes=EPISODES, seed=10_000
        )
        evaluation = try_out(trial)
        found[name] = {"return": float(evaluation.returns.mean())}
        found[name]["std"] = float(evaluation.returns.std())
        if evaluation.success_rate is not None:
            found[name]["success"] = evaluation.success_rate
    return {**found, "curve": curve(run / "evaluations.npz")}


def stock(env_id: str, seed: int, folder: Path) -> dict[str, Any]:
    """SB3's DQN, with nothing of this package in it."""
    experiment = read_experiment(packaged_config("dqn"), "dqn", env_id)
    timesteps = experiment.n_timesteps
    assert timesteps is not None
    env, eval_env = Monitor(gym.make(env_id)), Monitor(gym.make(env_id))
    eval_env.reset(seed=seed + 1)
    callback = EvalCallback(
        eval_env,
        n_eval_episodes=episodes(env_id),
        eval_freq=timesteps // EVALUATIONS,
        best_model_save_path=str(folder),
        log_path=str(folder),
        verbose=0,
    )
    model = sb3.DQN("MlpPolicy", env, seed=seed, device="cpu", **experiment.arguments)
    model.learn(timesteps, callback=callback)
    found = {}
    for name, each in (("last", model), ("best", sb3.DQN.load(folder / BEST_MODEL, eval_env))):
        eval_env.reset(seed=10_000)
        returns, _ = evaluate_policy(each, eval_env, EPISODES, return_episode_rewards=True)
        found[name] = {"return": float(np.mean(returns)), "std": float(np.std(returns))}
    return {**found, "curve": curve(folder / "evaluations.npz")}


def curve(path: Path) -> list[tuple[int, float]]:
    """Steps, and the success rate or mean return of the evaluation then."""
    with np.load(path) as evaluations:
        name = "successes" if "successes" in evaluations else "results"
        means = evaluations[name].mean(axis=1)
        return list(zip(evaluations["timesteps"].tolist(), means.tolist(), strict=True))


def run_all(out: Path, cases: list[str], seeds: list[int] | None) -> None:
    th.set_num_threads(1)
    for case in cases:
        agent, env_id = case.split("/")
        for seed in seeds if seeds is not None else CASES[case]:
            name = f"{agent}_{env_id}_{seed}"
            file = out / f"{name}.json"
            if file.is_file():
                continue
            folder = out / "runs" / name
            is_ours = agent in AGENTS
            found = ours(agent, env_id, seed, folder) if is_ours else stock(env_id, seed, folder)
            file.write_text(json.dumps({"case": case, "seed": seed, **found}))
            print(f"{name}: last {found['last']}, best {found['best']}", flush=True)


def results(out: Path) -> list[dict[str, Any]]:
    """All runs of a folder, or of the file that ``--json`` made of one, in the order of `CASES`."""
    if out.is_file():
        found = json.loads(out.read_text())
    else:
        found = [json.loads(file.read_text()) for file in out.glob("*_*.json")]
    return sorted(found, key=lambda run: (list(CASES).index(run["case"]), run["seed"]))


def in_one_file(found: list[dict[str, Any]]) -> str:
    """A line for each run."""
    lines = []
    for run in found:
        curve = [[steps, round(value, 3)] for steps, value in run["curve"]]
        lines.append(json.dumps({**run, "curve": curve}))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def table(found: list[dict[str, Any]]) -> str:
    """In markdown: the mean over the seeds, then each seed."""
    lines = ["| case | steps | last model | best model |", "|---|---|---|---|"]
    for case, runs in groupby(found, key=itemgetter("case")):
        seeds = list(runs)
        key = "success" if "success" in seeds[0]["last"] else "return"
        cells = [
            f"{seeds[0]['curve'][-1][0]:,}",
            *(over_seeds([run[name][key] for run in seeds]) for name in ("last", "best")),
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def over_seeds(values: list[float]) -> str:
    return f"**{statistics.mean(values):.4g}** ({', '.join(f'{each:.4g}' for each in values)})"


def plot(found: list[dict[str, Any]], picture: Path) -> None:
    """Bit-flipping: the mean over seeds, and each seed."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3), dpi=110, layout="constrained")
    for case, colour, label in (
        ("her-dqn/BitFlipping-v0", "C0", "HER + DQN"),
        ("dqn/BitFlipping-v0", "C1", "DQN"),
    ):
        curves = [np.array(run["curve"]) for run in found if run["case"] == case]
        for each in curves:
            axes.plot(each[:, 0], each[:, 1], color=colour, alpha=0.25, linewidth=1)
        if curves:
            shared = min(map(len, curves))
            mean = np.mean([each[:shared] for each in curves], axis=0)
            axes.plot(*mean.T, color=colour, label=f"{label}, {len(curves)} seeds")
    axes.set(xlabel="environment steps", ylabel="success rate", ylim=(-0.03, 1.03))
    axes.set_title("Bit-flipping, 30 bits")
    axes.legend(loc="center right")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("discrete"))
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--plot", type=Path, help="draw bit-flipping, of what is there")
    parser.add_argument("--json", type=Path, help="put what is there into one file")
    arguments = parser.parse_args()
    if not (arguments.plot or arguments.json):
        if arguments.out.is_file():
            parser.error(f"--out {arguments.out} is a file: runs go to a folder")
        arguments.out.mkdir(parents=True, exist_ok=True)
        run_all(arguments.out, arguments.only, arguments.seeds)
    found = results(arguments.out)
    if arguments.plot:
        plot(found, arguments.plot)
    if arguments.json:
        arguments.json.write_text(in_one_file(found))
    print(table(found))


if __name__ == "__main__":
    main()
