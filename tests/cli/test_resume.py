"""`--resume`: what goes on, what is said, what is refused."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import time
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import ConstantSchedule

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.plugins import saved
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import held
from pyrl_sb3.training.logs import LogMarks, continued_logger, keep_logs, put_back_logs
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import refuse_differences, resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.state import StateError
from pyrl_sb3.training.state_files import read_tree, write_tree
from pyrl_sb3.training.unfinished import is_finished

SMALL = ("policy_kwargs.net_arch=[8]", "learning_starts=10", "env_kwargs={max_episode_steps: 10}")


class Stop(BaseCallback):
    """Sends a signal at a step."""

    def __init__(self, timesteps):
        super().__init__()
        self.timesteps = timesteps
        self.calls = 0  # goes on counting when resumed

    def _on_step(self):
        self.calls += 1
        if self.num_timesteps == self.timesteps:
            signal.raise_signal(signal.SIGTERM)
        return True


ASKED = TrainingRequest(
    agent="td3",
    env_id="Pendulum-v1",
    timesteps=90,
    seed=1,
    eval_episodes=1,
    eval_freq=20,
    threads=1,
    overrides=SMALL,
    save_freq=30,
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of 90 steps, with checkpoints every 30, that SIGTERM stopped after 45."""
    before = th.get_num_threads()
    request = replace(ASKED, save=tmp_path_factory.mktemp("runs"))
    result = train(request, [Stop(44)])  # it is noticed in the step after
    yield result
    th.set_num_threads(before)


@pytest.fixture
def run(stopped, folder):
    """A copy of that run, to go on with: `run`."""
    shutil.copytree(stopped.folder, folder / "run")
    return Path("run")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps(run):
    with (run / "progress.csv").open() as file:
        return [int(row["time/total_timesteps"]) for row in csv.DictReader(file)]


def test_a_stopped_run_is_resumed_where_it_was_stopped(pyrl, stopped, run):
    assert (stopped.stopped_by, stopped.timesteps) == (signal.SIGTERM, 45)
    assert names(run / "checkpoints") == ["step_30", "step_45"]
    outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert "going on after 45 steps" in outcome.out
    assert "evaluation after 60 steps" in outcome.out
    assert re.search(r"final evaluation: .*\nmodel saved: run/model.zip\n", outcome.out)
    assert names(run / "checkpoints") == ["step_65", "step_90"]
    assert "trained for 90 steps" in pyrl("td3-test", "Pendulum-v1", run, "--episodes", 1).out


