"""`pyrl demos record`, and trainings with what it writes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pyrl_sb3.buffers.demofiles import load_demonstrations, save_demonstrations
from pyrl_sb3.buffers.demonstrations import Demonstrations, Episode
from pyrl_sb3.cli.app import run
from pyrl_sb3.training.demos import record
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import train

pytest.importorskip("gymnasium_robotics")


@pytest.fixture(scope="module")
def reaching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "reach.npz"
    recording = record("FetchReach-v4", "scripted", path, episodes=3, seed=3)
    assert (recording.success_rate, recording.kept, recording.steps) == (1.0, 3, 150)
    return path


@pytest.mark.parametrize("name", ["FetchPush", "FetchPickAndPlace"])
def test_the_scripts_solve_their_tasks(name: str, tmp_path: Path) -> None:
    path = tmp_path / "demos.npz"
    recording = record(f"{name}-v4", "scripted", path, episodes=6, seed=0)
    assert recording.success_rate is not None
    assert recording.success_rate >= 5 / 6
    demos = load_demonstrations(path)
    assert demos.env_id == f"{name}-v4"
    # What was recorded is what was rewarded: 0 at the goal, -1 away from it.
    for episode in demos.episodes:
        away = episode.observations["achieved_goal"] - episode.observations["desired_goal"]
        at_goal = np.linalg.norm(away[1:], axis=1) < 0.05
        assert (at_goal == (episode.rewards == 0)).mean() > 0.95  # rounding at 5 cm


def test_the_same_seed_records_the_same(reaching: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    record("FetchReach-v4", "scripted", again, episodes=3, seed=3)
    one, other = (np.load(path) for path in (reaching, again))
    assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_commands_from_recording_to_training(
    reaching: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pyrl"])
    train = ["her-sac-train", "FetchReach-v4", "--demos", str(reaching), "--timesteps", "305"]
    few = ["--seed", "1", "--eval-freq", "0", "--eval-episodes", "1"]
    settings = [
        "--set",
        "policy_kwargs.net_arch=[16]",
        "--set",
        "demonstration_kwargs.warm_start=5",
    ]
    assert run([*train, *few, *settings]) == 0
    model = tmp_path / "her-sac" / "FetchReach-v4_1"
    capsys.readouterr()
    # And back: the trained agent is recorded, normalised observations and all.
    keep = ["--failures", "--episodes", "1", "--out", "own.npz"]
    assert run(["demos", "record", "FetchReach-v4", "--policy", str(model), *keep]) == 0
    assert "written: own.npz, 1 episode, 50 steps" in capsys.readouterr().out
    demos = load_demonstrations(tmp_path / "own.npz")
    assert demos.episodes[0].observations["observation"][0, 0] == pytest.approx(1.34, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demos", "record", "Pendulum-v1"], "no script for Pendulum-v1, only for FetchReach"),
        (
            ["demos", "record", "FetchReach-v4", "--policy", "x"],
            "neither `scripted` nor the folder",
        ),
        (
            ["demos", "record", "FetchReach-v4", "--out", "no/x.npz"],
            "--out no/x.npz: cannot write to no",
        ),
        (["demos", "record", "FetchReach-v4", "--episodes", "0"], "must be at least 1"),
        (["her-sac-train", "FetchReach-v4", "--demos", "none.npz"], "none.npz: no such file"),
        (
            ["her-sac-train", "FetchPush-v4", "--demos", "REACH"],
            "recorded in FetchReach-v4, not in",
        ),
        (["sac-train", "Pendulum-v1", "--demos", "REACH"], "recorded in FetchReach-v4, not in"),
        (["her-td3-train", "FetchReach-v4", "--demos", "REACH", "--stock"], "leave out --stock"),
        (
            ["her-tqc-train", "FetchReach-v4", "--demos", "REACH"],
            "--demos: TQC learns from no demonstrations",
        ),
        (
            ["her-td3-train", "FetchReach-v4", "--demos", "REACH", "--set", "batch_size=1"],
            "batch_size=1 has no room for demonstrations: at least 2",
        ),
        (
            [
                *("td3-train", "FetchReach-v4", "--demos", "REACH", "--set"),
                "replay_buffer_class=stable_baselines3.common.buffers.DictReplayBuffer",
            ],
            "need a replay buffer of pyrl_sb3, not stable_baselines3.common.buffers.DictReplay",
        ),
    ],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    reaching: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([str(reaching) if each == "REACH" else each for each in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def few_steps(agent: str, env_id: str, save: Path, *settings: str) -> TrainingRequest:
    given = {"agent": agent, "env_id": env_id, "save": save, "overrides": settings}
    return TrainingRequest(**given, timesteps=20, eval_episodes=1, eval_freq=0)  # type: ignore[arg-type]


def test_discrete_actions_are_not_recorded(tmp_path: Path) -> None:
    folder = train(few_steps("dqn", "CartPole-v1", tmp_path / "dqn")).folder
    with pytest.raises(InputError, match=r"continuous actions, CartPole-v1 has Discrete\(2\)"):
        record("CartPole-v1", str(folder), tmp_path / "demos.npz")
    assert not (tmp_path / "demos.npz").exists()


def test_a_folder_of_several_seeds_is_no_policy(tmp_path: Path) -> None:
    for name in ("seed_0", "seed_1"):
        (tmp_path / "group" / name).mkdir(parents=True)
        (tmp_path / "group" / name / "run.yml").touch()
    (tmp_path / "group" / "seeds.yml").touch()
    expected = r"group is no run's folder: it has no run\.yml; in it are seed_0, seed_1$"
    with pytest.raises(InputError, match=expected):
        record("Pendulum-v1", str(tmp_path / "group"), tmp_path / "demos.npz")


def test_training_with_returns_of_several_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episode = Episode(
        observations={"observation": rng.normal(size=(21, 3))},
        actions=rng.uniform(-2, 2, (20, 1)),
        rewards=np.zeros(20),
    )
    path = tmp_path / "demos.npz"
    save_demonstrations(Demonstrations(episodes=[episode], source="x"), path)
    settings = [f"demonstrations={path}", "n_steps=3", "learning_starts=10", "batch_size=8"]
    request = few_steps("td3", "Pendulum-v1", tmp_path / "td3", *settings)
    assert train(request).timesteps == 20
