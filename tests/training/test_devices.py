"""Links to devices, and pipes, in a stranger's folder: refused, and not read until memory ends."""

import os
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.config.documents import read_document
from pyrl_sb3.devices import is_device
from pyrl_sb3.report.curves import read_training
from pyrl_sb3.training.facts import read_facts
from pyrl_sb3.training.kept import check_buffer, save_buffer
from pyrl_sb3.training.state_files import read_tree, write_tree
from pyrl_sb3.training.untrusted import read_arrays
from pyrl_sb3.training.untrusted.archives import check_archive, check_contents


def read_run(folder):
    return read_facts(folder)


def read_config(folder):
    return read_document(folder / "config.yml")


def read_evaluations(folder):
    return read_arrays(folder / "evaluations.npz")


def read_model(folder):
    check_archive(folder / "model.zip")


def read_members(folder):
    check_contents(folder / "model.zip")


def read_state(folder):
    write_tree({}, folder, "other")
    (folder / "other.npz").rename(folder / "state.npz")
    return read_tree(folder, "state")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("run.yml", read_run),
        ("config.yml", read_config),
        ("evaluations.npz", read_evaluations),
        ("state.json", read_state),
        ("model.zip", read_model),
        ("model.zip", read_members),
        ("0.monitor.csv", read_training),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("what", ["device", "pipe"])
def test_what_is_no_file_is_refused(tmp_path, name, read, what):
    if what == "device":
        (tmp_path / name).symlink_to("/dev/null")
    else:
        os.mkfifo(tmp_path / name)
        end = os.open(tmp_path / name, os.O_RDWR)
        os.write(end, b"1")
    with pytest.raises(ValueError, match=rf"{name}.* a device or a pipe"):
        read(tmp_path)
    if what == "pipe":
        os.close(end)


def test_a_shard_of_a_kept_buffer_that_is_no_file_is_refused(tmp_path):
    box = spaces.Box(-1, 1, (2,), np.float32)
    state = save_buffer(ReplayBuffer(10, box, box), tmp_path / "kept", None)
    (shard,) = (tmp_path / "kept").glob("*.bin")
    shard.unlink()
    shard.symlink_to("/dev/null")
    with pytest.raises(ValueError, match=rf"{shard.name} is missing"):
        check_buffer(tmp_path / "kept", state)


def test_what_a_shell_passes_for_a_file_is_read(tmp_path):
    taken, given = os.pipe()
    os.write(given, b"a: 1")
    os.close(given)
    assert read_document(Path(f"/dev/fd/{taken}")).data == {"a": 1}
    os.close(taken)
    assert not is_device(tmp_path)
    assert not is_device(tmp_path / "nothing")
    assert not is_device(tmp_path / ("a" * 5000))  # whoever opens it says what is wrong