def test_logs_are_continued(pyrl, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (run / "0.monitor.csv").open("a") as file:
        file.write("-1.0,10,9.9\n")  # logged after the checkpoint, before the process was killed
    before = steps(run)
    assert pyrl("td3-train", "--resume", run).code == 0
    after = steps(run)
    assert after[: len(before)] == before
    assert after == sorted(after)
    assert after.count(60) == 1
    with (run / "0.monitor.csv").open() as file:
        rows = file.read().splitlines()[2:]
    assert [row.split(",")[1] for row in rows] == ["10"] * 8  # but for the one that was cut short
    times = [float(row.split(",")[2]) for row in rows]
    assert times == sorted(times)
    events = EventAccumulator(str(run)).Reload()
    seen = [event.step for event in events.Scalars("train/critic_loss")]
    assert seen == sorted(set(after))  # and none of what was logged before from the checkpoint on


def test_tensorboard_reads_what_was_continued_last(run):
    earlier = run / f"events.out.tfevents.{int(time.time()):010d}.zzz.1.0"
    earlier.touch()
    continued_logger(run, 45).close()
    assert max(run.glob("events.*")) != earlier


def test_tensorboard_reads_in_order_what_was_continued_within_a_second(run):
    order = []
    for _ in range(12):  # of numbers that end their names, 10 is less than 9
        before = {*run.glob("events.*")}
        continued_logger(run, 45).close()
        order += {*run.glob("events.*")} - before
    assert len(order) == 12
    assert order == sorted(order)


def test_callbacks_of_the_caller_go_on(run):
    stop = Stop(0)
    assert resume(run, callbacks=[stop]).timesteps == 90
    assert stop.calls == 90


def test_a_run_that_has_had_more_steps_than_it_was_to_have_is_finished(pyrl, run):
    facts = yaml.safe_load((run / "run.yml").read_text())
    facts["request"]["timesteps"] = 44  # as with two environments
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    finished = pyrl("td3-train", "--resume", run, "--timesteps", 44)
    assert (finished.code, finished.err) == (0, "")
    assert "run is finished: it has had all of its 44 steps" in finished.out
    assert pyrl("td3-train", "--resume", run, "--timesteps", 43).err == (
        "pyrl: --timesteps 43: run has had 45 steps already\n"
    )


def test_a_finished_run_says_so_and_can_be_longer(pyrl, run):
    assert pyrl("td3-train", "--resume", run).code == 0
    finished = pyrl("td3-train", "--resume", run)
    assert (finished.code, finished.err) == (0, "")
    assert "run is finished: it has had all of its 90 steps" in finished.out
    assert pyrl("td3-train", "--resume", run, "--timesteps", 80).err == (
        "pyrl: --timesteps 80: run has had 90 steps already\n"
    )
    longer = pyrl("td3-train", "--resume", run, "--timesteps", 120, "--keep-last", 1)
    assert "120/120 steps" in longer.out
    assert names(run / "checkpoints") == ["step_120"]
    resumed = yaml.safe_load((run / "run.yml").read_text())["resumed"]
    assert [(each["after"], each["timesteps"]) for each in resumed] == [(45, 90), (90, 120)]
    assert "all of its 120 steps" in pyrl("td3-train", "--resume", run).out


@pytest.mark.parametrize("stale", [False, True])
def test_a_run_killed_before_its_model_was_saved_gets_one(pyrl, stopped, run, stale):
    # All steps are made, as the last checkpoint says, but model.zip is not there, or an older one.
    (run / "model.zip").unlink()
    if stale:
        shutil.copy(run / "checkpoints/step_30/model.zip", run / "model.zip")
    assert not is_finished(run, 45)
    outcome = pyrl("td3-train", "--resume", run, "--timesteps", 45)
    assert (outcome.code, outcome.err) == (0, "")
    assert "final evaluation" in outcome.out
    assert is_finished(run, 45)
    expected, saved = TD3.load(stopped.folder / "model.zip"), TD3.load(run / "model.zip")
    assert saved.num_timesteps == 45
    for name, tensor in expected.policy.state_dict().items():
        assert th.equal(saved.policy.state_dict()[name], tensor), name
    assert "run is finished" in pyrl("td3-train", "--resume", run, "--timesteps", 45).out


class Watch(BaseCallback):
    """Notes what the noise and the learning rate are at each step."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def _on_step(self):
        rate = self.model.lr_schedule(self.model._current_progress_remaining)
        self.seen[self.num_timesteps] = (self.model.action_noise.factor, rate)
        return True


def test_schedules_of_a_longer_run_follow_its_new_length(folder):
    request = TrainingRequest(
        agent="td3",
        env_id="Pendulum-v1",
        timesteps=40,
        seed=1,
        eval_freq=0,
        threads=1,
        overrides=(*SMALL, "noise=normal_0.4..0.0", "learning_rate=lin_0.1"),
        folder=folder / "run",
    )
    first, second = Watch(), Watch()
    train(request, [first])
    resume(folder / "run", timesteps=80, callbacks=[second])
    # The first 10 steps, of the warm-up, draw no noise: the schedule is that of the others.
    factors = {step: factor for step, (factor, _) in {**first.seen, **second.seen}.items()}
    assert factors[20] == pytest.approx(1 - 10 / 30)
    assert factors[40] == pytest.approx(0)
    assert factors[41] == pytest.approx(1 - 31 / 70)
    assert factors[80] == pytest.approx(0)
    rates = {step: rate for step, (_, rate) in second.seen.items()}
    assert rates[60] == pytest.approx(0.1 * (1 - 59 / 80))  # of the step before: as in SB3


def test_the_whole_line_may_be_said_again(pyrl, run):
    line = ("td3-train", "Pendulum-v1", "--seed", 1, "--eval-freq", 20, "--save-freq", 30)
    assert pyrl(*line, "--resume", run, "--threads", "auto").code == 0


REFUSED = {
    "another environment": (
        "td3-train MountainCarContinuous-v0 --resume run",
        "ENV MountainCarContinuous-v0: run was begun with Pendulum-v1, and --resume takes that",
    ),
    "another seed": ("td3-train --resume run --seed 2", "--seed 2: run was begun with 1, .*leave"),
    "another value": ("td3-train --resume run --set tau=0.1", "--set tau=0.1: run was begun with"),
    "several values": (
        "td3-train --resume run --set tau=0.1 --set gamma=0.9",
        "pyrl: --set tau=0.1 --set gamma=0.9: run was begun with policy_kwargs",
    ),
    "a flag": ("td3-train --resume run --stock", "pyrl: --stock: run was begun without it, and"),
    "a flag's no": (
        "td3-train --resume run --no-exact",
        "pyrl: --no-exact: run was begun without it, and --resume takes that from there; leave it",
    ),
    "what is not there": (
        "td3-train --resume run --trained-agent other",
        "pyrl: --trained-agent other: run was begun without it, and",
    ),
    "another algorithm": ("sac-train --resume run", "run is a run of td3-train, not sac-train"),
    "a misspelt run": ("td3-train --resume rum", "no run at rum; did you mean run?"),
    "nothing there": ("td3-train --resume no/where", "no run at no/where"),
    "a checkpoint": (
        "td3-train --resume run/checkpoints/step_30",
        "run/checkpoints/step_30 is a part of a run; did you mean run?",
    ),
    "a model": ("td3-train --resume run/model.zip", "is a part of a run; did you mean run?"),
    "a folder of runs": (
        "td3-train --resume .",
        "run's folder: it has no run.yml; in it are run",
    ),
    "too few steps": ("td3-train --resume run --timesteps 40", "run has had 45 steps already"),
    "no steps": ("td3-train --resume run --timesteps 0", "--timesteps 0: must be at least 1"),
    "many threads": (
        "td3-train --resume run --threads 100000",
        "--threads 100000: must be at most",
    ),
}


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_and_nothing_changed(pyrl, run, line, message):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    outcome = pyrl(*line.split())
    assert outcome.code == 2
    message = message.removeprefix("pyrl: ") if message.startswith("pyrl: ") else f".*{message}"
    assert re.fullmatch(f"pyrl: {message}.*\n", outcome.err)
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert after == before
    assert names(Path()) == ["run"]


def test_what_a_run_was_begun_with_is_told_as_a_command_line_has_it():
    begun = replace(ASKED, exact=False, overrides=())
    for given, said in (
        ({"exact": True}, "--exact: run was begun with --no-exact, and --resume takes"),
        ({"overrides": ("tau=0.1",)}, "--set tau=0.1: run was begun without it, and"),
        ({"n_envs": 7}, "--n-envs 7: run was begun "),
    ):
        with pytest.raises(InputError, match=f"^{said}"):
            refuse_differences(Path("run"), begun, {"agent": "td3", **given})


def everything():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


EDITED = {
    "another value": ("learning_starts: 10", "learning_starts: 20", "learning_starts is 20, .* 10"),
    "another part": ("- 8", "- 9", r"policy_kwargs is {'net_arch': \[9\]}, .* {'net_arch': \[8\]}"),
    "one more": ("default:", "default:\n  tau: 0.1", "tau is 0.1, .* not there"),
    "one less": ("  learning_starts: 10\n", "", "learning_starts is not there, .* 10"),
}


@pytest.mark.parametrize(("old", "new", "message"), EDITED.values(), ids=EDITED)
def test_a_config_that_was_edited_is_refused_and_nothing_changed(pyrl, run, old, new, message):
    config = run / "config.yml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    before = everything()
    for more in ((), ("--timesteps", 120)):
        outcome = pyrl("td3-train", "--resume", run, *more)
        assert outcome.code == 2
        assert re.fullmatch(
            rf"pyrl: run/config.yml: {message}, which --resume goes on with; put it back, or begin "
            "a new run: pyrl td3-train Pendulum-v1 --config run/config.yml\n",
            outcome.err,
        )
    assert everything() == before


def test_a_config_that_says_the_same_otherwise_is_not_edited(pyrl, run):
    config = yaml.safe_load((run / "config.yml").read_text())["default"]
    turned = dict(reversed(config.items()))
    (run / "config.yml").write_text("# mine\n" + json.dumps({"Pendulum-v1": turned}))
    assert pyrl("td3-train", "--resume", run).code == 0


def test_runs_of_versions_that_did_not_note_their_hyperparameters_go_on(pyrl, run):
    facts = yaml.safe_load((run / "run.yml").read_text())
    del facts["hyperparameters"]
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    assert pyrl("td3-train", "--resume", run).code == 0


def test_what_is_written_to_a_config_is_what_is_read_of_it(pyrl, folder):
    line = ("her-sac-train", "FetchReach-v4", "--timesteps", 30, "--seed", 1, "--eval-freq", 0)
    line += ("--eval-episodes", 1, "--noise", "ou_0.3..0.1", "--set", SMALL[0], "--set", SMALL[2])
    line += (
        "--set",
        "learning_rate=lin_1e-5",
        "--set",
        "tau=1e-5",
        "--set",
        "train_freq=[2, step]",
    )
    line += ("--set", "callback={stop-at-episodes: {max_episodes: 100}}")
    line += ("--set", "replay_buffer_kwargs.n_sampled_goal=4", "--set", "ent_coef=auto_0.1")
    assert pyrl(*line, "--save", "a", "--save-freq", 10).code == 0
    run = folder / "a" / "FetchReach-v4_1"
    assert pyrl("her-sac-train", "--resume", run, "--timesteps", 40).code == 0


class End(BaseCallback):
    """Ends a training by itself."""

    def _on_step(self):
        return self.num_timesteps < 20


def test_a_run_that_its_callback_ended_is_finished(pyrl, folder):
    line = ("td3-train", "Pendulum-v1", "--seed", 1, "--timesteps", 60, "--eval-episodes", 1)
    line += ("--eval-freq", 0, "--save-freq", 15, "--save", ".", "--threads", 1)
    line += tuple(word for each in SMALL for word in ("--set", each))
    line += ("--set", "callback={stop-at-episodes: {max_episodes: 2}}")
    first = pyrl(*line)
    assert first.code == 0
    told = "the callback StopTrainingOnMaxEpisodes ended the training after 20 of 60 steps\n"
    assert told in first.out
    run = Path("Pendulum-v1_1")
    assert is_finished(run)
    before = everything()
    for more in ((), ("--timesteps", 60), ("--timesteps", 50)):
        outcome = pyrl("td3-train", "--resume", run, *more)
        assert (outcome.code, outcome.err) == (0, "")
        assert "is finished: a callback ended it after 20 of its 60 steps" in outcome.out
        assert "--timesteps N, with more than these, goes on with it" in outcome.out
    assert everything() == before
    assert not is_finished(run, 80)
    assert "going on after 20 steps" in pyrl("td3-train", "--resume", run, "--timesteps", 80).out
    assert is_finished(run, 80)  # the callback has ended it again
    assert "after 21 of its 80 steps" in pyrl("td3-train", "--resume", run).out


def test_a_callback_that_forgets_to_return_is_told_of_it(folder, caplog):
    class Counts(BaseCallback):
        def _on_step(self):
            self.count = self.n_calls

    caplog.set_level("INFO", "pyrl_sb3")
    train(replace(ASKED, timesteps=60, eval_freq=0, folder=folder / "run"), [Counts()])
    assert (
        "the callback Counts ended the training after 1 of 60 steps: its _on_step returned None, "
        "where True goes on"
    ) in caplog.messages


class Cosine(BaseCallback):
    """Computes the learning rate with NumPy."""

    def _on_step(self):
        rate = np.float64(1e-3) * np.cos(self.num_timesteps / 60)
        self.model.lr_schedule = ConstantSchedule(rate)
        return True


class Halving(BaseCallback):
    """Has a schedule that holds on to the callback, and by it to the model and its open logs."""

    rate = 1e-3

    def _on_training_start(self):
        self.model.lr_schedule = lambda _: self.rate

    def _on_step(self):
        self.rate *= 0.99
        return True


def test_schedules_of_callbacks_are_no_part_of_a_model(folder):
    asked = replace(ASKED, timesteps=60, save_freq=20, folder=folder / "run")
    train(asked, [Halving()])
    loaded = TD3.load(folder / "run" / "model.zip")
    assert loaded.lr_schedule(1) == loaded.learning_rate == 1e-3
    shutil.rmtree(folder / "run" / "checkpoints" / "step_60")
    (folder / "run" / "model.zip").unlink()
    assert resume(folder / "run", callbacks=[Halving()]).timesteps == 60


def test_learning_rates_of_numpy_can_be_gone_on_from(folder):
    asked = replace(ASKED, timesteps=60, eval_freq=0, save_freq=20)
    train(replace(asked, folder=folder / "whole"), [Cosine()])
    killed = shutil.copytree(folder / "whole", folder / "killed")
    shutil.rmtree(killed / "checkpoints" / "step_60")
    (killed / "model.zip").unlink()
    resume(killed, callbacks=[Cosine()])
    ours, theirs = (TD3.load(folder / each / "model.zip").policy for each in ("whole", "killed"))
    assert all(map(th.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_a_run_that_was_ended_and_is_killed_when_it_goes_on_is_not_finished(pyrl, folder):
    request = replace(ASKED, timesteps=60, eval_freq=0, save_freq=15, folder=folder / "run")
    assert train(request, [End()]).timesteps == 20
    assert resume(folder / "run").timesteps == 20

    def killed():
        raise KeyboardInterrupt

    kill = End()
    kill._on_step = killed
    with pytest.raises(KeyboardInterrupt):
        resume(folder / "run", timesteps=80, callbacks=[kill])
    assert not is_finished(folder / "run")
    assert resume(folder / "run").timesteps == 80


@pytest.mark.parametrize("name", ["timesteps", "threads", "keep_last"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_are_too_small_are_refused(folder, name, value):
    message = f"--{name.replace('_', '-')} {value}: must be at least 1"
    for ask in (partial(resume, folder), partial(TrainingRequest, agent="td3", env_id="")):
        with pytest.raises(InputError, match=message):
            ask(**{name: value})


def test_a_run_of_which_not_all_is_known_is_refused(pyrl, run):
    facts = yaml.safe_load((run / "run.yml").read_text())
    facts["request"]["seed"] = None
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    assert pyrl("td3-train", "--resume", run).err == (
        "pyrl: run/run.yml cannot be read as a run's: seed: must be there\n"
    )


def test_one_process_at_a_time(pyrl, run):
    with held(run):
        outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err) == (
        2,
        "pyrl: run is in use: another process is training there\n",
    )


def test_what_is_on_the_disk_is_read_once_no_other_process_trains_there(pyrl, run, monkeypatch):
    @contextmanager
    def held_after_another(folder):
        shutil.rmtree(run / "checkpoints" / "step_45")  # by the other one
        with held(folder):
            yield

    monkeypatch.setattr("pyrl_sb3.training.resume.held", held_after_another)
    assert "going on after 30 steps" in pyrl("td3-train", "--resume", run).out


def test_a_copy_of_several_that_are_synchronised_does_not_go_on_alone(pyrl, run):
    facts = yaml.safe_load((run / "run.yml").read_text())
    facts |= {"sync": {"name": "pyrl/mean", "sync_every": 10}, "couples_seeds": True}
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    (run.parent / "group").mkdir()
    copy = run.rename("group/seed_1")
    for call in (lambda: pyrl("td3-train", "--resume", copy), lambda: resume(copy)):
        if (outcome := _input_error(call)) is None:
            pytest.fail("it went on")
        assert outcome == (
            "group/seed_1 is one of several copies, synchronised by pyrl/mean, and does not learn "
            "alone: --resume group goes on with all of them"
        )


def _input_error(call):
    try:
        return call().err.removeprefix("pyrl: ").rstrip("\n") or None
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("left", ["", "#{}\n", "half", "another"])
def test_a_damaged_log_of_episodes_is_named(pyrl, run, left):
    file = run / "0.monitor.csv"
    whole = file.read_text()
    file.write_text(
        {"half": whole[: len(whole) // 2], "another": whole.replace("\n", ";") * 2}.get(left, left)
    )
    outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err) == (
        2,
        "pyrl: run/0.monitor.csv is damaged: not what it was at the checkpoint; deleting it begins "
        "another\n",
    )


def test_a_log_of_episodes_that_cannot_be_written_to_is_named(pyrl, run, monkeypatch):
    """Before anything else is put back: by another user's account it could not be done."""
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: Path(path).suffix != ".csv" and access(path, mode)
    )
    shutil.rmtree(run / "checkpoints" / "step_45")
    before = everything()
    outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err) == (
        2,
        "pyrl: run/0.monitor.csv cannot be written to, and --resume adds to it\n",
    )
    assert everything() == before


