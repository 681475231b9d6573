"""Where runs are written and found."""

import errno
import os
import sys

import pytest

from pyrl_sb3.training import folders
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import (
    copy,
    empty,
    find_model,
    held,
    make_folder,
    new_run_folder,
    require_writable,
    runs_of,
    write_text,
    write_whole,
)


def test_runs_are_numbered_after_the_latest(tmp_path):
    for name in ("A-v1_1", "A-v1_10", "A-v1_2", "A-v1_x", "A-v1_03", "A-v1_b_99", "AA-v1_50"):
        (tmp_path / name).mkdir()
    assert [run.name for run in runs_of(tmp_path, "A-v1")] == ["A-v1_1", "A-v1_2", "A-v1_10"]
    assert new_run_folder(tmp_path, "A-v1").name == "A-v1_11"
    assert new_run_folder(tmp_path, "A-v1").name == "A-v1_12"
    assert new_run_folder(tmp_path / "new" / "er", "space/A-v1").name == "space-A-v1_1"


def test_the_latest_run_with_a_model_is_found(tmp_path):
    for _ in range(3):
        new_run_folder(tmp_path, "A-v1")
    (tmp_path / "A-v1_1" / "model.zip").touch()
    (tmp_path / "A-v1_2" / "model.zip").touch()
    assert find_model(tmp_path, "A-v1", "sac") == tmp_path / "A-v1_2" / "model.zip"
    with pytest.raises(InputError, match=r"no model of B-v1 in .*; there are A-v1_1, A-v1_2; "):
        find_model(tmp_path, "B-v1", "sac")


def test_of_a_run_that_was_killed_it_is_said_how_it_goes_on(tmp_path):
    run = new_run_folder(tmp_path / "a b", "A-v1")
    (run / "checkpoints" / "step_20").mkdir(parents=True)
    (run / "best_model.zip").touch()
    for path, there in ((run, "; there are best_model.zip"), (run.parent, "")):
        with pytest.raises(InputError) as refused:
            find_model(path, "A-v1", "sac")
        way = f"`pyrl sac-train --resume '{run}'` goes on to one"
        assert str(refused.value) == f"no model of A-v1 in {path}{there}; {way}"
    assert find_model(run / "best_model", "A-v1", "sac") == run / "best_model.zip"


@pytest.mark.parametrize("model", ["model.zip", "seed_3/model.zip", "A-v1.zip"])
def test_a_model_that_is_one_level_deeper_is_named(tmp_path, model):
    (tmp_path / "sac" / "A-v1_2" / model).parent.mkdir(parents=True)
    (tmp_path / "sac" / "A-v1_2" / model).touch()
    if model == "A-v1.zip":  # as RL Zoo has them
        (tmp_path / "sac" / "A-v1_2" / "A-v1").mkdir()
        (tmp_path / "sac" / "A-v1_2" / "A-v1" / "config.yml").touch()
    train = "; `pyrl td3-train A-v1` makes one"
    for agent, env_id, said in (
        ("sac", "A-v1", f"; did you mean {tmp_path / 'sac'}?"),
        ("td3", "A-v1", f"; there are sac/A-v1_2{train}"),  # maybe of the same algorithm
        ("td3", "B-v1", train.replace("A-v1", "B-v1")),
        (None, "A-v1", "; there are sac/A-v1_2"),
    ):
        with pytest.raises(InputError) as refused:
            find_model(tmp_path, env_id, agent)
        assert str(refused.value) == f"no model of {env_id} in {tmp_path}{said}"


def test_a_run_one_level_deeper_that_was_killed_goes_on_to_a_model(tmp_path):
    run = new_run_folder(tmp_path / "sac", "A-v1")
    (run / "checkpoints" / "step_20").mkdir(parents=True)
    with pytest.raises(InputError) as refused:
        find_model(tmp_path, "A-v1", "sac")
    said = f"`pyrl sac-train --resume {run}` goes on to one"
    assert str(refused.value) == f"no model of A-v1 in {tmp_path}; {said}"


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "model.zip"
    write_whole(path, lambda part: part.write_text("first"))

    def fail(part):
        part.write_text("sec")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_whole(path, fail)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, lambda part: part.write_text("second"))
    assert path.read_text() == "second"


def test_a_write_that_cannot_begin_names_the_file_and_not_the_one_in_its_place(tmp_path):
    path = tmp_path / "gone" / "model.zip"
    with pytest.raises(FileNotFoundError) as error:
        write_whole(path, lambda part: part.write_text("first"))
    assert error.value.filename == str(path)


