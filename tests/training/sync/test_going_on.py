"""Where synchronised copies go on, and with what; nothing is deleted that is of use."""

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from pyrl_sb3.cli import synchronised as synchronised_cli
from pyrl_sb3.cli.app import run
from pyrl_sb3.errors import NoStackError
from pyrl_sb3.training.errors import HopelessError, InputError, RunStoppedError
from pyrl_sb3.training.failures import stops_in_one_line
from pyrl_sb3.training.folders import held
from pyrl_sb3.training.jobs import State
from pyrl_sb3.training.request import TrainingRequest, TrainingResult
from pyrl_sb3.training.seeds import SeedGroup, new_group, read_group, write_group
from pyrl_sb3.training.sync import common, job, launch
from pyrl_sb3.training.sync.common import in_common
from pyrl_sb3.training.sync.job import SyncPlan, changes_of_new, synchronised, train_copy
from pyrl_sb3.training.sync.state import LayoutError


class Copy:
    """A process of a group that hears from the other one which checkpoints that has."""

    size = 2
    left = True

    def __init__(self, rank, others):
        self.rank, self.others = rank, others

    def all_gather(self, value):
        if "checkpoints" not in value:
            return {self.rank: value}
        listed = value["checkpoints"].copy()
        listed[:] = 0
        listed[: len(self.others)] = self.others
        return {self.rank: value, 1 - self.rank: {"checkpoints": listed, "end": np.array(0)}}

    def leave(self):
        pass

    def is_broken(self, error):
        return False


@pytest.fixture
def group(tmp_path):
    request = TrainingRequest(agent="td3", env_id="Pendulum-v1", timesteps=600, save_freq=100)
    plan = SyncPlan(name="mean", every=100)
    return new_group(tmp_path, synchronised(request, (3, 4), plan, tmp_path))


def add_checkpoints(group: SeedGroup, seed: int, *steps: int) -> list:
    folders = [group.run(seed) / "checkpoints" / f"step_{each}" for each in steps]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


@pytest.fixture
def begun(monkeypatch):
    """What a copy begins, or goes on with."""
    found = []
    ended = TrainingResult("", Path(), Path(), 0, None, None)
    monkeypatch.setattr(job, "train", lambda request, *_, **__: found.append(request) or ended)
    monkeypatch.setattr(job, "resume", lambda folder, **changes: found.append(changes) or ended)
    return found


def test_copies_keep_three_checkpoints_whatever_is_asked_for_when_they_are_resumed(group, begun):
    first, last = add_checkpoints(group, 3, 100, 200)
    train_copy(group.folder, Copy(0, [100]), changes={"keep_last": 1})
    assert begun[0]["keep_last"] == 3
    assert first.exists()
    assert not last.exists()


@pytest.mark.parametrize(("mine", "others"), [([300], [200]), ([300, 400], []), ([], [300, 400])])
def test_copies_without_a_common_checkpoint_are_named_and_none_is_deleted(
    mine, others, group, begun, capsys
):
    folders = add_checkpoints(group, 3, *mine)
    with pytest.raises(InputError, match="no checkpoint in common"):
        train_copy(group.folder, Copy(0, others))
    add_checkpoints(group, 4, *others)
    assert run(["td3-train", "--resume", str(group.folder)]) == 2
    said = capsys.readouterr().err
    for seed, steps in ((3, mine), (4, others)):
        assert f"seed {seed} has {', '.join(map(str, steps)) or 'none'}" in said
    assert said.count("\n") == 1
    assert all(folder.exists() for folder in folders)
    assert not begun


def test_copies_that_callbacks_have_ended_are_named_where_none_can_go_on(group, capsys):
    for seed, steps in ((3, 100), (4, 600)):
        add_checkpoints(group, seed, steps)
        (group.run(seed) / "run.yml").write_text("ended: 100\n" if seed == 3 else "{}\n")
    assert run(["td3-train", "--resume", str(group.folder)]) == 2
    said = capsys.readouterr().err
    assert "seed 3 has 100; seed 4 has 600; a callback has ended seed 3 after 100 steps; " in said
    assert "put one back" not in said


@pytest.mark.parametrize(
    ("checkpoints", "ends", "expected"),
    [
        (([100, 150], [200, 300], [200, 300]), (150, 0, 0), (300, {3})),
        (([100, 150], [200, 250], [200, 300]), (150, 250, 0), (300, {3, 4})),
        (([100, 150], [100, 200, 250], [100, 200]), (150, 250, 0), (200, {3})),
        (([100, 150], [50, 100], [50, 100]), (150, 0, 0), (100, set())),
        (([100, 150], [150, 200], [150, 200]), (150, 0, 0), (200, {3})),
        (([100, 150], [200, 250], [300, 350]), (150, 250, 350), (350, {3, 4, 5})),
        (([150], [], []), (150, 0, 0), (0, set())),
        (([150], [], [200]), (150, 0, 0), (0, set())),
        # Leaving one out may be what another is to take part again for.
        (([100, 150], [100, 250], [100, 200]), (150, 250, 0), (100, set())),
    ],
)
def test_copies_that_callbacks_had_ended_by_then_need_no_common_checkpoint(
    checkpoints, ends, expected, group
):
    each, end = (dict(zip((3, 4, 5), values, strict=True)) for values in (checkpoints, ends))
    assert in_common(group, each, end) == expected


