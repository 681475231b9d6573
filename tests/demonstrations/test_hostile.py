"""Files of demonstrations that are damaged, strange, or meant to do harm: refused in one line."""

import dataclasses
import io
import pickle
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from pyrl_sb3.buffers import demofiles
from pyrl_sb3.buffers.demofiles import load_demonstrations, save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError

POINTER = struct.pack("<Q", 0x4141414141414141)


class Calls:
    """Pickled, it calls a function with arguments, and gives what comes of it a state."""

    def __init__(self, function, *arguments, state=None):
        self.called = (function, arguments, state) if state else (function, arguments)

    def __reduce__(self):
        return self.called


def array_of(dtype, content):
    reconstruct = np.zeros(1).__reduce__()[0]
    state = (1, (1,), dtype, False, content)
    return Calls(reconstruct, np.ndarray, (0,), b"b", state=state)


def hidden_object():
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    return Calls(np.dtype, "V8", False, True, state=state)


def with_pickles(path, content, protocol=2):
    """A file of baselines, of which the arrays of objects are that pickle."""
    member = io.BytesIO()
    npy.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    member.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("acs", "obs"):
            archive.writestr(f"{name}.npy", member.getvalue())
    return path


def of_itself():
    found = []
    found.append(found)
    return found


def of_many(levels):
    found = [0.0]
    for _ in range(levels):
        found = [found] * 10
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Calls(np.ndarray, (1,), np.dtype("O"), POINTER), "it calls numpy.ndarray"),
        (array_of(np.dtype("O"), POINTER), "an array of other bytes than its shape needs"),
        (array_of(np.dtype("O"), [array_of(hidden_object(), POINTER)]), "arrays of 'V8' are not"),
        (array_of(np.dtype("f8"), [1.0]), "an array of other bytes than its shape needs"),
        (array_of(np.dtype("O"), [1, 2]), "of other objects than its shape needs"),
        (array_of(np.dtype("O"), [of_itself()]), "numbers in one episode|recursion|truncated"),
        (array_of(np.dtype("O"), [of_many(12)]), "numbers in one episode"),
        (Calls(io.BytesIO, b"x"), "asks for _io.BytesIO, refused"),
        (b"\x80\x02R.", "acs: "),
        (b"\x80\x02h\x05.", "acs: "),
        (b"\x80\x02]}U\x01aK\x01sb.", "acs: "),
        (b"\x80\x02\xff.", "acs: its pickle is damaged, or has an operation, 255, refused"),
        (b"", "acs: "),
        (pickle.dumps(5), "acs: is truncated"),
        (b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".", "acs: is truncated"),
    ],
)
def test_pickles_that_mean_harm(tmp_path, content, message):
    path = with_pickles(tmp_path / "demo.npz", content)
    with pytest.raises(DemonstrationError, match=message) as caught:
        load_demonstrations(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def again_and_again():
    """Arguments that stand there once, for a hundred arrays of 64 KiB."""
    content, size = b"B" + (2**16).to_bytes(4, "little") + bytes(2**16), b"J\0\0\1\0\x85"
    kind = b"cnumpy\ndtype\nX\2\0\0\0u1\x85R"
    made = b"\x80\4cnumpy._core.numeric\n_frombuffer\nq\0"
    arguments = b"(" + content + kind + size + b"X\1\0\0\0Ctq\1"
    return made + arguments + b"](" + 100 * b"h\0h\1R" + b"e."


@pytest.mark.parametrize(
    "content",
    [again_and_again(), b"\x80\4" + 20_000 * b"]" + b".", b"\x80\4" + 20_000 * b"N0" + b"."],
    ids=["arrays", "lists", "nothing"],
)
def test_pickles_that_come_to_more(tmp_path, monkeypatch, content):
    monkeypatch.setattr(demofiles, "_UNSUSPECTED", 2**18)
    path = with_pickles(tmp_path / "demo.npz", content)
    packed = {}
    with zipfile.ZipFile(path) as archive:
        packed.update({name: archive.read(name) for name in archive.namelist()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in packed.items():
            archive.writestr(name, member)
    with pytest.raises(DemonstrationError, match="acs: its pickles would take more than 1048576"):
        load_demonstrations(path)


def test_episodes_that_share_what_they_hold(tmp_path, monkeypatch):
    """Each gets numbers and infos of its own."""
    monkeypatch.setattr(demofiles, "_UNSUSPECTED", 2**18)
    acts, states, info = [0.0] * 1000, [0.0] * 1001, [dict.fromkeys(map(str, range(100)))] * 1000
    path = tmp_path / "demo.npz"
    for infos, message in (({}, "numbers in one episode"), ({"info": objects(info)}, "would take")):
        many = 1 if infos else 200
        fields = {"acs": objects(*[acts] * many), "obs": objects(*[states] * many)}
        np.savez_compressed(path, **fields, **infos)
        with pytest.raises(DemonstrationError, match=message):
            load_demonstrations(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_harmless_pickles_are_read(tmp_path, protocol):
    step = {"observation": np.arange(3.0), "goal": np.float32(2), "name": b"x"}
    content = {
        "acs": [[np.zeros(1), np.ones(1)]],
        "obs": [[{key: step[key] for key in ("observation", "goal")}] * 3],
        "info": [[{"is_success": np.True_, "name": step["name"]}] * 2],
    }
    with zipfile.ZipFile(tmp_path / "demo.npz", "w") as archive:
        for name, values in content.items():
            array = np.empty(1, object)
            array[:] = values
            member = io.BytesIO()
            header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
            npy.write_array_header_1_0(member, header)
            member.write(pickle.dumps(array, protocol))
            archive.writestr(f"{name}.npy", member.getvalue())
    (episode,) = load_demonstrations(tmp_path / "demo.npz").episodes
    assert np.array_equal(episode.observations["observation"], [[0, 1, 2]] * 3)
    assert np.array_equal(episode.observations["goal"], [2, 2, 2])
    assert np.array_equal(episode.actions, [[0], [1]])
    assert episode.success
    assert episode.infos[0]["name"] == b"x"


def test_damaged_files(tmp_path, demonstrations):
    save_demonstrations(demonstrations("box"), tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    path, rng, refused = tmp_path / "demos.npz", random.Random(0), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            load_demonstrations(path)  # some damage does not show
        except DemonstrationError:  # and nothing else
            refused += 1
    assert refused >= 150, "at least half of it does"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lengths": np.array(20)}, "lengths: must be whole numbers"),
        ({"lengths": np.array([5.0] * 4)}, "lengths: must be whole numbers"),
        ({"lengths": np.array([[5, 5, 5, 5]])}, "lengths: must be whole numbers"),
        ({"lengths": np.array([5, 5, 20, -10])}, "lengths: must be whole numbers"),
        ({"lengths": np.array([5] * 5)}, "actions: 20, by the lengths there must be 25"),
        ({"lengths": np.array([5] * 3)}, "actions: 20, by the lengths there must be 15"),
        ({"terminated": np.array([True])}, "terminated: 1, by the lengths there must be 4"),
        ({"success": np.array([True])}, "success: 1, by the lengths there must be 4"),
        ({"terminated": np.zeros((4, 2), bool)}, "terminated: must be one for each episode"),
        ({"actions": np.array(3.0)}, "actions: must be numbers"),
        ({"actions": np.array([["x"]] * 20)}, "actions: must be numbers"),
        ({"actions": np.zeros((20, 1), object)}, "actions: it holds Python objects"),
        ({"actions": np.zeros((20, 1), complex)}, "actions: must be numbers"),
        ({"rewards": np.array(["x"] * 20)}, "rewards: must be numbers"),
        ({"rewards": np.zeros(19)}, "rewards: 19, by the lengths there must be 20"),
        ({"observations/observation": np.array([["x"]] * 24)}, "observation: must be numbers"),
        ({"pyrl_demonstrations": np.array([1, 1])}, "pyrl_demonstrations: must be the number"),
        ({"pyrl_demonstrations": np.array("x")}, "pyrl_demonstrations: must be the number"),
        ({"pyrl_demonstrations": np.array(2)}, "is of a newer version, 2$"),
        ({"env_id": np.array(["a", "b"])}, "env_id: must be text"),
    ],
)
def test_fields_of_a_wrong_kind(tmp_path, demonstrations, changed, message):
    path = tmp_path / "demos.npz"
    save_demonstrations(demonstrations("box"), path)
    np.savez(path, **{**np.load(path), **changed})
    with pytest.raises(DemonstrationError, match=rf"^{path}: .*{message}"):
        load_demonstrations(path)


def test_sizes_are_compared_before_anything_is_unpacked(tmp_path, demonstrations, monkeypatch):
    path, large = tmp_path / "demos.npz", 10**6
    save_demonstrations(demonstrations("box"), path)
    fields = dict(np.load(path))

    def refusal(**changed):
        np.savez_compressed(path, **{**fields, **changed})
        tracemalloc.start()
        with pytest.raises(DemonstrationError) as caught:
            load_demonstrations(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < large
        return str(caught.value)

    zeros = np.zeros((large, 1), np.float32)
    assert "actions: 1000000, by the lengths there must be 20" in refusal(actions=zeros)
    assert "lengths: more than" in refusal(lengths=np.zeros(2**22 + 1, np.int32))
    assert "env_id: its values have 20000000 bytes each" in refusal(env_id=np.array("", "U5000000"))
    of_one = {"lengths": np.array([large]), "terminated": np.ones(1, bool), "success": np.ones(1)}
    rows = {"actions": zeros, "rewards": zeros, "observations/observation": np.zeros(large + 1)}
    monkeypatch.setattr(demofiles, "_UNSUSPECTED", large)
    assert "bytes unpacked, at most" in refusal(**of_one, **rows)


def objects(*values):
    found = np.empty(len(values), object)
    found[:] = values
    return found


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"acs": objects([np.zeros(1), np.zeros(2)])}, "episode 0: acs: "),
        ({"acs": objects(["1.0", "2.0"])}, "episode 0: acs: must be numbers"),
        ({"acs": objects(None)}, "episode 0: acs: "),
        ({"acs": np.array(1.0)}, "acs: len"),
        ({"obs": objects(None)}, "episode 0: obs: "),
        ({"obs": objects([{"a": 1.0}, {"b": 1.0}])}, "episode 0: obs: 'b'|episode 0: obs: 'a'"),
        ({"obs": objects([{1: 1.0, "b": 1.0}] * 3)}, "episode 0: obs: keys must be text"),
        ({"info": objects([1, 2])}, "episode 0: info: must be a dict for each step, not int"),
    ],
)
def test_fields_of_baselines_of_a_wrong_kind(tmp_path, changed, message):
    fields = {"acs": objects([np.zeros(1)] * 2), "obs": objects([np.zeros(3)] * 3)}
    np.savez(tmp_path / "demo.npz", **{**fields, **changed})
    with pytest.raises(DemonstrationError, match=message):
        load_demonstrations(tmp_path / "demo.npz")


