"""
Tasks from the shipped configs until they are solved: steps and seconds, seed by seed.

    python benchmarks/solve.py sac/Pendulum-v1 --seeds 10
    python benchmarks/solve.py sac/Pendulum-v1 --seeds 3 --stock
    python benchmarks/solve.py sac/Pendulum-v1 --seeds 3 --label slow --set learning_rate=0.001
    python benchmarks/solve.py --table

A run ends when the threshold holds over the evaluation episodes of its task, which begin alike each
time, or when it has had its steps. What came of each seed is a JSON file in --out. A seed that is
finished is skipped, one that was stopped goes on from its last checkpoint. --stock is SB3 without
anything of this package, with the RL Zoo's own entry. One thread. --table writes the tables of
docs/results.md, docs/settings.md and README.md from the files (`benchmarks/solved.py`).
"""

import argparse
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import stable_baselines3 as sb3
import torch as th
from solved import RESULTS, plot, read_results, write_tables
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from until_solved import STARTS, Task, UntilSolved

from pyrl_sb3.config import Experiment, read_experiment
from pyrl_sb3.training.environments import env_spec, vector_env
from pyrl_sb3.training.folders import runs_of
from pyrl_sb3.training.hyperparams import experiment_of, for_goals
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.unfinished import has_checkpoint

ZOO = Path(__file__).parents[1] / "tests" / "config" / "zoo"


PENDULUM = Task(-155, 20_000, 500, episodes=200, quick=50, slack=15)
MOUNTAIN_CAR = Task(93, 50_000, 1_000, slack=0.5)
LANDER = Task(270, 150_000, 5_000, save_freq=25_000)
# This does not solve it: SB3 and ours are compared by how soon they get so far.
CHEETAH = Task(
    4_000, 100_000, 5_000, episodes=20, quick=5, slack=200, save_freq=25_000, zoo="HalfCheetah-v4"
)
WALKER = Task(300, 500_000, 10_000, slack=5, save_freq=50_000)
REACH = Task(1.0, 20_000, 250, slack=0.051, success=True, zoo="FetchReach-v1")
FETCH = Task(0.95, 1_000_000, 10_000, slack=0.1, success=True, save_freq=50_000)
PICK_AND_PLACE = replace(FETCH, threshold=0.9)
# The standard error of 100 episodes is 0.25, which is as much as is to be told apart here.
PARKING = Task(-6.8, 100_000, 10_000, episodes=500, quick=50, slack=0.5, save_freq=25_000)
TASKS = {
    "sac/Pendulum-v1": PENDULUM,
    "td3/Pendulum-v1": PENDULUM,
    "sac/MountainCarContinuous-v0": MOUNTAIN_CAR,
    "td3/MountainCarContinuous-v0": MOUNTAIN_CAR,
    "sac/LunarLanderContinuous-v3": LANDER,
    "tqc/LunarLanderContinuous-v3": LANDER,
    "sac/HalfCheetah-v5": CHEETAH,
    "sac/BipedalWalker-v3": WALKER,
    "td3/BipedalWalker-v3": WALKER,
    "ddpg/BipedalWalker-v3": Task(280, 1_000_000, 20_000, slack=5, save_freq=50_000),
    "her-sac/FetchReach-v4": REACH,
    "her-sac/FetchPush-v4": FETCH,
    "her-td3/FetchPush-v4": FETCH,
    "her-sac/FetchPickAndPlace-v4": PICK_AND_PLACE,
    "her-td3/FetchPickAndPlace-v4": PICK_AND_PLACE,
    "her-sac/parking-v0": PARKING,
}


def testing(case: Task, env_id: str, experiment: Experiment) -> VecEnv:
    """Where a run is evaluated."""
    normalize = None
    if experiment.normalize is not None:
        keywords = {**experiment.normalize, "training": False, "norm_reward": False}
        normalize = lambda env: VecNormalize(env, **keywords)  # noqa: E731
    return vector_env(env_id, case.quick, STARTS, experiment, training=False, normalize=normalize)