def test_what_is_finished_since_callbacks_ended_it_says_so(group, monkeypatch, capsys):
    monkeypatch.setattr(synchronised_cli, "unfinished", lambda *_: [])
    (group.folder / "model.zip").touch()
    group.run(4).mkdir()
    (group.run(4) / "run.yml").write_text("ended: 100\n")
    assert run(["td3-train", "--resume", str(group.folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "had all steps, but a callback has ended seed 4 after 100 steps" in said


def test_a_copy_begins_anew_where_another_died_before_its_first_checkpoint(group, begun):
    (first,) = add_checkpoints(group, 3, 100)
    train_copy(group.folder, Copy(0, []), changes={"timesteps": 900, "threads": 1, "keep_last": 1})
    assert not first.exists()
    assert (begun[0].timesteps, begun[0].threads, begun[0].keep_last) == (900, 1, 3)


def test_what_a_stopped_copy_has_saved_is_kept_where_there_are_no_other_checkpoints(group, begun):
    """With --save-freq 0 a single one is no first one."""
    group = replace(group, request=replace(group.request, save_freq=0))
    write_group(group)
    (only,) = add_checkpoints(group, 3, 100)
    with pytest.raises(InputError, match="seed 3 has 100; seed 4 has none"):
        train_copy(group.folder, Copy(0, []))
    assert only.exists()


def test_what_changes_is_noted_for_later(group, monkeypatch):
    monkeypatch.setattr(launch, "launch", lambda group, words: None)
    changes = ["--timesteps", "900", "--threads", "1", "--keep-last", "1"]
    assert run(["td3-train", "--resume", str(group.folder), *changes]) == 0
    request = read_group(group.folder).request
    assert (request.timesteps, request.threads, request.keep_last) == (900, 1, 3)


@pytest.mark.parametrize(
    ("noted", "changes", "expected"),
    [(600, {}, 600), (600, {"timesteps": 900}, 900), (900, {}, 900), (200, {}, 700)],
)
def test_strategies_hear_of_the_steps_there_are_in_all(noted, changes, expected, group, begun):
    """Also where only the group has heard of them yet, or only the runs have."""
    facts = yaml.safe_load((group.folder / "seeds.yml").read_text())
    facts["request"]["timesteps"] = noted
    (group.folder / "seeds.yml").write_text(yaml.safe_dump(facts))
    add_checkpoints(group, 3, 300)
    resumed = [{"timesteps": 700}]
    facts = {"request": facts["request"], "resumed": resumed, "components": [], "versions": {}}
    (group.run(3) / "run.yml").write_text(yaml.safe_dump(facts))
    heard = []
    plan = SyncPlan.callback

    def hear(*words):
        if isinstance(words[1], Copy):  # and not the one that a plan is checked with
            heard.append(words[-1])
        return plan(*words)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SyncPlan, "callback", hear)
        train_copy(group.folder, Copy(0, [300]), changes=changes)
    assert heard == [expected]
    assert begun[0]["timesteps"] == expected


def test_a_copy_whose_folder_is_in_use_is_left_alone(group, begun):
    first, last = add_checkpoints(group, 3, 100, 200)
    with held(group.run(3)), pytest.raises(InputError, match="seed_3 is in use"):
        train_copy(group.folder, Copy(0, [100]))
    assert first.exists()
    assert last.exists()
    assert not begun


def test_a_copy_with_a_model_does_not_begin_anew(group, begun, capsys):
    group.run(3).mkdir()
    model = group.run(3) / "model.zip"
    model.write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="seed_3 has no checkpoint to go on from, but a model"):
        train_copy(group.folder, Copy(0, []))
    assert run(["td3-train", "--resume", str(group.folder)]) == 2
    assert "seed_3 has no checkpoint to go on from, but a model" in capsys.readouterr().err
    assert model.exists()
    assert not begun


def test_a_copy_that_a_callback_ended_begins_anew_where_others_had_no_checkpoint(
    group, begun, monkeypatch
):
    monkeypatch.setattr(common, "end_of", lambda seeds, seed: 100 * (seed == 3))
    (only,) = add_checkpoints(group, 3, 100)
    (group.run(3) / "model.zip").touch()
    train_copy(group.folder, Copy(0, []))
    assert not only.exists()
    assert begun[0].timesteps == 600


def test_a_copy_that_a_callback_ended_keeps_its_checkpoints(group, begun, monkeypatch, caplog):
    monkeypatch.setattr(common, "end_of", lambda seeds, seed: 150 * (seed == 3))
    folders = add_checkpoints(group, 3, 100, 150)
    with caplog.at_level("INFO", "pyrl_sb3"):
        train_copy(group.folder, Copy(0, [300, 400]))
    assert all(folder.exists() for folder in folders)
    assert begun[0]["timesteps"] == 600
    assert "1 of 2 copies go on after 400 steps; callbacks have ended the others" in caplog.text


def test_copies_that_come_further_without_an_ended_one_start_again(group, monkeypatch):
    monkeypatch.setattr(launch, "end_of", lambda seeds, seed: 100 * (seed == 3))
    add_checkpoints(group, 3, 100)
    ends = launch._Ends(group)
    for steps in (200, 300):
        add_checkpoints(group, 4, steps)
        assert not ends.come_again({3: 1, 4: 1})
    assert ends.come_again({3: 1, 4: 1})


def test_only_the_command_line_says_that_code_may_be_run(group, begun):
    write_group(replace(group, request=replace(group.request, trust=True)))
    train_copy(group.folder, Copy(0, []))
    train_copy(group.folder, Copy(0, []), changes=changes_of_new(group))
    trusted = replace(group, request=replace(group.request, trust=True))
    for new in (trusted, replace(group, sync="my.module:Strategy")):
        train_copy(group.folder, Copy(0, []), changes=changes_of_new(new))
    assert [request.trust for request in begun] == [False, False, True, True]


def test_copies_on_an_engine_that_end_by_a_signal_of_their_own_start_again(group, monkeypatch):
    class Engine:
        def address(self):
            return "127.0.0.1"

    starts = []

    def run_jobs(tasks, *_):
        starts.append(tasks)
        for task in tasks:
            task.state = State.FINISHED if len(starts) == 2 else State.STOPPED

    monkeypatch.setattr(launch, "run_jobs", run_jobs)
    assert launch.launch_on(Engine(), group, []) is None
    assert len(starts) == 2


@pytest.mark.parametrize(
    ("codes", "newer", "expected"),
    [
        ([(2, 2), (2, 2)], False, 2),
        ([(1, 1), (1, 2), (2, 1), (1, 1)], False, 2),  # seed 3 twice
        ([(1, 2), (2, 1), (1, 2), (2, 1)], False, 4),
        ([(1, -9), (1, -9), (1, 143), (1, None)], False, 4),  # the others miss one that is killed
        ([(1, 1), (1, -9), (1, 1), (1, -9)], False, 4),
        ([(1, 1)] * 4, True, 4),
        ([(3, 3)], False, 1),
        ([(3, -15)], True, 1),
    ],
)
def test_copies_on_an_engine_start_again_where_they_may_come_further(
    codes, newer, expected, group, monkeypatch
):
    class Engine:
        def address(self):
            return "127.0.0.1"

    starts = []

    def run_jobs(tasks, *_):
        for task, code in zip(tasks, codes[len(starts)], strict=True):
            task.state, task.code = State.FAILED, code
        starts.append(tasks)
        if newer:
            add_checkpoints(group, 3, 100 * len(starts))
            add_checkpoints(group, 4, 100 * len(starts))

    monkeypatch.setattr(launch, "run_jobs", run_jobs)
    often = "once" if expected == 1 else f"{expected} times"
    with pytest.raises(RunStoppedError, match=f"copies ended {often}; go on with") as raised:
        launch.launch_on(Engine(), group, [])
    assert len(starts) == expected
    in_vain = any(HopelessError.exit_code in ends for ends in codes)
    assert ("when what they say is mended" in str(raised.value)) == in_vain


def test_copies_that_exchange_different_arrays_are_not_started_again(group, monkeypatch, capsys):
    def train(*_, **__):
        raise LayoutError

    monkeypatch.setattr(job, "train", train)
    with pytest.raises(HopelessError, match="seed 3: the copies exchange different arrays"):
        train_copy(group.folder, Copy(0, []))

    def fails(*_):
        raise HopelessError("seed 3: no")

    monkeypatch.setattr(launch, "launch", fails)
    assert run(["td3-train", "--resume", str(group.folder)]) == HopelessError.exit_code
    assert capsys.readouterr().err == "pyrl: seed 3: no\n"


@pytest.mark.parametrize("steps", [[], [100]])
def test_copies_whose_observations_are_no_stacks_are_not_started_again(group, steps):
    folders = add_checkpoints(group, 3, *steps)
    run = SimpleNamespace(folder=group.run(3), signals=SimpleNamespace(together=True))
    with pytest.raises(HopelessError) as caught, stops_in_one_line(run):
        raise NoStackError("no stack")
    kept = f"the last checkpoint is {folders[0]}" if folders else "there is no checkpoint yet"
    assert str(caught.value) == f"no stack; {kept}"


@pytest.mark.parametrize("said", ["No space left on device", "what was saved before is intact"])
def test_a_full_disk_is_said_by_a_copy_without_a_command_that_goes_on_with_it_alone(group, said):
    (folder,) = add_checkpoints(group, 3, 100)
    signals = SimpleNamespace(together=True)
    run = SimpleNamespace(folder=group.run(3), request=group.request_of(3), signals=signals)
    full = OSError(errno.ENOSPC, said, "model.zip")
    with pytest.raises(HopelessError) as caught, stops_in_one_line(run):
        raise full
    assert str(caught.value) == (
        f"No space left on device: model.zip; {folder} is whole; make room"
    )