def test_numbers_in_arrays_of_objects_are_read(tmp_path):
    action, state = np.array([0.5], object), np.array([0.25, 0.5], object)
    np.savez(tmp_path / "demo.npz", acs=objects([action] * 2), obs=objects([state] * 3))
    (episode,) = load_demonstrations(tmp_path / "demo.npz").episodes
    states = episode.observations["observation"]
    assert states.dtype == np.float64
    assert states.tolist() == [[0.25, 0.5]] * 3
    assert episode.actions.tolist() == [[0.5]] * 2


@pytest.mark.parametrize("values", [np.full((6, 1), "x"), np.zeros((6, 1), complex)])
def test_only_numbers_pass_the_check(line, demonstrations, values):
    demos, env = demonstrations("box"), line("box")
    spaces = env.observation_space, env.action_space
    first, *rest = demos.episodes

    def checked(**changed):
        episodes = [dataclasses.replace(first, **changed), *rest]
        dataclasses.replace(demos, episodes=episodes).check(*spaces)

    with pytest.raises(DemonstrationError, match="episode 0: observations: must be numbers"):
        checked(observations={"observation": values})
    with pytest.raises(DemonstrationError, match="episode 0: actions: must be numbers"):
        checked(actions=values[1:])
    with pytest.raises(DemonstrationError, match="episode 0: rewards: must be numbers"):
        checked(rewards=values[1:, 0])
    with pytest.raises(DemonstrationError, match="episode 0: observations: not finite at step 0"):
        checked(observations={"observation": np.full((6, 1), 1e39)})  # infinite in float32
