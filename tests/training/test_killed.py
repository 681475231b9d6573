"""A run that is killed at any moment and resumed ends as it would have otherwise, bit for bit."""

import contextlib
import csv
import io
import os
import pickle
import random
import shutil
import signal
import sys
import time
import traceback
import zipfile
from functools import partial

import numpy as np
import pytest
import torch as th
import torch.utils.tensorboard

from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.environments import register_installed
from pyrl_sb3.training.folders import CHECKPOINTS, runs_of
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train

SMALL = ("policy_kwargs.net_arch=[16,16]", "batch_size=32", "learning_starts=30")
SHORT = "env_kwargs={max_episode_steps: 20}"
CASES = {
    # The buffers are smaller than the runs are long, so that they go round.
    "sac": {
        "agent": "sac",
        "env_id": "Pendulum-v1",
        "overrides": (*SMALL, SHORT, "buffer_size=150"),
    },
    "td3 with OU noise": {
        "agent": "td3",
        "env_id": "MountainCarContinuous-v0",
        "overrides": (*SMALL, SHORT, "replay_buffer_class=uniform", "buffer_size=150"),
        "noise": "ou_0.3..0.1",
    },
    "her-sac with VecNormalize": {
        "agent": "her-sac",
        "env_id": "FetchReach-v4",
        "overrides": (*SMALL, SHORT, "buffer_size=150", "learning_starts=50", "use_sde=true"),
    },
    "two environments": {
        "agent": "her-td3",
        "env_id": "FetchReach-v4",
        "overrides": (*SMALL, SHORT, "learning_starts=50"),
        "n_envs": 2,
        "noise": "param_0.2",
    },
}
PATIENCE = 1200  # seconds; a shared machine may stand still for minutes


def request(case, folder):
    return TrainingRequest(
        **{"timesteps": 240, "save_freq": 40, "eval_freq": 50, "eval_episodes": 2, **case},
        seed=5,
        threads=1,
        save=folder,
    )


def go_on(case, folder):
    """Begin, or go on where there is a checkpoint."""
    runs = runs_of(folder, case["env_id"])
    if runs and CheckpointFolder(runs[-1] / CHECKPOINTS).latest():
        resume(runs[-1])
    else:
        shutil.rmtree(folder, ignore_errors=True)
        train(request(case, folder))


def unfinished(folder):
    """Checkpoints that are being written, or that were when their process was killed."""
    return {path.stat().st_ino for path in folder.glob(f"*/{CHECKPOINTS}/.step_*")}


def saves(folder, before):
    """Whether there is a checkpoint unfinished that was not there before."""
    with contextlib.suppress(FileNotFoundError):  # it has just been finished
        return bool(unfinished(folder) - before)
    return False


def in_a_child(case, folder, seconds=None, until=None):
    """Go on in another process; whether it ended by itself rather than being killed.

    It is killed after so many seconds, those after `until()` holds where that is given.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            with (folder.parent / f"{folder.name}.out").open("a") as out:
                sys.stdout = sys.stderr = out
                go_on(case, folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    give_up = time.monotonic() + PATIENCE
    kill = give_up if seconds is None or until else time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        assert time.monotonic() < give_up
        if until and until():
            until, kill = None, time.monotonic() + seconds
        if time.monotonic() > kill:
            os.kill(child, signal.SIGKILL)
            kill = give_up
        time.sleep(0.001)
    code = os.waitstatus_to_exitcode(ended[1])
    assert code in (0, -signal.SIGKILL), (folder.parent / f"{folder.name}.out").read_text()
    return code == 0


def tensors(value):
    if isinstance(value, dict):
        return [each for key in sorted(value, key=str) for each in tensors(value[key])]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in tensors(item)]
    return [value.detach().numpy().tobytes() if isinstance(value, th.Tensor) else value]


def outcome(run):
    """All that a run has come to, but for times."""
    found = {}
    for name in ("model.zip", "best_model.zip"):
        with zipfile.ZipFile(run / name) as archive:
            for part in archive.namelist():
                if part.endswith(".pth"):
                    content = io.BytesIO(archive.read(part))
                    found[name, part] = tensors(th.load(content, weights_only=True))
    with np.load(run / "evaluations.npz") as evaluations:
        found.update({name: evaluations[name].tolist() for name in evaluations})
    for file in (*run.glob("*.monitor.csv"), run / "progress.csv"):
        with file.open() as lines:
            rows = list(csv.DictReader(line for line in lines if line[0] != "#"))
        skip = ("t", "time/fps", "time/time_elapsed")
        found[file.name] = [{k: v for k, v in row.items() if k not in skip} for row in rows]
    if (run / "vecnormalize.pkl").exists():
        statistics = pickle.loads((run / "vecnormalize.pkl").read_bytes()).obs_rms
        each = statistics.values() if isinstance(statistics, dict) else [statistics]
        found["obs_rms"] = [(one.mean.tolist(), one.var.tolist()) for one in each]
    return found


def check(case, folder, kills, rng):
    """Kill a run so many times, and compare; how many kills came while a checkpoint was saved.

    Every third kill waits for that.
    """
    register_installed()
    begin = time.monotonic()
    go_on(case, folder / "whole")  # here, so that the children find everything imported
    duration = time.monotonic() - begin
    killed = folder / "killed"
    count = in_saving = 0
    while count < kills:
        # Mostly far enough to get somewhere, so that not only the beginning is killed.
        when, before = {"seconds": rng.uniform(0.05, 0.7) * duration}, unfinished(killed)
        if count % 3 == 2:
            until = partial(saves, killed, before)
            when = {"seconds": rng.uniform(0, 0.05), "until": until}
        if in_a_child(case, killed, **when):
            shutil.rmtree(killed)
            continue
        count += 1
        in_saving += saves(killed, before)
    assert in_a_child(case, killed)
    (whole,), (resumed,) = (
        runs_of(folder / "whole", case["env_id"]),
        runs_of(killed, case["env_id"]),
    )
    expected, found = outcome(whole), outcome(resumed)
    for name in expected:
        assert found[name] == expected[name], name
    assert found.keys() == expected.keys()
    return in_saving


@pytest.fixture(autouse=True)
def threads():
    before = th.get_num_threads()
    yield
    th.set_num_threads(before)


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch has threads


@pytest.mark.parametrize(
    "name", ["sac", pytest.param("two environments", marks=pytest.mark.learning)]
)
def test_killed_once(tmp_path, name):
    case = {**CASES[name], "timesteps": 120, "eval_episodes": 1}
    check(case, tmp_path, kills=1, rng=random.Random(name))


@pytest.mark.learning
def test_killed_at_thirty_moments(tmp_path):
    rng, in_saving = random.Random(0), 0
    for number, case in enumerate(CASES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        in_saving += check(case, folder, kills=8, rng=rng)
    print(f"{in_saving} of 32 kills came while a checkpoint was being saved")
    assert in_saving
