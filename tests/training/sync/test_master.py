"""The one agent that stands for all copies: there when the job has ended, however often killed."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch.distributed as dist
import yaml
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3 import __version__
from pyrl_sb3.cli.app import run
from pyrl_sb3.plugins import SyncCallbackSpec, get_plugin_manager, hookimpl
from pyrl_sb3.testing.drift import Drift
from pyrl_sb3.training.recorded import trial_of_run
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import new_group, read_group
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.common import end_of
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.sync.job import SyncPlan, synchronised, train_copy
from pyrl_sb3.training.sync.master import SaveMaster
from pyrl_sb3.training.sync.state import AgentState, read_state
from pyrl_sb3.training.trial import open_trial

TINY = ("policy_kwargs.net_arch=[4]", "learning_starts=20", "batch_size=4")


@pytest.fixture
def alone(tmp_path):
    """A group of processes of which this one is all."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield DistributedGroup()
    dist.destroy_process_group()


def job(folder, save_freq=30, more=(), seeds=(0,), sync="mean", params=None):
    request = TrainingRequest(
        agent="td3",
        env_id="Pendulum-v1",
        timesteps=60,
        eval_freq=0,
        eval_episodes=1,
        save_freq=save_freq,
        overrides=(*TINY, *more),
        threads=1,
    )
    plan = SyncPlan(name=sync, every=30, params=params or {})
    return new_group(folder, synchronised(request, seeds, plan, folder))


def test_the_groups_file_says_with_what_the_strategy_was_made(tmp_path):
    group = job(tmp_path, sync="best", params={"patience": 3})
    [strategy] = read_group(group.folder).components
    assert (strategy["name"], strategy["params"]) == ("pyrl/best", {"patience": 3})


def test_the_version_that_a_group_was_begun_with_is_named(tmp_path, capsys):
    group = job(tmp_path).folder / "seeds.yml"
    text = group.read_text()
    group.write_text(text.replace(f"version: {__version__}", "version: 0.0.1"))
    (group.parent / "seed_0").write_text("in the way")
    assert run(["td3-train", "--resume", str(group.parent)])
    line = f"pyrl-sb3 was 0.0.1 and is {__version__}: numbers may differ"
    assert line in capsys.readouterr().out


def test_a_job_that_dies_before_it_is_written_is_resumed_to_it(tmp_path, alone):
    group = job(tmp_path)
    in_the_way = group.folder / "model.zip"
    in_the_way.mkdir()
    with pytest.raises(IsADirectoryError):
        train_copy(group.folder, alone)
    in_the_way.rmdir()
    assert train_copy(group.folder, alone).timesteps == 60
    assert in_the_way.is_file()
    assert (group.folder / "config.yml").is_file()


def test_what_is_finished_stays_without_checkpoints_too(tmp_path, alone, capsys):
    group = job(tmp_path, save_freq=0)
    train_copy(group.folder, alone)
    written = [group.folder / "model.zip", group.run(0) / "model.zip"]
    before = [file.stat().st_mtime_ns for file in written]
    assert run(["td3-train", "--resume", str(group.folder)]) == 0
    assert "is finished: its copies have had all steps" in capsys.readouterr().out
    assert run(["td3-train", "--resume", str(group.folder), "--timesteps", "90"]) == 2
    said = capsys.readouterr()
    assert "has kept no checkpoint to go on from" in said.err
    assert "numbers may differ" not in said.out
    assert [file.stat().st_mtime_ns for file in written] == before


def test_it_is_what_commands_take_the_folder_for(tmp_path, alone, capsys):
    group = job(tmp_path, more=["normalize=true"])
    train_copy(group.folder, alone)
    assert (group.folder / "vecnormalize.pkl").is_file()
    (group.run(0) / "model.zip").write_text("not this one")
    for path in (group.folder, tmp_path):
        assert run(["td3-test", "Pendulum-v1", str(path), "--episodes", "1"]) == 0
        assert "synchronised copies; model.zip stands for all" in capsys.readouterr().out
    assert run(["evaluate", str(group.folder / "model.zip"), "--episodes", "1"]) == 0
    trial = trial_of_run(group.folder)
    assert trial.path == group.folder / "model.zip"
    _, env = open_trial(trial)
    assert isinstance(env, VecNormalize)
    assert env.obs_rms.count > 60


class Idle(BaseCallback):
    """Of a plugin, which knows nothing of one agent for all."""

    def __init__(self, context):
        super().__init__()

    def _on_step(self):
        return True


class Idles:
    @hookimpl
    def pyrl_sync_callbacks(self):
        for name, couples in (("coupling", True), ("watching", False)):
            yield SyncCallbackSpec(name=name, target=Idle, couples_seeds=couples)


@pytest.fixture
def idles():
    manager = get_plugin_manager()
    manager.register(Idles(), "idles")
    yield
    manager.unregister("idles")


