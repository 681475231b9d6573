"""The commands end to end, on environments small enough for a unit test."""

import csv
import io
import re
import signal
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from gymnasium.envs.registration import EnvSpec

AGENTS = {
    **dict.fromkeys(("sac", "td3", "ddpg", "tqc", "crossq"), "Pendulum-v1"),
    **dict.fromkeys(("her-sac", "her-td3", "her-ddpg", "her-tqc", "her-crossq"), "FetchReach-v4"),
}
# Past the random steps, so that gradient steps are taken.
TINY = {
    "env_kwargs.max_episode_steps": 20,
    "policy_kwargs.net_arch": "[16]",
    "batch_size": 16,
    "learning_starts": 25,
    "train_freq": 1,
}


class Undrawn(gym.Env):
    """Takes no `render_mode`."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 0.0, self.steps == 9, False, {}


QUICK = ("--timesteps", 60, "--eval-episodes", 1, "--seed", 1)


def said(outcome, label):
    (line,) = [line for line in outcome.out.splitlines() if label in line]
    return line.partition(label)[2].strip()


def weights(model):
    with zipfile.ZipFile(model) as archive:
        return th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def test_that_a_training_is_too_short_to_learn_is_said(pyrl):
    trained = pyrl("td3-train", "Pendulum-v1", *QUICK, "--set", "learning_starts=60")
    assert "no gradient step is taken in 60 steps: learning_starts is 60" in trained.out


@pytest.mark.learning
def test_saved_models_do_in_a_fresh_interpreter_what_they_did_when_trained(
    pyrl, fresh_pyrl, folder
):
    trained, lines = {}, []
    tiny = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    for agent, env in AGENTS.items():
        line = ("--timesteps", 40, "--seed", 5, "--eval-episodes", 2, *tiny)
        trained[agent] = pyrl(f"{agent}-train", env, *line)
        assert (trained[agent].code, trained[agent].err) == (0, "")
        assert "no gradient step is taken" not in trained[agent].out
        run = folder / agent / f"{env}_1"
        assert {path.name for path in run.iterdir()} >= {"model.zip", "0.monitor.csv", "run.yml"}
        assert (run / "vecnormalize.pkl").exists() == agent.startswith("her-")
        # A run's last evaluation is in an environment with the seed after its own.
        lines.append([f"{agent}-test", env, "--seed", "6", "--episodes", "2"])
    tested = fresh_pyrl(
        "--version", before=f"from pyrl_sb3.cli.app import run\nfor a in {lines}: assert not run(a)"
    )
    assert (tested.code, tested.err) == (0, "")
    found = re.findall("2 episodes: (.*)", tested.out)
    assert found == [said(outcome, "final evaluation:") for outcome in trained.values()]
    assert ["success rate" in text for text in found] == [name[:4] == "her-" for name in AGENTS]


def test_evaluations_in_between_are_kept_with_the_best_model(pyrl, folder):
    outcome = pyrl("her-td3-train", "FetchReach-v4", *QUICK, "--eval-freq", 30)
    run = folder / "her-td3" / "FetchReach-v4_1"
    with np.load(run / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [30, 60]
        assert saved["results"].shape == saved["successes"].shape == (2, 1)
    assert "evaluation after 30 steps: return -" in outcome.out
    assert (run / "best_vecnormalize.pkl").exists()
    # Its files are those that the page for beginners lists.
    page = (Path(__file__).parents[2] / "docs" / "start.md").read_text()
    listing = page.partition("The training leaves\n")[2].partition("\n## ")[0]
    left = {path.name.partition(".tfevents")[0] for path in run.iterdir()}
    assert {name for name in left if name not in listing} == set()
    best = ("her-td3-test", "FetchReach-v4", run / "best_model.zip", "--episodes", 1)
    assert pyrl(*best).code == 0


def test_a_second_run_leaves_the_first_alone_and_is_the_one_tested(pyrl, folder):
    pyrl("td3-train", "Pendulum-v1", *QUICK)
    first = folder / "td3" / "Pendulum-v1_1"
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    pyrl("td3-train", "Pendulum-v1", *QUICK[:-1], 2)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    line = ("td3-test", "Pendulum-v1", "--episodes", 1)
    latest, older = pyrl(*line), pyrl(*line, first)
    assert latest.out == pyrl(*line, "td3/Pendulum-v1_2").out != older.out


def test_log_dir_has_a_folder_for_each_algorithm(pyrl, folder):
    done = pyrl("td3-train", "Pendulum-v1", *QUICK, "--log-dir", "logs")
    assert done.code == 0
    assert (folder / "logs/td3/Pendulum-v1_1/model.zip").is_file()
    refused = pyrl("td3-train", "Pendulum-v1", *QUICK, "--log-dir", "logs", "--save", "there")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "give one of them" in refused.err
    assert not (folder / "there").exists()


@pytest.mark.parametrize("path", ["there", "there/Pendulum-v1_1", "there/Pendulum-v1_1/model"])
def test_save_names_the_folder_and_test_finds_it(pyrl, folder, path):
    trained = pyrl("td3-train", "Pendulum-v1", *QUICK, "--save", "there")
    assert not (folder / "td3").exists()
    tested = pyrl("td3-test", "Pendulum-v1", path, "--seed", 2, "--episodes", 1)
    assert said(tested, "1 episode:") == said(trained, "final evaluation:")


def test_the_same_seed_gives_the_same_run(pyrl):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        line = ("--timesteps", 110, "--eval-episodes", 1, "--seed", seed, "--save", folder)
        assert pyrl("sac-train", "Pendulum-v1", *line).code == 0
    a, b, c = (weights(f"{folder}/Pendulum-v1_1/model.zip") for folder in "abc")
    assert all(th.equal(a[name], b[name]) for name in a)
    assert not all(th.equal(a[name], c[name]) for name in a)


def test_the_run_tells_what_it_was(pyrl, folder):
    outcome = pyrl("td3-train", "Pendulum-v1", "--timesteps", 5, "--eval-episodes", 1)
    facts = yaml.safe_load((folder / "td3" / "Pendulum-v1_1" / "run.yml").read_text())
    assert facts["request"]["timesteps"] == 5
    assert f"seed {facts['request']['seed']}" in outcome.out  # drawn
    config = (folder / "td3" / "Pendulum-v1_1" / "config.yml").read_text()
    assert yaml.safe_load(config)["default"]["noise_type"] == "normal"
    assert "noise_type: normal\n" in outcome.out
    assert "threads 1" in outcome.out


def test_steps_and_updates_are_counted_over_all_environments(pyrl, folder):
    outcome = pyrl("her-td3-train", "FetchReach-v4", *QUICK, "--n-envs", 4)
    assert "environments 4, gradient steps per environment step 1\n" in outcome.out
    run = folder / "her-td3" / "FetchReach-v4_1"
    assert len(list(run.glob("*.monitor.csv"))) == 4
    with zipfile.ZipFile(run / "model.zip") as archive:
        assert b'"num_timesteps": 60' in archive.read("data")


def test_an_environment_without_entry_takes_the_default(pyrl):
    line = ("--timesteps", 5, "--eval-episodes", 1)
    assert "td3.yml: default:" in pyrl("td3-train", "InvertedPendulum-v5", *line).out
    assert "td3.yml: Pendulum-v1:" in pyrl("td3-train", "Pendulum-v1", *line).out


def test_logs_for_programs(pyrl, folder):
    pyrl("td3-train", "Pendulum-v1", "--timesteps", 810, "--eval-episodes", 1, "--seed", 1)
    run = folder / "td3" / "Pendulum-v1_1"
    with (run / "0.monitor.csv").open() as file:
        assert file.readline().startswith("#")
        returns = [float(row["r"]) for row in csv.DictReader(file)]
    assert len(returns) == 4
    with (run / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = [float(row["rollout/ep_rew_mean"]) for row in rows if row["rollout/ep_rew_mean"]][-1]
    assert last == pytest.approx(np.mean(returns))
    assert list(run.glob("events.out.tfevents.*"))


def test_without_tensorboard_the_log_says_so(pyrl, folder, monkeypatch):
    monkeypatch.setattr("pyrl_sb3.training.logs.find_spec", lambda name: None)
    outcome = pyrl("td3-train", "Pendulum-v1", *QUICK)
    assert outcome.code == 0
    assert "no TensorBoard log: pip install 'pyrl-sb3[tensorboard]'" in outcome.out
    assert not list(folder.rglob("events.*"))


def test_success_under_its_other_name(pyrl):
    line = ("--timesteps", 5, "--eval-episodes", 1, "--seed", 1)
    outcome = pyrl("her-td3-train", "PointMaze_UMaze-v3", *line)
    assert re.search(r"success rate [01]\.00", said(outcome, "final evaluation:"))


def test_interrupted_before_there_is_anything_to_save(pyrl, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyrl_sb3.training.run.train", interrupted)
    outcome = pyrl("td3-train", "Pendulum-v1")
    assert (outcome.code, outcome.err) == (130, "")


@pytest.mark.parametrize("within", ["run.set_up", "setup.build_model"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_run_is_set_up_leaves_nothing(number, within, pyrl, folder, monkeypatch):
    def interrupted(*_, **__):
        assert signal.getsignal(number) is not signal.SIG_DFL, "it would end the tests"
        signal.raise_signal(number)

    monkeypatch.setattr(f"pyrl_sb3.training.{within}", interrupted)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as stopped:
            pyrl("td3-train", "Pendulum-v1")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert stopped.value.code == 128 + number
    assert list(folder.iterdir()) == []


def test_film(pyrl, folder):
    import imageio.v3 as iio

    pyrl("td3-train", "Pendulum-v1", *QUICK, "--set", "env_kwargs.max_episode_steps=50")
    outcome = pyrl("td3-test", "Pendulum-v1", "--episodes", 1, "--gif", "agent.gif")
    assert "film: agent.gif" in outcome.out
    # 50 steps at 30 frames a second; frames equal to the one before are stored once
    assert 48 <= iio.improps("agent.gif", index=None).n_images <= 51
    assert iio.immeta("agent.gif")["duration"] == 30
    assert [path.name for path in folder.glob("*.gif")] == ["agent.gif"]


@pytest.mark.filterwarnings("ignore:.*possible render_modes")
def test_an_environment_without_a_render_mode_is_not_filmed(pyrl, monkeypatch):
    monkeypatch.setitem(gym.registry, "Undrawn-v0", EnvSpec("Undrawn-v0", Undrawn))
    assert pyrl("td3-train", "Undrawn-v0", *QUICK).code == 0
    outcome = pyrl("td3-test", "Undrawn-v0", "--episodes", 1, "--gif", "agent.gif")
    assert (outcome.code, outcome.err) == (0, "")
    why = "Undrawn-v0 takes no render_mode, by which it could draw"
    assert f"no film: Undrawn-v0 cannot be filmed ({why})" in outcome.out
    recorded = pyrl("record", "td3/Undrawn-v0_1")
    assert recorded.code == 2
    assert recorded.err.splitlines() == [f"pyrl: Undrawn-v0 cannot be filmed: {why}"]
    monkeypatch.setattr("pyrl_sb3.report.video.has_display", lambda: True)
    shown = pyrl("td3-test", "Undrawn-v0", "--render")
    assert shown.code == 2
    assert shown.err.splitlines() == [f"pyrl: {why}"]


def test_where_nothing_can_be_drawn_the_test_goes_on(pyrl, fresh_pyrl, folder):
    pyrl("her-td3-train", "FetchReach-v4", *QUICK)
    line = ("her-td3-test", "FetchReach-v4", "--episodes", 1, "--gif", "agent.gif", "--render")
    outcome = fresh_pyrl(*line, MUJOCO_GL="disabled", DISPLAY="", WAYLAND_DISPLAY="")
    assert (outcome.code, outcome.err) == (0, "")
    assert "no display to --render on" in outcome.out
    assert "1 episode: return -" in outcome.out
    assert "no film: this machine cannot draw FetchReach-v4 (" in outcome.out
    assert not (folder / "agent.gif").exists()