def test_a_log_of_episodes_can_be_deleted(pyrl, run):
    file = run / "0.monitor.csv"
    file.unlink()
    outcome = pyrl("td3-train", "--resume", run)
    assert outcome.code == 0
    assert "run/0.monitor.csv is gone: another is begun, on a clock of its own" in outcome.out
    rows = file.read_text().splitlines()[2:]
    assert [row.split(",")[1] for row in rows] == ["10"] * 4


def test_a_checkpoint_that_lost_its_logs_leaves_those_of_the_run(pyrl, run):
    shutil.rmtree(run / "checkpoints" / "step_45" / "run")
    before = (run / "progress.csv").read_bytes(), (run / "evaluations.npz").read_bytes()
    outcome = pyrl("td3-train", "--resume", run)
    assert outcome.code == 2
    assert "step_45 is damaged: it has no folder run" in outcome.err
    assert before == ((run / "progress.csv").read_bytes(), (run / "evaluations.npz").read_bytes())


DAMAGED = [
    "state.json",
    "state.npz",
    "model.zip",
    "replay_buffer/header.json",
    "replay_buffer/*.bin",
]


@pytest.mark.parametrize("damaged", DAMAGED)
@pytest.mark.parametrize("how", ["half", "one bit", "gone"])
def test_a_damaged_checkpoint_is_named(pyrl, run, damaged, how):
    file = max(
        (run / "checkpoints" / "step_45").glob(damaged), key=lambda file: file.stat().st_size
    )
    data = bytearray(file.read_bytes())
    file.unlink()  # it may be linked with another checkpoint's
    if how == "half":
        file.write_bytes(data[: len(data) // 2])
    elif how == "one bit":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    before = everything()
    outcome = pyrl("td3-train", "--resume", run, "--timesteps", 200)
    assert everything() == before
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "step_45" in outcome.err
    assert "deleting that folder makes way" in outcome.err


def test_a_checkpoint_can_be_deleted(pyrl, run):
    shutil.rmtree(run / "checkpoints" / "step_45")
    assert "going on after 30 steps" in pyrl("td3-train", "--resume", run).out


def put_back(run):
    checkpoint = Checkpoint(run / "checkpoints" / "step_45")
    put_back_logs(run, checkpoint.folder, checkpoint.logs)


@pytest.mark.parametrize("name", ["progress.csv", "evaluations.npz", "best_model.zip"])
def test_logs_that_a_checkpoint_kept_badly_replace_no_sound_ones(run, name):
    kept = run / "checkpoints" / "step_45" / "run" / name
    content, before = kept.read_bytes(), (run / name).read_bytes()
    kept.unlink()  # it may be linked with the run's
    with pytest.raises(StateError, match=rf"step_45 is damaged: it has lost run/{name}; .*delet"):
        put_back(run)
    kept.write_bytes(content[: len(content) // 2])
    with pytest.raises(StateError, match=rf"step_45 is damaged: .*{name} .*deleting that folder"):
        put_back(run)
    assert (run / name).read_bytes() == before
    kept.write_bytes(content)
    put_back(run)


@pytest.mark.parametrize(
    "content", [b"time/\x94,b\n1,2\n", "a,b\n1,2\n".encode("utf-16")], ids=["byte", "utf_16"]
)
def test_progress_that_is_no_text_is_named(run, content):
    checkpoint = Checkpoint(run / "checkpoints" / "step_45")
    kept, before = checkpoint.folder / "run/progress.csv", (run / "progress.csv").read_bytes()
    kept.unlink()  # it may be linked with the run's
    kept.write_bytes(content)
    checksums = {**checkpoint.logs.checksums, "progress.csv": zlib.crc32(content)}
    for marks in (replace(checkpoint.logs, checksums=checksums), LogMarks()):
        with pytest.raises(StateError) as caught:
            put_back_logs(run, checkpoint.folder, marks)
        assert str(caught.value).startswith(
            f"{checkpoint.folder} is damaged: run/progress.csv in it is no text in UTF-8; "
        )
    assert (run / "progress.csv").read_bytes() == before


def test_a_best_model_that_is_written_over_damages_no_checkpoint(run, folder):
    before = (run / "best_model.zip").read_bytes()
    (folder / "checkpoint").mkdir()
    marks = keep_logs(run, folder / "checkpoint")
    (run / "best_model.zip").write_bytes(b"of the user")  # in place, as cp does
    put_back_logs(run, folder / "checkpoint", marks)
    assert (run / "best_model.zip").read_bytes() == before


def test_files_that_are_not_the_runs_stay_as_they_are(run, folder):
    victim = folder / "victim"
    victim.write_text("of months")
    (run / "mine.monitor.csv").write_text("my own")
    for name in (".progress.csv.part", ".evaluations.part.npz", "progress.csv", "model.zip.tmp"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim)
    put_back(run)
    continued_logger(run, 45).close()
    saved.save(TD3.load(run / "model.zip"), run / "model.zip")
    for link in ("7.monitor.csv", "0.monitor.csv"):
        (run / link).unlink(missing_ok=True)
        (run / link).symlink_to(victim)
        with pytest.raises(InputError, match=rf"{link} is a link, which no run writes to"):
            put_back(run)
    assert victim.read_text() == "of months"
    assert (run / "mine.monitor.csv").read_text() == "my own"


MOMENT = {"timesteps": 45, "env_seed": 1, "reset": True}


@pytest.mark.parametrize(
    "changed",
    [
        {"moment": {**MOMENT, "timesteps": "45"}},
        {"moment": {**MOMENT, "env_seed": -1}},
        {"moment": {**MOMENT, "reset": 1}},
        {"moment": {**MOMENT, "more": 1}},
        {"moment": [45]},
        {"moment": None},
        {"log_sizes": [1]},
        {"log_sizes": None},
        {"log_sizes": {"$dict": [["0.monitor.csv", -1]]}},
        {"log_sizes": {"$dict": [[[], 1]]}},
        {"log_checksums": 3},
        {"format": {"$array": "a0"}},
    ],
    ids=str,
)
def test_a_state_that_is_none_is_named(run, changed):
    path = run / "checkpoints" / "step_45" / "state"
    state = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**state, **changed}))
    with pytest.raises(StateError, match=r"step_45 is damaged: state.json is not as it was writ"):
        Checkpoint(path.parent)
    with np.load(path.with_suffix(".npz")) as arrays:
        older = {name: arrays[name] for name in arrays if name != "checksum_of_json"}
    np.savez(path.with_suffix(".npz"), **older)  # of a version that kept no checksum
    with pytest.raises(StateError, match=r"step_45 is damaged: .*; .*deleting that folder makes"):
        Checkpoint(path.parent)


def rewritten(checkpoint, change):
    """Changes the state of a checkpoint, its checksum along with it."""
    tree = read_tree(checkpoint, "state")
    change(tree)
    write_tree(tree, checkpoint, "state")


def of_another_kind(checkpoint):
    rewritten(checkpoint, lambda tree: tree["model"].update(_n_updates={"$tuple": [1]}))


def of_another_shape(checkpoint):
    rewritten(checkpoint, lambda tree: tree["model"].update(_last_episode_starts=np.ones((2, 3))))


def of_another_parameter(checkpoint):
    model = TD3.load(checkpoint / "model.zip")
    moments = next(iter(model.critic.optimizer.state.values()))
    moments["exp_avg"] = th.zeros(3)
    saved.save(model, checkpoint / "model.zip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_kind, r"TD3._n_updates: a tuple is no number"),
        (of_another_shape, r"TD3._last_episode_starts: an array of float64 of shape \(2, 3\) "),
        (of_another_parameter, r"critic.optimizer: exp_avg does not fit its parameter"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_where_it_is_put_in(pyrl, run, change, message):
    change(run / "checkpoints" / "step_45")
    facts = (run / "run.yml").read_bytes()
    outcome = pyrl("td3-train", "--resume", run, "--timesteps", 200)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    # Of earlier ones it may be the same: none is to be deleted for it.
    line = rf".*step_45 cannot be resumed from: {message}[^;]*\n"
    assert re.fullmatch(line, outcome.err)
    assert (run / "run.yml").read_bytes() == facts


def test_a_run_is_noted_as_resumed_before_its_first_step(run, monkeypatch):
    noted = []

    class Noting(BaseCallback):
        def _on_step(self):
            noted.append(yaml.safe_load((run / "run.yml").read_text())["resumed"])
            return False

    def killed(*given):
        raise KeyboardInterrupt

    before = (run / "run.yml").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("pyrl_sb3.training.checkpoint.restore_random_states", killed)
        with pytest.raises(KeyboardInterrupt):
            resume(run, timesteps=120, callbacks=[Noting()])
    assert (run / "run.yml").read_bytes() == before
    resume(run, timesteps=120, callbacks=[Noting()])
    assert [[(each["after"], each["timesteps"]) for each in some] for some in noted] == [
        [(45, 120)]
    ]


def test_a_buffer_that_does_not_fit_is_not_said_to_be_damaged(run):
    checkpoint = Checkpoint(run / "checkpoints" / "step_45")
    model = TD3.load(checkpoint.folder / "model.zip", buffer_size=500)
    space = model.action_space
    model.replay_buffer = ReplayBuffer(500, model.observation_space, space)
    model.replay_buffer.action_dim = 3
    with pytest.raises(StateError, match=r"cannot be resumed from: 'action' is .* buffer$"):
        checkpoint.restore(model, [])
    header = checkpoint.folder / "replay_buffer" / "header.json"
    content = header.read_text()
    header.unlink()  # it may be linked with another checkpoint's
    header.write_text(content[:-9])
    with pytest.raises(
        StateError, match=r"step_45 is damaged: .*; where there is an earlier one, d"
    ):
        checkpoint.restore(model, [])


def test_weights_with_more_than_is_read_go_on_when_trusted(pyrl, run):
    checkpoint = run / "checkpoints" / "step_45"
    model = TD3.load(checkpoint / "model.zip")
    model.critic.optimizer.param_groups[0]["noted"] = {((1, 2), 3): 4}
    saved.save(model, checkpoint / "model.zip")
    outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert re.search(
        r"step_45 cannot be resumed from: 'critic.optimizer.pth' in it is refused: it has a key "
        r"that is a tuple.*; pass --trust if you trust the file$",
        outcome.err,
    )
    outcome = pyrl("td3-train", "--resume", run, "--trust")
    assert (outcome.code, outcome.err) == (0, "")


def test_a_full_disk_leaves_a_run_that_can_be_resumed(pyrl, run, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("pyrl_sb3.training.checkpoint.sync_file", full)
        outcome = pyrl("td3-train", "--resume", run)
    assert outcome.code == 1
    assert re.fullmatch(
        r"pyrl: No space left on device: .*; run/checkpoints/step_45 is whole: make room, then "
        r"go on with `pyrl td3-train --resume run`\n",
        outcome.err,
    )
    assert names(run / "checkpoints") == ["step_30", "step_45"]
    assert pyrl("td3-train", "--resume", run).code == 0


def short_training(timesteps):
    line = ("td3-train", "Pendulum-v1", "--seed", 1, "--timesteps", timesteps, "--eval-episodes", 1)
    return (*line, "--eval-freq", 0, *[word for each in SMALL for word in ("--set", each)])


def test_a_finished_run_is_made_longer_in_the_same_way_whenever_it_is_made(pyrl, folder):
    line = short_training(40)
    seeds, weights = [], []
    for save in ("a", "b"):
        assert pyrl(*line, "--save", save).code == 0
        run = folder / save / "Pendulum-v1_1"
        seeds.append(Checkpoint(run / "checkpoints/step_40").moment.env_seed)
        assert pyrl("td3-train", "--resume", run, "--timesteps", 80).code == 0
        seeds.append(Checkpoint(run / "checkpoints/step_80").moment.env_seed)
        with zipfile.ZipFile(run / "model.zip") as model:
            weights.append(model.read("policy.pth"))
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("writing", "named"),
    [
        ("pyrl_sb3.training.logs.np.savez", "run/evaluations.npz"),
        ("pyrl_sb3.training.checkpoint.write_tree", "run/checkpoints/step_65"),
    ],
)
def test_what_a_full_disk_has_no_room_for_is_named(pyrl, run, monkeypatch, writing, named):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")  # as writing to an open file does

    monkeypatch.setattr(writing, full)
    outcome = pyrl("td3-train", "--resume", run)
    assert outcome.code == 1
    assert outcome.err.startswith(f"pyrl: No space left on device: {named}; run/checkpoints/")


def test_a_run_that_cannot_be_written_to_is_said_in_one_line(pyrl, run, folder, monkeypatch):
    before = sorted(folder.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may
        outcome = pyrl("td3-train", "--resume", run)
    said = "pyrl: cannot write to run: a copy of it elsewhere can go on instead\n"
    assert (outcome.code, outcome.err) == (2, said)
    assert sorted(folder.rglob("*")) == before


def test_checkpoints_that_cannot_be_written_to_are_said_before_the_run_goes_on(
    pyrl, run, folder, monkeypatch
):
    closed = run / "checkpoints"
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK or Path(path) != closed)
    before = sorted(folder.rglob("*"))
    outcome = pyrl("td3-train", "--resume", run)
    said = "pyrl: cannot write to run/checkpoints: a copy of run elsewhere can go on instead\n"
    assert (outcome.code, outcome.err) == (2, said)
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_that_cannot_be_begun_is_named_as_it_would_be(folder, monkeypatch):
    def forbidden(path, *, exist_ok=False, **_):
        if not exist_ok:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.add(1, lambda part, last: (part / "model.zip").touch(), keep=2)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", forbidden)
        with pytest.raises(PermissionError) as error:
            checkpoints.add(2, lambda part, last: None, keep=2)
    assert error.value.filename == str(folder / "checkpoints/step_2")
    with pytest.raises(PermissionError) as error:
        checkpoints.add(2, lambda part, last: forbidden(part / "model.zip"), keep=2)
    assert error.value.filename == str(folder / "checkpoints/step_2/model.zip")
    assert names(folder / "checkpoints") == ["step_1"]


def test_the_line_that_goes_on_with_a_run_loads_the_same_plugins(pyrl, run, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pyrl_sb3.cli.plugin_options.pyrl", lambda: "pyrl -p mine.py")
    monkeypatch.setattr("pyrl_sb3.training.checkpoint.sync_file", full)
    outcome = pyrl("td3-train", "--resume", run)
    assert "go on with `pyrl -p mine.py td3-train --resume run`\n" in outcome.err


def test_a_file_that_an_error_names_in_bytes_is_written_as_any_other(pyrl, run, monkeypatch):
    def gone(*_):  # as TensorBoard's, in a folder that was deleted
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", b"run/events")

    monkeypatch.setattr("pyrl_sb3.training.checkpoint.write_tree", gone)
    outcome = pyrl("td3-train", "--resume", run)
    assert (outcome.code, outcome.err) == (1, "pyrl: No such file or directory: run/events\n")


def test_without_resets_a_checkpoint_changes_nothing(pyrl, folder):
    line = short_training(60)
    assert pyrl(*line, "--save", "a", "--save-freq", 20, "--no-exact").code == 0
    assert names(folder / "a" / "Pendulum-v1_1" / "checkpoints") == ["step_40", "step_60"]
    assert pyrl(*line, "--save", "b", "--save-freq", 0).code == 0
    assert not (folder / "b" / "Pendulum-v1_1" / "checkpoints").exists()
    rows = [
        [line.split(",")[:2] for line in (folder / name).read_text().splitlines()[1:]]
        for name in ("a/Pendulum-v1_1/0.monitor.csv", "b/Pendulum-v1_1/0.monitor.csv")
    ]
    assert rows[0] == rows[1]
    assert "has no checkpoint" in pyrl("td3-train", "--resume", "b/Pendulum-v1_1").err