def test_a_write_keeps_the_ending_follows_no_link_and_leaves_nothing(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    (tmp_path / ".a.part.txt").symlink_to(elsewhere)
    seen = []

    def write(part):
        seen.append(part.suffix)
        part.write_text("mine")

    def interrupted(part):
        part.touch()
        raise KeyboardInterrupt

    write_whole(tmp_path / "a.txt", write)
    assert (seen, elsewhere.read_text()) == ([".txt"], "theirs")
    write_text(tmp_path / "b.txt", "ü")
    copy(tmp_path / "b.txt", tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_bytes() == "ü".encode()
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "d.txt", interrupted)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.txt", "b.txt", "c.txt", "elsewhere"]


def test_a_folder_is_emptied_in_place_and_only_where_nobody_trains(tmp_path):
    run = tmp_path / "run"
    (run / "sub").mkdir(parents=True)
    (run / "file").touch()
    (run / "link").symlink_to(tmp_path)
    with held(run):
        for enter in (held(run).__enter__, lambda: empty(run)):
            with pytest.raises(InputError, match="run is in use: another process is training"):
                enter()
    inode = run.stat().st_ino
    empty(run)
    assert list(run.iterdir()) == []
    assert (run.stat().st_ino, tmp_path.is_dir()) == (inode, True)
    with held(run):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="it locks otherwise")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_locked_is_trained_in(tmp_path, monkeypatch, caplog, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    with held(tmp_path):
        (message,) = caplog.messages
    assert message == (
        f"{tmp_path} cannot be locked ({os.strerror(number)}): nothing keeps other processes from "
        "training there"
    )


def test_a_number_that_another_run_takes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    def late(root, env_id):
        found = runs_of(root, env_id)
        (root / "A-v1_1").mkdir(exist_ok=True)
        return found

    monkeypatch.setattr(folders, "runs_of", late)
    assert new_run_folder(tmp_path, "A-v1") == tmp_path / "A-v1_2"


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda path: new_run_folder(path, "A-v1"), "--save"),
        (make_folder, "--save"),
        (lambda path: make_folder(path, "--out"), "--out"),
    ],
    ids=["run", "folder", "folder of an option"],
)
def test_a_folder_that_cannot_be_made_is_said_with_its_option(tmp_path, make, option):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x"
    with pytest.raises(InputError) as caught:
        make(path)
    said = f"cannot write to {path}: Not a directory; name a folder with {option}"
    assert str(caught.value) == said


def test_a_file_that_cannot_be_written_is_said_before_there_is_work_for_it(tmp_path, monkeypatch):
    require_writable(tmp_path / "a.txt", "--out", "demos.npz")
    require_writable(tmp_path / "a.gif", "--out", "x.gif", (".mp4", ".gif"))
    for path, kinds, said in (
        (tmp_path, (), f"is a folder; name a file, such as {tmp_path / 'x.gif'}"),
        (tmp_path / "a.txt", (".gif",), f"must end in .gif, such as {tmp_path / 'a.gif'}"),
        (tmp_path / "a", (".a", ".b", ".c"), f"must end in .a, .b or .c, such as {tmp_path}/a.a"),
        (tmp_path / "gone" / "a.gif", (), f"cannot write to {tmp_path / 'gone'}"),
    ):
        with pytest.raises(InputError) as caught:
            require_writable(path, "--out", "x.gif", kinds)
        assert str(caught.value) == f"--out {path}: {said}"
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=f"cannot write to {tmp_path}$"):
        require_writable(tmp_path / "a.gif", "--out", "x.gif")


def test_a_model_may_be_named_without_its_ending(tmp_path):
    model = tmp_path / "my.zip"
    model.touch()
    assert find_model(tmp_path / "my", "A-v1", "sac") == find_model(model, "A-v1", "sac") == model
    with pytest.raises(InputError, match=r"^no model of A-v1 in .*; there are my\.zip; `pyrl sac-"):
        find_model(tmp_path, "A-v1", "sac")
    with pytest.raises(InputError, match=r"^no model at .*my\.zpi; did you mean my\.zip\?$"):
        find_model(tmp_path / "my.zpi", "A-v1", "sac")
    with pytest.raises(InputError, match=r"^no model at .*; `pyrl sac-train A-v1` makes one$"):
        find_model(tmp_path / "gone" / "x", "A-v1", "sac")
