"""How replay buffers are written: little at a time, all or nothing, and read with suspicion."""

import copy
import errno
import json
import os
import shutil
import sys

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import (
    DictReplayBuffer,
    HerReplayBuffer,
    ReplayBuffer,
    files,
    header,
    saving,
    shards,
)

ACTIONS = spaces.Box(-1, 1, (4,), np.float32)
SIZES = {"achieved_goal": 3, "desired_goal": 3, "observation": 25}


def goal_space(**sizes):
    boxes = {k: spaces.Box(-np.inf, np.inf, (n,)) for k, n in {**SIZES, **sizes}.items()}
    return spaces.Dict(boxes)


def make(size=100_000, **kwargs):
    return HerReplayBuffer(size, goal_space(), ACTIONS, env=None, n_sampled_goal=0, **kwargs)


def fill(buffer, steps, length=50, seed=0):
    """Episodes of 50 steps of noise, shaped like FetchPickAndPlace's."""
    rng = np.random.default_rng(seed)
    noise = {key: rng.random((steps + 1, 1, n), np.float32) for key, n in SIZES.items()}
    actions, goals = rng.random((steps, 1, 4), np.float32), noise.pop("desired_goal")
    infos = [{"TimeLimit.truncated": True}]
    for t in range(steps):
        goal = {"desired_goal": goals[t // length]}
        obs, after = ({**{k: v[i] for k, v in noise.items()}, **goal} for i in (t, t + 1))
        done = np.array([t % length == length - 1])
        buffer.add(obs, after, actions[t], np.zeros(1), done, infos)
    return buffer


def contents(buffer):
    """All that is stored, as bytes."""
    positions = np.arange(buffer.store.first, buffer.store.now)
    batch = buffer.sample_at(positions, np.zeros_like(positions))[:5]
    arrays = [a for part in batch for a in (part.values() if isinstance(part, dict) else [part])]
    return b"".join(array.numpy().tobytes() for array in arrays)


def loaded(folder, size=100_000):
    buffer = make(size)
    buffer.load(folder)
    return buffer


def listing(folder):
    return {file.name: file.stat().st_size for file in folder.iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be opened there")
def test_folders_that_a_file_system_cannot_write_through_are_no_failure(tmp_path, monkeypatch):
    numbers = []

    def refused(_):
        raise OSError(numbers[-1], os.strerror(numbers[-1]))

    monkeypatch.setattr("os.fsync", refused)
    for number in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
        numbers.append(number)
        shards.sync_folder(tmp_path)
    for number in (errno.EIO, errno.ENOSPC):
        numbers.append(number)
        with pytest.raises(OSError, match=os.strerror(number)):
            shards.sync_folder(tmp_path)


def test_ten_thousand_fetch_transitions_take_less_than_1_5_megabytes(tmp_path):
    fill(make(1_000_000), 10_000).save(tmp_path)
    assert sum(listing(tmp_path).values()) <= 1_500_000


def test_a_further_save_writes_what_is_new(tmp_path):
    buffer = fill(make(), 10_000)
    buffer.save(tmp_path)
    for steps in (100, 1000, 3):
        before = listing(tmp_path)
        fill(buffer, steps).save(tmp_path)
        new = {name: size for name, size in listing(tmp_path).items() if name not in before}
        assert sum(new.values()) <= 134 * steps + 1000  # and a running episode
        assert contents(loaded(tmp_path)) == contents(buffer)


def test_a_further_save_of_nothing_new_leaves_no_more_files(tmp_path):
    buffer, counts = fill(make(), 20, length=5), set()
    for _ in range(4):
        buffer.save(tmp_path)
        counts.add(len(listing(tmp_path)))
    assert len(counts) == 1


def test_many_small_saves_leave_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "MANY_SMALL", 8)
    buffer, written = make(), 0
    for _ in range(60):
        before = listing(tmp_path)
        fill(buffer, 10).save(tmp_path)
        written += sum(size for name, size in listing(tmp_path).items() if name not in before)
    assert len(listing(tmp_path)) <= saving.MANY_SMALL + 3
    assert written < 7 * 134 * 600
    assert contents(loaded(tmp_path)) == contents(buffer)


def test_large_saves_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SHARD_BYTES", 20_000)
    buffer = fill(make(1000), 2345)
    buffer.save(tmp_path)
    assert sum(name.endswith(".bin") for name in listing(tmp_path)) == 1 + -(-1000 * 128 // 20_000)
    assert max(listing(tmp_path).values()) < 25_000
    assert contents(loaded(tmp_path, 1000)) == contents(buffer)
    fill(buffer, 500, seed=1).save(tmp_path)
    assert contents(loaded(tmp_path, 1000)) == contents(buffer)


def test_only_a_continuation_is_added(tmp_path):
    buffer = fill(make(), 200)
    buffer.save(tmp_path)
    twin = copy.deepcopy(buffer)
    resumed = loaded(tmp_path)
    fill(buffer, 100, seed=1).save(tmp_path)
    for other, seed in ((resumed, 2), (twin, 3), (fill(make(), 350), 4), (buffer, 5)):
        fill(other, 100, seed=seed).save(tmp_path)
        assert contents(loaded(tmp_path)) == contents(other)
    buffer.reset()
    fill(buffer, 10).save(tmp_path)
    assert contents(loaded(tmp_path)) == contents(buffer)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch has threads
def test_a_forked_process_is_another_buffer(tmp_path):
    buffer = fill(make(), 100)
    buffer.save(tmp_path)
    fill(buffer, 50)
    child = os.fork()
    if not child:
        fill(buffer, 100, seed=1).save(tmp_path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    fill(buffer, 200, seed=2).save(tmp_path)
    assert contents(loaded(tmp_path)) == contents(buffer)


def test_the_generator_goes_on_unless_told_otherwise(tmp_path):
    buffer = fill(make(seed=1), 100)
    buffer.sample(7)
    buffer.save(tmp_path)
    other, fresh = make(seed=2), make(seed=2)
    other.load(tmp_path)
    assert buffer.rng.random() == other.rng.random()
    expected = make(seed=2).rng.random()
    fresh.load(tmp_path, restore_rng=False)
    assert fresh.rng.random() == expected


def test_a_cut_after_a_save_is_saved(tmp_path):
    buffer = fill(make(), 120)
    buffer.save(tmp_path)
    buffer.truncate_last_trajectory()
    buffer.save(tmp_path)
    again = loaded(tmp_path)
    assert (again.store._ends == buffer.store._ends).all()
    assert contents(again) == contents(buffer)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_bit_comes_back(tmp_path, dtype):
    space = spaces.Dict(
        {
            "f": spaces.Box(-np.inf, np.inf, (3,), np.float64),
            "start": spaces.MultiBinary(2),
            "i": spaces.Discrete(9),
            "u": spaces.Box(0, 255, (2, 2, 1), np.uint8),
        }
    )
    buffer, again = (DictReplayBuffer(50, space, spaces.Discrete(3), dtype=dtype) for _ in "ab")
    odd = np.array([[np.nan, -np.inf, -0.0], [5e-324, 1e-7, -np.nan]], dtype)
    for t in range(9):
        f, b, i, u = odd[[t % 2]], np.array([[t % 2, 1]]), np.array([t]), np.full((1, 2, 2, 1), t)
        obs = {"f": f, "start": b.astype(np.int8), "i": i, "u": u.astype(np.uint8)}
        buffer.add(obs, obs, np.array([[2]]), np.array([np.nan]), np.array([False]), [{}])
    buffer.save(tmp_path)
    again.load(tmp_path)
    for mine, theirs in zip(buffer.store.columns, again.store.columns, strict=True):
        assert mine.ring[:9].tobytes() == theirs.ring[:9].tobytes()
        assert mine.pending.tobytes() == theirs.pending.tobytes()
    assert contents(buffer) == contents(again)


@pytest.mark.parametrize("size", [10, 19, 20, 21, 22, 33, 40, 200])
@pytest.mark.parametrize("storage", ["ram", "memmap"])
def test_frame_stacks(tmp_path, size, storage):
    space = spaces.Box(0, 255, (2, 3, 4), np.uint8)

    def images(slots):
        where = {"storage": storage, "path": tmp_path / "map"} if storage == "memmap" else {}
        return ReplayBuffer(slots, space, ACTIONS, frame_stack=4, **where)

    buffer, log = images(40), []
    for t in range(130):
        if t % 17 == 0:
            obs = np.full((1, *space.shape), t, np.uint8)
        after = np.concatenate([obs[..., 1:], np.full((1, 2, 3, 1), t + 100, np.uint8)], axis=-1)
        done = np.array([t % 17 == 16])
        buffer.add(obs, after, np.zeros(4), np.zeros(1), done, [{"TimeLimit.truncated": True}])
        log.append((obs[0], after[0]))
        obs = after
        if t % 30 == 20:
            buffer.save(tmp_path / "saved")
    buffer.save(tmp_path / "saved")
    again = images(size)
    again.load(tmp_path / "saved")
    positions = np.arange(again.store.first, again.store.now)
    batch = again.sample_at(positions, np.zeros_like(positions))
    expected = log[-min(size, 40) :]
    assert np.array_equal(batch.observations.numpy(), [pair[0] for pair in expected])
    assert np.array_equal(batch.next_observations.numpy(), [pair[1] for pair in expected])


@pytest.mark.parametrize("size", [5, 10, 20])
@pytest.mark.parametrize("frame_stack", [1, 2])
def test_an_episode_goes_on_in_another_capacity(tmp_path, size, frame_stack):
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def two_steps(slots):
        return ReplayBuffer(slots, space, ACTIONS, frame_stack=frame_stack, n_steps=2, gamma=1)

    def add(buffer, t):
        seen, after = np.array([[t - 1, t]]), np.array([[t, t + 1]])
        buffer.add(seen, after, np.zeros(4), np.ones(1), np.zeros(1), [{}])

    buffer, again = two_steps(10), two_steps(size)
    for t in range(15):
        add(buffer, t)
    buffer.save(tmp_path)
    again.load(tmp_path)
    add(again, 15)
    batch = again.sample_at(np.array([again.store.now - 2]), np.array([0]))
    assert (batch.rewards.item(), batch.next_observations[0, 1].item()) == (2, 16)


@pytest.mark.parametrize("length", [300, 1000])
def test_an_episode_much_longer_than_the_buffer_comes_back(tmp_path, length):
    buffer = fill(fill(make(10), 5, length=5), length, length=length + 1)
    buffer.save(tmp_path)
    again = loaded(tmp_path, 10)
    assert contents(again) == contents(buffer)
    positions, envs = np.arange(length - 5, length + 5), np.zeros(10, int)
    stores = buffer.store, again.store
    here, there = (store.bits.numbers(positions, envs).tolist() for store in stores)
    assert here == there == [1] * 10


def test_plain_and_hindsight_buffers_read_each_others_files(tmp_path):
    plain = DictReplayBuffer(500, goal_space(), ACTIONS)
    hindsight = fill(make(), 120)
    hindsight.save(tmp_path / "hindsight")
    plain.load(tmp_path / "hindsight")
    assert contents(plain) == contents(hindsight)
    fill(plain, 30)
    plain.save(tmp_path / "plain")
    assert contents(loaded(tmp_path / "plain")) == contents(plain)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"observation": 24}, "'observation/observation' is float32 of shape .25,. in .* and .*24"),
        ({"desired_goal": 2, "achieved_goal": 2}, "achieved_goal' is float32 of shape .3,."),
        ({"extra": 1}, "'observation/extra' is missing in"),
    ],
)
def test_other_shapes_are_refused_by_key(tmp_path, kwargs, message):
    fill(make(), 20).save(tmp_path)
    other = DictReplayBuffer(100, goal_space(**kwargs), ACTIONS)
    with pytest.raises(ValueError, match=message):
        other.load(tmp_path)
    half = make(dtype="float16")
    with pytest.raises(ValueError, match=r"float32 of shape .* and float16"):
        half.load(tmp_path)
    whole = make()
    whole.store.actions = np.zeros((100_000, 4), np.int64)  # as older versions had them
    fill(whole, 20).save(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"'action' is int64 of .* and float32 of "):
        make().load(tmp_path / "whole")
    actions = HerReplayBuffer(100, goal_space(), spaces.Box(-1, 1, (3,)), env=None)
    with pytest.raises(ValueError, match=r"'action' is float32 of shape .4,."):
        actions.load(tmp_path)


