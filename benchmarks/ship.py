"""
Put the agent of a run into the package, for `--pretrained`.

    python benchmarks/ship.py her-sac/FetchReach-v4_1 --best

What acting needs is kept, weights in half precision, optimisers left out. Beside the model are the
run's config and `made.yml`: the command, the versions, and the result of the shipped agent in
--episodes episodes.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch as th
import yaml

from pyrl_sb3.training.facts import read_facts
from pyrl_sb3.training.folders import BEST_MODEL, MODEL, statistics_file, write_whole
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.pretrained import FOLDER
from pyrl_sb3.training.trial import TrialRequest, try_out

DATA, POLICY = "data", "policy.pth"
# Beyond this, only the keys remain of a model's data: they tell its algorithm.
FOR_ACTING = {
    *("policy_class", "policy_kwargs", "observation_space", "action_space"),
    *("use_sde", "num_timesteps"),
}
MOST = 2**20  # bytes


def keep_for_acting(model: Path, target: Path) -> None:
    """Write the part of a saved model that acting needs."""
    with zipfile.ZipFile(model) as archive:
        data = json.loads(archive.read(DATA))
        weights = th.load(io.BytesIO(archive.read(POLICY)), weights_only=True)
    kept = {key: value if key in FOR_ACTING else None for key, value in data.items()}
    halves = io.BytesIO()
    th.save({name: tensor.half() for name, tensor in weights.items()}, halves)

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(DATA, json.dumps(kept))
            archive.writestr(POLICY, halves.getvalue())

    write_whole(target, write)
    if target.stat().st_size > MOST:
        raise SystemExit(f"{target}: {target.stat().st_size} bytes are more than {MOST}")


def portable(config: str) -> str:
    """A config without the folder that its demonstrations were in."""
    entries = yaml.safe_load(config)
    for entry in entries.values():
        if "demonstrations" in entry:
            entry["demonstrations"] = Path(entry["demonstrations"]).name
    return str(yaml.safe_dump(entries, sort_keys=False))


def result_of(agent: str, env_id: str, model: Path, episodes: int) -> dict[str, Any]:
    """How good the shipped agent is."""
    request = TrialRequest(agent=agent, env_id=env_id, path=model, episodes=episodes, seed=10_000)
    evaluation = try_out(request)
    found: dict[str, Any] = {"episodes": episodes, "seed": request.seed}
    found["mean_return"] = round(float(evaluation.returns.mean()), 3)
    if evaluation.success_rate is not None:
        found["success_rate"] = evaluation.success_rate
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("run", type=Path, help="its folder")
    parser.add_argument("--best", action="store_true", help="the best model of its evaluations")
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    facts = read_facts(arguments.run)
    agent, env_id = facts.request.agent, facts.request.env_id
    model = arguments.run / (BEST_MODEL if arguments.best else MODEL)
    target = FOLDER / agent / env_id
    target.mkdir(parents=True, exist_ok=True)
    keep_for_acting(model, target / MODEL)
    (target / CONFIG).write_text(portable((arguments.run / CONFIG).read_text("utf-8")), "utf-8")
    statistics = statistics_file(model)
    if statistics.is_file():
        statistics_file(target / MODEL).write_bytes(statistics.read_bytes())
    command = yaml.safe_load((arguments.run / "run.yml").read_text())["command"]
    made = {
        "command": " ".join(["pyrl", *command[1:]]),
        "model": model.name,
        "versions": dict(facts.versions),
        "result": result_of(agent, env_id, target / MODEL, arguments.episodes),
    }
    (target / "made.yml").write_text(yaml.safe_dump(made, sort_keys=False), "utf-8")
    print(yaml.safe_dump(made["result"]).strip())


if __name__ == "__main__":
    main()