def test_of_a_strategy_without_a_master_it_is_one_of_the_copies(tmp_path, alone, idles, caplog):
    group = job(tmp_path, sync="coupling")
    with caplog.at_level("INFO", "pyrl_sb3"):
        train_copy(group.folder, alone)
    assert f"one of the copies, for all: {group.folder / 'model.zip'}" in caplog.messages
    written, own = (TD3.load(each / "model.zip") for each in (group.folder, group.run(0)))
    for name, array in read_state(own).as_arrays().items():
        np.testing.assert_array_equal(read_state(written).as_arrays()[name], array, err_msg=name)


def test_independent_copies_have_none_and_the_best_is_tested(
    tmp_path, alone, idles, caplog, capsys
):
    group = job(tmp_path, sync="watching")
    with caplog.at_level("INFO", "pyrl_sb3"):
        train_copy(group.folder, alone)
    assert not any(str(group.folder / "model.zip") in line for line in caplog.messages)
    assert not (group.folder / "model.zip").exists()
    assert run(["td3-test", "Pendulum-v1", str(group.folder), "--episodes", "1"]) == 0
    assert "seed_0 is the best by its last evaluation" in capsys.readouterr().out
    assert run(["td3-train", "--resume", str(group.folder)]) == 0
    assert "is finished: its copies have had all steps" in capsys.readouterr().out


class Waiting(DistributedGroup):
    """Of another copy that goes on while this one waits, until a signal comes."""

    def __init__(self, run):
        super().__init__()
        self.run = run
        self.waited = 0
        self.found = None

    def _flags(self, *flags):
        everybody = super()._flags(*flags)
        if not flags[0]:
            self.waited += 1
            everybody[0, 0] = self.waited == 1
        if self.waited == 2 and self.found is None:
            noted = yaml.safe_load((self.run / "run.yml").read_text()).get("ended")
            saved = sorted(each.name for each in self.run.glob("checkpoints/*"))
            self.found = noted, saved, (self.run / "model.zip").is_file()
            self.stop_asked = signal.SIGINT
        return everybody


class EndAt40(BaseCallback):
    def _on_step(self):
        return self.num_timesteps < 40


@pytest.mark.parametrize(
    ("save_freq", "expected"),
    [(30, (40, ["step_30", "step_40"], True)), (0, (None, [], False))],
)
def test_a_copy_that_a_callback_ends_is_on_the_disk_before_it_waits(
    save_freq, expected, tmp_path, alone
):
    """Not without checkpoints, where the others cannot go on without it."""
    group = job(tmp_path, save_freq=save_freq)
    waiting = Waiting(group.run(0))
    result = train_copy(group.folder, waiting, [EndAt40()])
    assert waiting.found == expected
    assert result.stopped_by is signal.SIGINT
    assert yaml.safe_load((group.run(0) / "run.yml").read_text())["ended"] == 40
    assert end_of(group, 0) == 40
    longer = replace(group, request=replace(group.request, timesteps=90))
    assert end_of(longer, 0) == 0


class Ended:
    """The processes, all of which have ended their training; copy 1 was there to the last."""

    latest = (1,)

    def __init__(self, rank):
        self.rank = rank

    def leave(self):
        pass


@pytest.fixture
def ended(tmp_path):
    """What the training of a copy of that rank comes to, and its state before that."""
    group = job(tmp_path, seeds=(0, 1))
    group.run(1).mkdir()
    (group.run(1) / "config.yml").write_text("default: {}")
    small = {"policy_kwargs": {"net_arch": [4]}, "learning_starts": 8, "batch_size": 4}
    model = TD3("MlpPolicy", Drift(), seed=0, **small).learn(20)
    before = read_state(model).as_arrays()

    def end(rank, steps):
        sync = SeedSyncCallback(group=None)
        sync.master = AgentState.of_arrays({name: array + 1 for name, array in before.items()})
        callback = SaveMaster(group, Ended(rank), sync)
        callback.init_callback(model)
        callback.on_training_start({}, {})
        model.num_timesteps += steps
        callback.on_training_end()
        return group, model, before

    return end


def test_it_is_written_and_the_copy_stays_as_it_is(ended):
    group, model, before = ended(rank=1, steps=5)
    written = read_state(TD3.load(group.folder / "model.zip")).as_arrays()
    after = read_state(model).as_arrays()
    for name, array in before.items():
        np.testing.assert_array_equal(written[name], array + 1, err_msg=name)
        np.testing.assert_array_equal(after[name], array, err_msg=name)


@pytest.mark.parametrize(("rank", "steps"), [(0, 5), (1, 0)])
def test_it_is_not_written_by_a_copy_that_ended_before_others_or_learned_nothing(
    rank, steps, ended
):
    group, *_ = ended(rank, steps)
    assert not (group.folder / "model.zip").exists()