@pytest.fixture
def saved(tmp_path):
    """A folder with several files, and what is in it."""
    buffer = make()
    for _ in range(3):
        fill(buffer, 20).save(tmp_path / "saved")
    return tmp_path / "saved", contents(buffer)


def refused(folder, match):
    buffer = fill(make(), 7)
    before = contents(buffer)
    with pytest.raises(ValueError, match=match) as caught:
        buffer.load(folder)
    assert contents(buffer) == before
    assert "\n" not in str(caught.value)


def test_damage_is_refused_by_file_name(saved):
    folder, _ = saved
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for at in range(0, len(whole), max(len(whole) // 25, 1)):
            for bit in (0, 5):
                flipped = bytearray(whole)
                flipped[at] ^= 1 << bit
                if file.suffix == ".json" and bytes(flipped).split() == whole.split():
                    continue  # only the white space is different
                file.write_bytes(flipped)
                refused(folder, file.name)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            refused(folder, file.name)
        file.write_bytes(whole + b"\0")
        refused(folder, file.name)
        file.unlink()
        refused(folder, file.name)
        file.write_bytes(whole)
    loaded(folder)


def test_a_header_nested_too_deeply_is_refused(saved):
    folder, _ = saved
    (folder / "header.json").write_text("[" * 200_000)
    refused(folder, r"header\.json is damaged")


@pytest.mark.parametrize("harm", ["missing", "truncated"])
def test_a_save_mends_a_folder_that_is_not_whole(tmp_path, harm):
    buffer = make()
    for _ in range(2):
        fill(buffer, 20).save(tmp_path / "saved")
    file = next(file for file in (tmp_path / "saved").iterdir() if file.suffix == ".bin")
    file.write_bytes(file.read_bytes()[:-1]) if harm == "truncated" else file.unlink()
    with pytest.raises(ValueError, match="is missing" if harm == "missing" else "is damaged"):
        fill(make(), 5).save(tmp_path / "saved")  # another buffer, which cannot mend it
    fill(buffer, 3).save(tmp_path / "saved")
    assert contents(loaded(tmp_path / "saved")) == contents(buffer)


def test_a_load_goes_on_where_somebody_saves_meanwhile(tmp_path, monkeypatch):
    buffer, folder = make(), tmp_path / "saved"
    fill(buffer, 20).save(folder)
    check, saves = files.check_files, []

    def saved_meanwhile(*arguments):
        if len(saves) < 3:
            saves.append(fill(buffer, 5).save(folder))
        check(*arguments)

    monkeypatch.setattr("pyrl_sb3.buffers.files.check_files", saved_meanwhile)
    again = make()
    again.load(folder)
    assert len(saves) == 3
    assert contents(again) == contents(buffer)


def test_a_folder_that_is_saved_to_all_the_time_is_given_up(tmp_path, monkeypatch):
    buffer, folder, check = make(), tmp_path / "saved", files.check_files
    fill(buffer, 20).save(folder)

    def saved_meanwhile(*arguments):
        fill(buffer, 5).save(folder)
        check(*arguments)

    monkeypatch.setattr(files, "check_files", saved_meanwhile)
    monkeypatch.setattr(files, "_TRIES", 2)
    refused(folder, "cannot be loaded: it is saved to all the time")
    assert buffer.size() == 20 + 2 * 5


def test_a_file_that_goes_away_after_the_check_is_named(saved, monkeypatch):
    (folder, _), check = saved, files.check_files

    def removed(folder, header):
        check(folder, header)
        (folder / header.shards[0].name).unlink()

    monkeypatch.setattr(files, "check_files", removed)
    refused(folder, r"0-20-\w+\.bin is missing")


def test_a_folder_with_the_name_of_a_file_is_left_alone(tmp_path):
    buffer, other = make(), tmp_path / "saved" / "0-1-0123456789abcdef.bin"
    fill(buffer, 20).save(tmp_path / "saved")
    other.mkdir()
    fill(buffer, 5).save(tmp_path / "saved")
    assert other.is_dir()
    assert contents(loaded(tmp_path / "saved")) == contents(buffer)


def rewrite(folder, change):
    """Change the header as somebody would who also works out its checksum."""
    whole = json.loads((folder / "header.json").read_bytes())
    change(whole["content"])
    whole["checksum"] = header._checksum(whole["content"])
    (folder / "header.json").write_text(json.dumps(whole))


def put(*path):
    *keys, last, value = path

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("shards", 0, "name", "../1-2-0123456789abcdef.bin"),
        put("shards", 0, "name", "header.json"),
        put("shards", 0, "past", 2**40),
        put("shards", 0, "size", 2**50),
        put("shards", 1, "first", 0),
        put("shards", 0, "low", [-1]),
        put("shards", 0, "high", [2**40]),
        put("shards", []),
        put("tip", "low", [0]),
        put("tip", "high", []),
        put("n_envs", 0),
        put("n_envs", 10**9),
        put("n_envs", "1"),
        put("now", 10**12),
        put("now", -1),
        put("first", 60.0),
        put("layout", "steps", "reward", [[10**9], "<f4"]),
        put("layout", "steps", "reward", [[], "|O"]),
        put("layout", "steps", "reward", [[], "<V4"]),
        put("layout", "episodes", {}),
        put("layout", "lead", "reward", 5),
        put("layout", "lead", {}),
        put("layout", None),
        put("rng", {}),
        put("extra", 1),
        put("id", ["a"]),
        put("layout", "steps", []),
        put("rng", "state", "state", -(2**300)),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(saved, change):
    folder, _ = saved
    rewrite(folder, change)
    refused(folder, r"header\.json|cannot be loaded|is damaged|is missing in|no state for a PCG64")


def test_episodes_that_end_before_they_begin_are_refused(saved):
    folder, _ = saved
    rewrite(folder, put("shards", 0, "low", [5]))
    refused(folder, r"header\.json does not describe a replay buffer: 0-20-\w+\.bin contradicts")


@pytest.mark.parametrize(
    ("fact", "change", "message"),
    [
        ("start", lambda starts: starts + 1, "episodes are missing"),
        ("start", lambda starts: starts * 0, "the episodes contradict each other"),
        ("end", lambda ends: ends | 4, "the episodes contradict each other"),
    ],
)
def test_episodes_that_do_not_follow_each_other_are_refused(
    tmp_path, monkeypatch, fact, change, message
):
    honest, name = saving.episodes_of, f"episode/{fact}"

    def dishonest(*arguments):
        facts = honest(*arguments)
        return {**facts, name: change(facts[name])}

    monkeypatch.setattr(saving, "episodes_of", dishonest)
    fill(make(), 20, length=5).save(tmp_path)
    refused(tmp_path, f"cannot be loaded: {message}")


def test_a_header_of_no_steps_is_an_empty_buffer(saved):
    folder, _ = saved
    rewrite(folder, put("first", 60))
    with pytest.raises(RuntimeError, match="the replay buffer is empty"):
        loaded(folder).sample(1)


def test_a_newer_format_is_refused_and_left_alone(saved):
    folder, _ = saved
    header = json.loads((folder / "header.json").read_bytes())
    (folder / "header.json").write_text(json.dumps({**header, "format": 2}))
    before = listing(folder)
    refused(folder, "has format 2, and this version of pyrl-sb3 reads 1: update")
    with pytest.raises(ValueError, match="format 2"):
        make().save(folder)
    assert listing(folder) == before


def test_foreign_files_and_folders_are_refused_and_left_alone(tmp_path):
    (tmp_path / "buffer.pkl").write_bytes(b"pickle")
    refused(tmp_path, "is no replay buffer's folder: it has no header.json")
    with pytest.raises(ValueError, match=r"holds 'buffer\.pkl' and no replay buffer"):
        make().save(tmp_path)
    with pytest.raises(ValueError, match=r"buffer\.pkl is a file"):
        make().save(tmp_path / "buffer.pkl")
    refused(tmp_path / "buffer.pkl", "is no replay buffer's folder")
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        make().load(tmp_path / "none")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "header.json").write_text('{"format": 1}')
    refused(tmp_path / "json", "header.json is damaged, or no replay buffer's header")
    assert listing(tmp_path)["buffer.pkl"] == 6


@pytest.mark.parametrize("budget", [0, 1, 300, 2000, 4000])
def test_a_full_disk_leaves_the_previous_save(saved, monkeypatch, budget):
    folder, before = saved
    names = listing(folder)
    left = [budget]

    class Full:
        """A file on a disk with `left` bytes free."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(bytes(data)[: left[0]])
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    opened = shards.Path.open
    monkeypatch.setattr(
        shards.Path,
        "open",
        lambda path, mode="r", **kw: (
            Full(opened(path, mode)) if "x" in mode else opened(path, mode, **kw)
        ),
    )
    buffer = loaded(folder)
    fill(buffer, 20, seed=3)
    with pytest.raises(OSError, match=r"not saved \(No space left on device\)") as caught:
        buffer.save(folder)
    assert caught.value.errno == errno.ENOSPC
    assert listing(folder) == names
    assert contents(loaded(folder)) == before
    left[0] = 10**9
    buffer.save(folder)
    assert contents(loaded(folder)) == contents(buffer)


def test_left_over_files_are_removed_and_others_are_not(saved):
    folder, _ = saved
    (folder / "notes.txt").write_text("mine")
    (folder / "0-60-0123456789abcdef.bin").write_bytes(b"interrupted")
    (folder / "header-0123456789abcdef.tmp").write_bytes(b"interrupted")
    buffer = loaded(folder)
    buffer.save(folder)
    names = set(listing(folder))
    assert "notes.txt" in names
    assert not names & {"0-60-0123456789abcdef.bin", "header-0123456789abcdef.tmp"}


def test_a_folder_may_be_moved_and_copied(saved, tmp_path):
    folder, before = saved
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    assert contents(loaded(tmp_path / "copy")) == before
