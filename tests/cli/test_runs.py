"""`pyrl evaluate`, `plot` and `record`: what they say of a run is what the run was."""

import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from pyrl_sb3.cli.app import run as run_pyrl
from pyrl_sb3.training import trial
from pyrl_sb3.training.evaluation import Evaluation

TRAIN = "--timesteps 400 --eval-freq 200 --eval-episodes 2 --seed 3 --threads 1 --set gamma=0.9"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders `td3` and `sac`, a run in each, with hardly any training."""
    folder = tmp_path_factory.mktemp("runs")
    for agent in ("td3", "sac"):
        options = [*TRAIN.split(), "--set", "learning_starts=390", "--save", str(folder / agent)]
        assert run_pyrl([f"{agent}-train", "Pendulum-v1", *options]) == 0
    return folder


@pytest.fixture
def runs(trained, folder):
    """The same in the working folder."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("episodes", [1, 3])
def test_evaluate_says_what_the_test_command_says(pyrl, runs, episodes):
    evaluated = pyrl("evaluate", "td3/Pendulum-v1_1", "--episodes", episodes, "--seed", 5)
    tested = pyrl("td3-test", "Pendulum-v1", "--episodes", episodes, "--seed", 5)
    assert evaluated.code == tested.code == 0
    said = tested.out.splitlines()[-1]
    assert evaluated.out.splitlines()[-1] == f"td3/Pendulum-v1_1/model.zip: {said}"


def test_evaluate_in_json(pyrl, runs):
    outcome = pyrl("evaluate", "sac", "td3/Pendulum-v1_1/best_model.zip", "--episodes", 2, "--json")
    assert outcome.code == 0
    first, second = json.loads(outcome.out)
    assert (first["algorithm"], first["env"]) == ("sac", "Pendulum-v1")
    assert first["model"] == "sac/Pendulum-v1_1/model.zip"
    assert second["model"] == "td3/Pendulum-v1_1/best_model.zip"
    assert first["mean_return"] == pytest.approx(np.mean(first["returns"]))
    assert first["std_return"] == pytest.approx(np.std(first["returns"]))
    assert first["lengths"] == [200, 200]
    assert first["success_rate"] is None
    best = pyrl("evaluate", "td3", "--best", "--episodes", 2, "--json")
    assert json.loads(best.out) == [second]


def test_what_environments_print_is_not_among_the_json(pyrl, runs, monkeypatch):
    step = PendulumEnv.step

    def printing(env, action):
        print("a step")
        return step(env, action)

    monkeypatch.setattr(PendulumEnv, "step", printing)
    outcome = pyrl("evaluate", "td3", "--episodes", 1, "--json")
    (found,) = json.loads(outcome.out)
    assert outcome.err.splitlines().count("a step") == found["lengths"][0]
    assert "a step\n" in pyrl("evaluate", "td3", "--episodes", 1).out


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy's, of the spread
def test_what_is_no_finite_number_is_null_in_json(pyrl, runs, monkeypatch):
    endless = Evaluation(np.array([-np.inf, 1.0]), np.array([3, 5]), None)
    monkeypatch.setattr(trial, "try_out", lambda *_: endless)
    outcome = pyrl("evaluate", "td3", "--json")
    assert outcome.code == 0
    (found,) = json.loads(outcome.out, parse_constant=pytest.fail)
    assert (found["mean_return"], found["std_return"]) == (None, None)
    assert (found["returns"], found["mean_length"]) == ([None, 1.0], 4)


def test_plot(pyrl, runs):
    outcome = pyrl("plot", "sac", "td3/Pendulum-v1_1")
    assert (outcome.code, outcome.out) == (0, "learning curves of 2 runs: learning_curve.png\n")
    assert iio.imread("learning_curve.png").std() > 0
    assert pyrl("plot", "sac", "--training", "--out", "a.svg").code == 0
    assert "<svg" in (runs / "a.svg").read_text()


