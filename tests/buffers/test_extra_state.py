"""What a buffer knows besides transitions goes with it to its folder, and back."""

import errno
import json
import warnings
from collections import deque

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import ReplayBuffer, header, saving
from pyrl_sb3.training.kept import load_buffer, save_buffer

SPACE, ACTIONS = spaces.Box(-np.inf, np.inf, (1,)), spaces.Box(-1, 1, (1,))


class Marked(ReplayBuffer):
    """Has a number for each transition, and whatever else it is told."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.reset()

    def reset(self):
        super().reset()
        self.marks, self.known = {}, "nothing"

    def adopt(self, *args):
        super().adopt(*args)
        self.marks, self.known = {}, "nothing"

    def steps(self):
        return range(self.store.first, self.store.now)

    def mark(self, known):
        self.marks = {t: np.arange(self.n_envs) + 100 * t for t in self.steps()}
        self.known = known

    def get_extra_state(self):
        marks = [self.marks[t] for t in self.steps() if t in self.marks]
        return {"marks": np.array(marks), "known": self.known}

    def set_extra_state(self, state):
        if "more" in state:
            raise RuntimeError("more")
        self.known = state["known"]
        self.marks = dict(zip(self.steps(), state["marks"], strict=True))


def made(cls=Marked, size=10, n_envs=1, steps=0, known=None, seed=0):
    buffer = cls(size * n_envs, SPACE, ACTIONS, n_envs=n_envs, seed=seed)
    add(buffer, steps)
    if known is not None:
        buffer.mark(known)
    return buffer


def add(buffer, steps):
    n_envs = buffer.n_envs
    for t in range(buffer.store.now, buffer.store.now + steps):
        obs, zeros = np.full((n_envs, 1), t, float), np.zeros(n_envs)
        buffer.add(obs, obs + 1, np.zeros((n_envs, 1)), zeros, zeros, [{}] * n_envs)


def state_of(buffer):
    """All there is to a buffer."""
    extra, rng = repr(buffer.get_extra_state()), buffer.rng.bit_generator.state
    size = buffer.buffer_size, buffer.n_envs
    return size, buffer.observations.tobytes(), extra, rng, sorted(vars(buffer))


def extra_files(folder):
    return [file for file in folder.iterdir() if file.name.startswith("extra-")]


KNOWN = [
    {"t": (1, (2.5, [None])), 3: "text", True: {}, ("a", np.int64(1)): 2**70},
    {"f": np.float64(0.1), "i": np.int32(4), "b": np.bool_(True), "nan": float("nan")},
    [np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 4), np.float16), np.array([True])],
    {"array": np.array(3.0), "number": np.float32(3)},
]


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("steps", [0, 4, 13])
def test_it_comes_back_as_it_was(tmp_path, known, steps):
    buffer = made(steps=steps, known=known, n_envs=2)
    buffer.save(tmp_path)
    again = made(n_envs=2, seed=1)
    again.load(tmp_path)
    assert repr(again.get_extra_state()) == repr(buffer.get_extra_state())
    assert again.known is not known


@pytest.mark.parametrize("size", [4, 5, 60])
def test_another_capacity_that_has_room_for_all_takes_it(tmp_path, size):
    made(steps=4, known=1).save(tmp_path / "begun")
    made(size=4, steps=9, known=1).save(tmp_path / "round")
    for folder in ("begun", "round"):
        again = made(size=size)
        again.load(tmp_path / folder)
        assert again.known == 1
        assert len(again.marks) == 4


@pytest.mark.parametrize(
    ("kwargs", "loaded"),
    [
        ({"size": 3}, r"3 are loaded \(n_envs=1\)"),
        ({"n_envs": 2}, r"3 are loaded \(n_envs=2\)"),
        ({"n_envs": 6}, r"1 are loaded \(n_envs=6\)"),
    ],
)
def test_where_its_transitions_are_others_a_warning_says_that_it_is_left_out(
    tmp_path, kwargs, loaded
):
    made(steps=6, known=1).save(tmp_path)
    again = made(**kwargs, known=2)
    with pytest.warns(UserWarning, match=rf"6 steps \(n_envs=1\), and {loaded}") as caught:
        again.load(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert again.known == "nothing"
    assert again.size() == int(loaded[0])


def test_a_warning_made_an_error_leaves_the_buffer_as_it_was(tmp_path):
    made(steps=6, known=1).save(tmp_path)
    again = made(size=3, steps=2, known=2)
    before = state_of(again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="left out"):
            again.load(tmp_path)
    assert state_of(again) == before


def test_buffers_with_and_without_it_read_each_others_folders(tmp_path):
    made(steps=4, known=1).save(tmp_path / "with")
    made(ReplayBuffer, steps=3).save(tmp_path / "without")
    plain, marked = made(ReplayBuffer), made(known=2)
    plain.load(tmp_path / "with")
    marked.load(tmp_path / "without")
    assert (plain.size(), marked.size(), marked.known) == (4, 3, "nothing")
    plain.save(tmp_path / "with")  # of which nothing is left there
    assert not extra_files(tmp_path / "with")


class SaysNothing(Marked):
    def get_extra_state(self):
        return None


@pytest.mark.parametrize("cls", [ReplayBuffer, SaysNothing])
def test_headers_of_buffers_without_it_are_as_they_were(tmp_path, cls):
    buffer = made(cls, steps=3)
    buffer.save(tmp_path)
    content = json.loads((tmp_path / "header.json").read_bytes())["content"]
    fields = "id n_envs first now layout has_infos rng shards tip"
    assert list(content) == fields.split()
    assert list(content["tip"]) == ["name", "size", "checksum", "first", "past", "low", "high"]
    made(cls).load(tmp_path)


def test_each_save_replaces_it_and_adds_to_the_transitions(tmp_path):
    buffer, before = made(size=100), set()
    for turn in range(4):
        add(buffer, turn)
        buffer.mark(turn)
        buffer.save(tmp_path)
        (file,) = extra_files(tmp_path)
        assert file not in before
        before.add(file)
        again = made(size=100)
        again.load(tmp_path)
        assert (again.known, again.size()) == (turn, buffer.size())
    assert len([file for file in tmp_path.iterdir() if file.suffix == ".bin"]) == 4


def refused(folder, match, error=ValueError):
    buffer = made(size=5, n_envs=2, steps=3, known=2)
    before = state_of(buffer)
    with pytest.raises(error, match=match) as caught:
        buffer.load(folder)
    assert state_of(buffer) == before
    assert "\n" not in str(caught.value)


def test_damage_is_refused_by_file_name(tmp_path):
    made(steps=4, known=1).save(tmp_path)
    (file,) = extra_files(tmp_path)
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused(tmp_path, f"{file.name} is damaged: its checksum is wrong")
    for content in (b"", whole[:-1], whole + b" "):
        file.write_bytes(content)
        refused(tmp_path, f"{file.name} is damaged: it has {len(content)} bytes instead of")
    file.unlink()
    refused(tmp_path, f"{file.name} is missing")


def rewrite(folder, content=None, **changes):
    """Change it as somebody would who also works out the checksums."""
    whole = json.loads((folder / "header.json").read_bytes())
    if content is not None:
        (file,) = extra_files(folder)
        file.unlink()
        size, checksum = saving.write_file(file, [content])
        changes = {"size": size, "checksum": checksum}
    whole["content"]["extra"].update(changes)
    whole["checksum"] = header._checksum(whole["content"])
    (folder / "header.json").write_text(json.dumps(whole))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b"[1, 2",
        b'{"__array__": ["|O", [1], "AAAAAAAAAAA="]}',
        b'{"__array__": ["<f8", [1000000000000], ""]}',
        b'{"__array__": ["(,)i4", [1], "AAAA"]}',
        b'{"__array__": 1}',
        b'{"__dict__": [[[], 1]]}',
        b'{"__tuple__": 1}',
    ],
    ids=range(9),
)
def test_contents_that_are_no_state_are_refused(tmp_path, content):
    made(steps=4, known=1).save(tmp_path)
    rewrite(tmp_path, content)
    refused(tmp_path, r"extra-\w+\.json is damaged: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", "KeyError..known"),
        (b"[1]", "TypeError"),
        (b"[]", "TypeError"),
        (b'{"known": 1, "marks": {"a": 1}, "more": 1}', "RuntimeError..more"),
        (b'{"known": 1, "marks": [1, 2, 3]}', "ValueError.*zip"),
    ],
)
def test_what_the_buffer_does_not_take_is_refused_and_nothing_is_changed(
    tmp_path, content, problem
):
    made(size=5, n_envs=2, steps=4, known=1, seed=5).save(tmp_path)
    rewrite(tmp_path, content)
    refused(tmp_path, f"cannot be loaded: its extra state is not for Marked: {problem}")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../extra-0123456789abcdef.json"},
        {"name": "header.json"},
        {"name": 1},
        {"size": -1},
        {"size": "1"},
        {"first": 0},
    ],
)
def test_a_header_that_names_something_else_is_refused(tmp_path, changes):
    made(steps=4, known=1).save(tmp_path)
    rewrite(tmp_path, **changes)
    refused(tmp_path, r"header\.json does not describe a replay buffer")


def test_interrupted_while_it_is_put_back_the_buffer_is_as_it_was(tmp_path, monkeypatch):
    made(size=5, n_envs=2, steps=4, known=1, seed=5).save(tmp_path)

    def interrupted(self, state):
        self.known, self.more = state["known"], "more"
        self.rng.random()
        raise KeyboardInterrupt("now")

    monkeypatch.setattr(Marked, "set_extra_state", interrupted)
    refused(tmp_path, "now", KeyboardInterrupt)


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ({1}, "'known' .set is neither plain nor an array of numbers"),
        (object(), "'known' .object is neither"),
        (np.array([object()]), "'known' .ndarray is neither"),
    ],
)
def test_what_cannot_be_saved_is_named_and_the_folder_left_alone(tmp_path, known, problem):
    buffer = made(steps=4, known=1)
    buffer.save(tmp_path)
    before = sorted(tmp_path.iterdir())
    add(buffer, 2)
    buffer.mark(known)
    with pytest.raises(ValueError, match=rf"get_extra_state\(\) returns cannot be .*{problem}"):
        buffer.save(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    again = made()
    again.load(tmp_path)
    assert (again.known, again.size()) == (1, 4)


def test_a_full_disk_leaves_what_was_saved_before(tmp_path, monkeypatch):
    buffer = made(steps=4, known=1)
    buffer.save(tmp_path)
    before = sorted(tmp_path.iterdir())
    add(buffer, 2)
    written = saving.write_file

    def full(path, chunks):
        if path.name.startswith("extra-"):
            written(path, [b"half"])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, chunks)

    monkeypatch.setattr(saving, "write_file", full)
    with pytest.raises(OSError, match="what was saved before is intact"):
        buffer.save(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_left_over_files_are_removed_and_missing_ones_written_anew(tmp_path):
    buffer = made(steps=4, known=1)
    buffer.save(tmp_path)
    left = tmp_path / "extra-0123456789abcdef.json"
    left.write_bytes(b"interrupted")
    (named,) = {*extra_files(tmp_path)} - {left}
    named.unlink()
    with pytest.raises(ValueError, match=f"{named.name} is missing"):
        made(steps=1).save(tmp_path)  # another buffer, which cannot mend it
    buffer.save(tmp_path)
    assert len(extra_files(tmp_path)) == 1
    again = made()
    again.load(tmp_path)
    assert again.known == 1


def test_checkpoints_keep_it_beside_the_folder_where_more_kinds_have_a_place(tmp_path):
    known = {"set": {1, 2}, "deque": deque([1], 3), "complex": np.array([1j]), "0-d": np.array(1)}
    buffer, folder = made(steps=4, known=known), tmp_path / "buffer"
    state = save_buffer(buffer, folder, None)
    assert not extra_files(folder)
    again = made()
    load_buffer(again, folder, state)
    assert repr(again.get_extra_state()) == repr(buffer.get_extra_state())


def test_a_buffer_that_saves_in_a_way_of_its_own_does_so_in_checkpoints(tmp_path):
    class Counted(ReplayBuffer):
        def save(self, path):
            super().save(path)
            (path.parent / "count.txt").write_text(str(self.size()))

    save_buffer(made(Counted, steps=4), tmp_path / "buffer", None)
    assert (tmp_path / "count.txt").read_text() == "4"