def ours(request: TrainingRequest, case: Task, file: Path, facts: dict[str, Any]) -> None:
    """Train, or go on."""
    experiment = experiment_of(request)
    if request.agent.startswith("her-"):
        experiment = for_goals(experiment)
    test = testing(case, request.env_id, experiment)
    callback = UntilSolved(case, test, file, facts)
    assert request.save is not None
    earlier = runs_of(request.save, request.env_id) if request.save.is_dir() else []
    if earlier and has_checkpoint(earlier[-1]):
        result = resume(earlier[-1], callbacks=[callback])
    else:
        file.unlink(missing_ok=True)
        result = train(request, [callback])
    test.close()
    if result.stopped_by:
        raise SystemExit(128 + result.stopped_by)


def stock(agent: str, env_id: str, seed: int, case: Task, file: Path, facts: Any) -> None:
    """SB3 with the zoo's entry, and nothing of this package in it but the environments' opening."""
    bare = agent.removeprefix("her-")
    experiment = read_experiment(ZOO / f"{bare}.yml", bare, case.zoo or env_id)
    assert experiment.source.endswith(case.zoo or env_id), f"no entry in {experiment.source}"
    env = vector_env(env_id, 1, seed, experiment)
    if experiment.normalize is not None:
        env = VecNormalize(env, **experiment.normalize)
    keywords = experiment.model_arguments(env.action_space.shape or ())
    if "replay_buffer_class" in keywords:
        keywords["replay_buffer_class"] = sb3.HerReplayBuffer
    model = getattr(sb3, bare.upper())(env=env, seed=seed, device="cpu", **keywords)
    test = testing(case, env_id, experiment)
    file.unlink(missing_ok=True)
    model.learn(case.limit, callback=UntilSolved(case, test, file, facts), log_interval=None)
    test.close()


def run(arguments: argparse.Namespace, seed: int) -> None:
    """One seed, unless it is there."""
    agent, env_id = arguments.task.split("/")
    label = "stock" if arguments.stock else arguments.label
    name = f"{agent}_{env_id}_{label}_{seed}"
    file, case = arguments.out / f"{name}.json", TASKS[arguments.task]
    limit = arguments.limit or case.limit
    if file.is_file():
        there = json.loads(file.read_text())
        if there["solved"] or there["curve"][-1][0] >= limit:
            return
    case = replace(case, limit=limit)
    facts = {"task": arguments.task, "label": label, "set": arguments.set, "seed": seed}
    facts["threshold"] = case.threshold
    env_spec(env_id)  # registers those of other packages
    if arguments.stock:
        stock(agent, env_id, seed, case, file, facts)
        return
    request = TrainingRequest(
        agent=agent,
        env_id=env_id,
        seed=seed,
        threads=1,
        timesteps=limit,
        save=arguments.runs / name,
        overrides=tuple(arguments.set),
        eval_freq=0,
        eval_episodes=1,
        save_freq=case.save_freq,
        keep_last=1,
    )
    ours(request, case, file, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("task", nargs="?", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs/solve"), help="the runs' folders")
    parser.add_argument("--stock", action="store_true", help="SB3 with the zoo's entry")
    parser.add_argument("--label", default="shipped", help="of a variant")
    parser.add_argument("--set", action="append", default=[], help="as for the commands")
    parser.add_argument("--limit", type=int, help="environment steps [default: the task's]")
    parser.add_argument("--table", action="store_true", help="write the tables, run nothing")
    parser.add_argument("--plot", type=Path, help="draw the learning curves of TASK, run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        write_tables(arguments.out)
        return
    if not arguments.task:
        parser.error("name a TASK, or --table")
    if arguments.plot:
        plot(read_results(arguments.out), arguments.task, arguments.plot)
        return
    if arguments.set and arguments.label == "shipped":
        parser.error("--set needs a --label")
    th.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            run(arguments, seed)


if __name__ == "__main__":
    main()
