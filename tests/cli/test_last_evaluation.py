"""The evaluation of the trained model: always made, printed and written down, once."""

import csv
import json
import signal

import numpy as np
import pytest

from pyrl_sb3.training import evaluation, learning, trial
from pyrl_sb3.training.evaluation import evaluate

RUN = "td3/Pendulum-v1_1"
LINE = ("td3-train", "Pendulum-v1", "--timesteps", 60, "--eval-episodes", 1, "--seed", 1)
LINE += ("--set", "policy_kwargs.net_arch=[4]", "--set", "learning_starts=40")
LINE += ("--set", "env_kwargs={max_episode_steps: 10}", "--threads", 1)


def evaluated(run=RUN):
    with np.load(f"{run}/evaluations.npz") as found:
        return found["timesteps"].tolist()


@pytest.fixture
def interrupted():
    """Have a signal come in a last evaluation: of a training, or of a run that is resumed."""

    def evaluate_and_stop(*words):
        signal.raise_signal(signal.SIGINT)
        return evaluate(*words)

    with pytest.MonkeyPatch.context() as patched:
        for module in (learning, trial):
            patched.setattr(module, "evaluate", evaluate_and_stop)
        yield patched


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], [60]), (["--eval-freq", 0], [60]), (["--eval-freq", 40], [40, 60])],
)
def test_it_is_the_last_that_is_written_and_reported(options, expected, pyrl):
    said = pyrl(*LINE, *options).out
    assert evaluated() == expected
    (summary,) = json.loads(pyrl("report", "td3", "--json", "--reps", 10).out)["groups"]
    assert f"final evaluation: return {summary['scores'][0]:.2f} " in said


def test_it_is_not_written_where_one_of_the_same_step_is(pyrl):
    said = pyrl(*LINE, "--eval-freq", 30).out
    assert evaluated() == [30, 60]
    assert "final evaluation: " in said


def test_it_stays_where_it_is_the_only_one(pyrl):
    assert pyrl(*LINE, "--eval-freq", 0).code == 0
    assert pyrl("td3-train", "--resume", RUN, "--timesteps", 80).code == 0
    assert evaluated() == [60, 80]
    with np.load(f"{RUN}/evaluations.npz") as found:
        assert found["results"].shape == (2, 1)
    assert pyrl("report", "td3", "--reps", 10).code == 0


def test_it_stays_when_the_run_is_made_longer(pyrl):
    assert pyrl(*LINE, "--eval-freq", 40).code == 0
    assert pyrl("td3-train", "--resume", RUN, "--timesteps", 100).code == 0
    assert evaluated() == [40, 60, 80, 100]
    with open(f"{RUN}/progress.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/mean_reward"]]
    with np.load(f"{RUN}/evaluations.npz") as found:
        returns = found["results"][[0, 2], 0]
    assert [float(row["eval/mean_reward"]) for row in rows] == pytest.approx(returns)
    assert [float(row["eval/mean_ep_length"]) for row in rows] == [10, 10]


def test_the_best_model_is_the_best_of_those_on_the_way(pyrl, folder):
    assert pyrl(*LINE).code == 0
    assert not (folder / RUN / "best_model.zip").exists()


def test_it_is_made_by_resume_where_it_was_interrupted(pyrl, interrupted):
    assert pyrl(*LINE, "--eval-freq", 40).code == 130
    assert evaluated() == [40]
    again = pyrl("td3-train", "--resume", RUN)  # and interrupted again
    assert (again.code, evaluated()) == (130, [40])
    interrupted.undo()
    outcome = pyrl("td3-train", "--resume", RUN)
    assert outcome.code == 0
    assert "final evaluation: return" in outcome.out
    assert evaluated() == [40, 60]
    outcome = pyrl("td3-train", "--resume", RUN)
    assert "--timesteps N, with more than these, goes on with it" in outcome.out
    assert "final evaluation" not in outcome.out
    assert pyrl("td3-train", "--resume", RUN, "--timesteps", 100).code == 0
    assert evaluated() == [40, 60, 80, 100]


def test_where_it_is_ended_at_once_the_model_is_saved_and_resume_makes_it(pyrl, monkeypatch):
    def hang(*words):
        raise KeyboardInterrupt  # as the second signal does, whatever an environment waits for

    with monkeypatch.context() as patched:
        patched.setattr(learning, "evaluate", hang)
        ended = pyrl(*LINE)
    assert ended.code == 130
    line = f"ended at once; model saved: {RUN}/model.zip; --resume {RUN} evaluates it"
    assert line in ended.out + ended.err
    assert "final evaluation: return" in pyrl("td3-train", "--resume", RUN).out


def test_it_is_made_without_a_checkpoint(pyrl, folder):
    """As a run with --save-freq 0 is that was killed in it."""
    assert pyrl(*LINE, "--save-freq", 0).code == 0
    model = (folder / RUN / "model.zip").read_bytes()
    (folder / RUN / "evaluations.npz").unlink()
    assert "final evaluation: return" in pyrl("td3-train", "--resume", RUN).out
    assert evaluated() == [60]
    assert (folder / RUN / "model.zip").read_bytes() == model
    assert "has no checkpoint" in pyrl("td3-train", "--resume", RUN).err


@pytest.mark.parametrize(
    ("due", "options", "killed"),
    [
        (40, [], False),
        (40, ["--save-freq", 0], False),
        (60, ["--save-freq", 0], False),
        (60, [], True),
    ],
)
def test_one_on_the_way_that_is_interrupted_is_made_when_the_run_goes_on(
    pyrl, folder, monkeypatch, due, options, killed
):
    stops, evaluate = [True, True, False], evaluation.evaluate

    def stopped_twice(*words):
        if stops.pop(0):
            signal.raise_signal(signal.SIGINT)
        return evaluate(*words)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate", stopped_twice)
        patched.setattr("pyrl_sb3.training.logs.find_spec", lambda name: None)  # its files wait
        assert pyrl(*LINE, "--eval-freq", due, *options).code == 130
        assert pyrl("td3-train", "--resume", RUN).code == 130
        assert not (folder / RUN / "evaluations.npz").exists()
        if killed:
            (folder / RUN / "model.zip").unlink()  # before it was there
        said = pyrl("td3-train", "--resume", RUN).out
    assert f"evaluation after {due} steps: return" in said
    assert evaluated() == sorted({due, 60})
    assert (folder / RUN / "best_model.zip").is_file()
    with open(f"{RUN}/progress.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/mean_reward"]]
    assert [row["time/total_timesteps"] for row in rows] == [str(due)]
    assert "is finished" in pyrl("td3-train", "--resume", RUN).out