def test_plot_in_json(pyrl, runs):
    outcome = pyrl("plot", "sac", "--json")
    assert outcome.code == 0
    (curve,) = json.loads(outcome.out)
    with np.load(runs / "sac/Pendulum-v1_1/evaluations.npz") as saved:
        assert curve["steps"] == saved["timesteps"].tolist() == [200, 400]
        assert curve["returns"] == pytest.approx(saved["results"].mean(axis=1))
    assert curve["run"] == "sac/Pendulum-v1_1"
    assert not (runs / "learning_curve.png").exists()
    (curve,) = json.loads(pyrl("plot", "sac", "--json", "--training", "--smooth", 2).out)
    lines = (runs / "sac/Pendulum-v1_1/0.monitor.csv").read_text().splitlines()[2:]
    first, second = (float(line.split(",")[0]) for line in lines)
    assert curve["returns"] == pytest.approx([first, (first + second) / 2])


def test_record(pyrl, runs, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_INTERACTIVE"):  # a terminal, for Rich
        monkeypatch.setenv(name, "1")
    outcome = pyrl("record", "td3/Pendulum-v1_1", "--episodes", 1)
    assert outcome.code == 0
    assert "0/1 episodes, 200 steps" in outcome.out
    assert "td3/Pendulum-v1_1/agent.gif" in outcome.out
    film = iio.imread(runs / "td3/Pendulum-v1_1/agent.gif")
    assert len(film) > 100  # of 201: what does not move is shown longer
    assert film.std(axis=0).max() > 0


WAITED_FOR = {
    "td3-test Pendulum-v1 --gif a.gif": 2,
    "demos record Pendulum-v1 --policy td3/Pendulum-v1_1": 1,
    "evaluate td3 --json": 1,
}


@pytest.mark.parametrize("command", WAITED_FOR)
def test_episodes_that_are_waited_for_are_counted_in_a_terminal(pyrl, runs, command, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_INTERACTIVE"):  # a terminal, for Rich
        monkeypatch.setenv(name, "1")
    outcome = pyrl(*command.split(), "--episodes", 1)
    assert outcome.code == 0
    assert "--json" not in command or len(json.loads(outcome.out)[0]["returns"]) == 1
    shown = outcome.err if "--json" in command else outcome.out
    *bars, _ = shown.split("\x1b[?25h")  # the cursor comes back
    assert len(bars) == WAITED_FOR[command]
    assert all("0/1 episodes, 200 steps" in bar for bar in bars)


def test_no_bar_is_drawn_into_files_and_pipes_for_the_sake_of_colors(pyrl, runs, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks do
    outcome = pyrl("evaluate", "td3", "--episodes", 1)
    assert outcome.code == 0
    assert "episodes" not in outcome.out
    assert "\x1b[?25" not in outcome.out  # hides the cursor, and shows it


MISTAKES = {
    "evaluate sad": "no run at sad; did you mean sac?",
    "evaluate nothing": "is no run's folder: it has no run.yml",
    "plot sac/Pendulum-v1_2": "no run at sac/Pendulum-v1_2; did you mean Pendulum-v1_1?",
    "plot sac/Pendulum-v1_1/model.zip": "is a part of a run; did you mean sac/Pendulum-v1_1?",
    "plot sac --smooth 0": "--smooth 0: must be at least 1",
    "plot sac --out a.jpg": "--out a.jpg: must end in .png, .svg or .pdf",
    "plot sac --out sac": "--out sac: is a folder; name a file, such as sac/learning_curve.png",
    "plot sac --out pictures.png": "--out pictures.png: is a folder; name a file",
    "report sac --out file": "cannot write to file: File exists; name a folder with --out",
    "plot sac --out no/a.png": "cannot write to no",
    "record sac": "sac is no run's folder: it has no run.yml; in it are Pendulum-v1_1",
    "plot logs": "logs is no run's folder: it has no run.yml; in it are sac/Pendulum-v1_1",
    "report logs": "in it are sac/Pendulum-v1_1",
    "evaluate logs": "in it are sac/Pendulum-v1_1",
    "record logs": "in it are sac/Pendulum-v1_1",
    "sac-train --resume logs": "in it are sac/Pendulum-v1_1",
    "sac-test Pendulum-v1 logs": "no model of Pendulum-v1 in logs; did you mean logs/sac?",
    "record grp": "grp is no run's folder: it has no run.yml; in it are Pendulum-v1_1, a_run",
    "sac-train --resume grp": "in it are Pendulum-v1_1, a_run",
    "demos record Pendulum-v1 --policy grp": "in it are Pendulum-v1_1, a_run",
    "sac-train --resume grps": "in it are grp/Pendulum-v1_1, grp/a_run",
    "record sac/Pendulum-v1_1 --out .": "--out .: is a folder; name a file, such as ",
    "record sac/Pendulum-v1_1 --out a.avi": "must end in .gif or .mp4, such as a.gif",
    "record empty --best": "no best_model.zip in empty; there is model.zip",
    "evaluate odd": "odd/run.yml: no algorithm 'sacc'; did you mean sac?",
    "evaluate broken": "broken/run.yml cannot be read as a run's",
    "evaluate deep": "deep/run.yml cannot be read as a run's",
    "plot damaged": "damaged/evaluations.npz is no file of arrays, or a truncated one",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes(pyrl, runs, line):
    for name in ("empty", "odd", "broken", "deep", "damaged"):
        shutil.copytree(runs / "sac/Pendulum-v1_1", runs / name)
    shutil.copytree(runs / "sac", runs / "logs/sac")
    for group in ("grp/Pendulum-v1_1", "grps/grp/Pendulum-v1_1"):
        shutil.copytree(runs / "sac/Pendulum-v1_1", runs / group / "seed_0")
        (runs / group / "seeds.yml").touch()
        shutil.copytree(runs / "sac/Pendulum-v1_1", (runs / group).with_name("a_run"))
    (runs / "nothing").mkdir()
    (runs / "pictures.png").mkdir()
    (runs / "file").touch()
    (runs / "empty/best_model.zip").unlink()
    facts = runs / "odd/run.yml"
    facts.write_text(facts.read_text().replace("agent: sac", "agent: sacc"))
    (runs / "broken/run.yml").write_text("request: [1]")
    (runs / "deep/run.yml").write_text("request: " + 3000 * "[")
    (runs / "damaged/evaluations.npz").write_bytes(b"junk")
    before = sorted(runs.rglob("*"))
    outcome = pyrl(*line.split())
    assert outcome.code == 2
    assert outcome.err.startswith("pyrl: ")
    assert outcome.err.count("\n") == 1
    assert f"{MISTAKES[line]}\n" in outcome.err or "in it" not in MISTAKES[line]
    assert MISTAKES[line] in outcome.err
    assert sorted(runs.rglob("*")) == before


def left_out(outcome, run, reason):
    """Whether a run, and nothing else, was left out."""
    lines = [line for line in outcome.err.splitlines() if "left out" in line]
    return (
        len(lines) == 1 and lines[0].startswith(f"{run} is left out: {run}") and reason in lines[0]
    )


def test_runs_of_a_folder_that_have_nothing_yet_leave_the_others_alone(pyrl, runs):
    new = runs / "sac/Pendulum-v1_2"
    shutil.copytree(runs / "sac/Pendulum-v1_1", new)
    for name in ("evaluations.npz", "model.zip", "0.monitor.csv"):
        (new / name).unlink()
    run = "sac/Pendulum-v1_2"
    drawn = pyrl("plot", "sac", "--json")
    assert drawn.code == 0
    assert [curve["run"] for curve in json.loads(drawn.out)] == ["sac/Pendulum-v1_1"]
    assert left_out(drawn, run, "has no evaluations.npz yet")
    (new / "0.monitor.csv").write_text("#{}\nr,l,t\n1,x,1\n")
    drawn = pyrl("plot", "sac", "--training")
    assert drawn.out == "learning curves of 1 run: learning_curve.png\n"
    assert left_out(drawn, run, "0.monitor.csv cannot be read")
    evaluated = pyrl("evaluate", "sac", "td3", "--episodes", 1, "--json")
    assert evaluated.code == 0
    assert [each["algorithm"] for each in json.loads(evaluated.out)] == ["sac", "td3"]
    assert "sac/Pendulum-v1_2 is left out: no model.zip in sac/Pendulum-v1_2" in evaluated.err
    # Named by itself, or with nothing beside it, it is the mistake.
    for command, *named in (("plot", "sac", run), ("evaluate", run), ("plot", "lone")):
        if named == ["lone"]:
            (runs / "lone").mkdir()
            shutil.move(new, runs / "lone/a")
        outcome = pyrl(command, *named)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert outcome.err.startswith("pyrl: ")


def test_damaged_runs_of_a_folder_leave_the_others_to_be_evaluated(pyrl, runs):
    for name in ("Pendulum-v1_0", "Pendulum-v1_2", "Pendulum-v1_3"):
        shutil.copytree(runs / "sac/Pendulum-v1_1", runs / "sac" / name)
    model = runs / "sac/Pendulum-v1_0/model.zip"
    model.write_bytes(model.read_bytes()[:1000])
    (runs / "sac/Pendulum-v1_2/config.yml").write_text("Pendulum-v1: {gama: 1, learning: 1}")
    facts = runs / "sac/Pendulum-v1_3/run.yml"
    facts.write_text(facts.read_text().replace("Pendulum-v1", "Pendulum-v9"))
    outcome = pyrl("evaluate", "sac", "td3", "--episodes", 1, "--json")
    assert outcome.code == 0
    assert [each["algorithm"] for each in json.loads(outcome.out)] == ["sac", "td3"]
    lines = [line for line in outcome.err.splitlines() if "left out" in line]
    assert [line.partition(": ")[0] for line in lines] == [
        f"sac/Pendulum-v1_{i} is left out" for i in (0, 2, 3)
    ]
    assert "model.zip" in lines[0]
    assert "gama" in lines[1]
    assert "learning" in lines[1]  # all of it, on one line
    assert "Pendulum-v9" in lines[2]
    # Named by itself, it is the mistake.
    assert pyrl("evaluate", "sac/Pendulum-v1_2", "td3", "--episodes", 1).code == 2


def test_a_model_of_a_stranger(pyrl, runs):
    """What would run code is refused by every command that reads models, and run with --trust."""
    path = runs / "sac/Pendulum-v1_1"
    (path / "vecnormalize.pkl").write_bytes(b"cos\nsystem\n(X\x0d\x00\x00\x00echo > canarytR.")
    for command in (["sac-test", "Pendulum-v1"], ["evaluate", "sac"], ["record", path]):
        outcome = pyrl(*command)
        assert outcome.code == 2
        assert "it names os.system, which may run code; pass --trust" in outcome.err
        assert not (runs / "canary").exists()
    pyrl("evaluate", "sac", "--trust")
    assert (runs / "canary").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pyrl", "crossq"], ["crossq-train", "crossq-test"]),
        (["pyrl", "sac-train", "BipedalWalkerH"], ["BipedalWalkerHardcore-v3"]),
        (["pyrl", "plot", "--tr"], ["--training"]),
        (["pyrl", "list", "no"], ["noises"]),
    ],
)
def test_completion(fresh_pyrl, words, expected):
    environment = {
        "_PYRL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    assert (
        fresh_pyrl(before="import sys; sys.argv[0] = 'pyrl'", **environment).out.split() == expected
    )


def test_a_folder_that_was_there_survives_a_run_that_cannot_begin(pyrl, folder):
    kept = folder / "mine" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("of months")
    line = ("td3-train", "Pendulum-v1", "--timesteps", 30, "--set", "policy_kwargs.net_arch=[-1]")
    assert pyrl(*line, "--run-folder", "mine").code == 2
    assert kept.read_text() == "of months"
    assert pyrl(*line, "--run-folder", "other").code == 2
    assert not (folder / "other").exists()
    assert [path.name for path in (folder / "mine").iterdir()] == ["notes.txt"]


def test_a_run_is_not_written_over(pyrl, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "run.yml").write_text("of months")
    outcome = pyrl("td3-train", "Pendulum-v1", "--timesteps", 30, "--run-folder", "mine")
    assert (outcome.code, outcome.err) == (
        2,
        "pyrl: mine has a run already; --resume goes on with it\n",
    )
    assert (folder / "mine" / "run.yml").read_text() == "of months"
