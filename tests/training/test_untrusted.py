"""Models, statistics and arrays of strangers: refused in one line, and nothing of them is run."""

import base64
import importlib
import io
import json
import pickle
import random
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3.plugins import PluginError, get_plugin_manager, saved
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.loading import load_model, saved_timesteps
from pyrl_sb3.training.normalization import load_statistics
from pyrl_sb3.training.untrusted import archives, read_arrays, read_member, read_pickle
from pyrl_sb3.training.untrusted.archives import check_contents
from pyrl_sb3.training.untrusted.known import find_known_class

CANARY = "canary"
CREATE = "open('canary', 'w').close()"


def text(value):
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def named(module, name):
    """The beginning of a pickle that looks up `module.name`."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93"


def calls(module, name, *arguments):
    """A pickle that calls `module.name(*arguments)`; nothing is looked up here."""
    return named(module, name) + pickle.dumps(arguments, 2)[2:-1] + b"R."


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with a module on the path that leaves a canary when imported."""
    (tmp_path / "planted.py").write_text(f"{CREATE}\nPolicy = 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob(f"{CANARY}*"))
    assert "planted" not in sys.modules


def pendulum():
    return DummyVecEnv([lambda: gym.make("Pendulum-v1")])


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of a sound model."""
    path = tmp_path_factory.mktemp("sound") / "model.zip"
    SAC("MlpPolicy", pendulum(), policy_kwargs={"net_arch": [4]}, buffer_size=1).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(members, path="model.zip", **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_data(members, **changes):
    data = json.loads(members["data"])
    for key, value in changes.items():
        if isinstance(value, bytes):
            value = {":type:": "", ":serialized:": base64.b64encode(value).decode()}
        data[key] = value
    return {**members, "data": json.dumps(data).encode()}


def refusal(folder, agent="sac"):
    """The line with which `model.zip` is refused."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises((InputError, PluginError)) as caught:
        load_model(folder / "model.zip", AGENTS[agent], pendulum(), "cpu")
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert message.startswith(str(folder / "model.zip"))
    return message


RUN = {
    "os.system": calls("os", "system", f"echo > {CANARY}"),
    "posix.system": calls("posix", "system", f"echo > {CANARY}"),
    "builtins.eval": calls("builtins", "eval", f"({CREATE})"),
    "builtins.exec": calls("builtins", "exec", CREATE),
    "builtins.open": calls("builtins", "open", CANARY, "w"),
    "builtins.getattr": calls("builtins", "getattr", "", "join"),
    "subprocess.Popen": calls("subprocess", "Popen", ["touch", CANARY]),
    "runpy.run_path": calls("runpy", "run_path", "planted.py"),
    "importlib.import_module": calls("importlib", "import_module", "planted"),
    "planted.Policy": named("planted", "Policy") + b".",
    "functools.partial": calls("functools", "partial", print),
    "operator.attrgetter": calls("operator", "attrgetter", "system"),
    "pickle.loads": calls("pickle", "loads", calls("os", "system", f"echo > {CANARY}")),
    # Callables of packages whose classes may be named.
    "numpy.testing._private.utils.runstring": calls(
        "numpy.testing._private.utils", "runstring", CREATE, {}
    ),
    "numpy.load": calls("numpy", "load", "planted.py"),
    "numpy.save": calls("numpy", "save", CANARY, 0),
    "torch.load": calls("torch", "load", "planted.py"),
    "torch.save": calls("torch", "save", 0, CANARY),
    "torch.utils.collect_env.run": calls("torch.utils.collect_env", "run", f"echo > {CANARY}"),
    "torch.optim.optimizer.defaultdict": calls("torch.optim.optimizer", "defaultdict", print),
    "stable_baselines3.common.save_util.json_to_data": calls(
        "stable_baselines3.common.save_util", "json_to_data", "{}"
    ),
    "stable_baselines3.common.save_util.open_path": calls(
        "stable_baselines3.common.save_util", "open_path", CANARY, "w"
    ),
    "stable_baselines3.common.save_util.pickle.loads": calls(
        "stable_baselines3.common.save_util", "pickle.loads", b"."
    ),
    "stable_baselines3.sac.sac.SACPolicy": named("stable_baselines3.sac.sac", "SACPolicy") + b".",
    "pyrl_sb3.plugins.lookup.import_module": calls(
        "pyrl_sb3.plugins.lookup", "import_module", "planted"
    ),
    "pyrl_sb3.__main__.main": named("pyrl_sb3.__main__", "main") + b".",
    "cloudpickle.cloudpickle._make_function": cloudpickle.dumps(lambda *_: None),
    "cloudpickle.cloudpickle._make_skeleton_class": cloudpickle.dumps(
        type("Policy", (stable_baselines3.sac.MlpPolicy,), {"__module__": "__main__"})
    ),
    # Older operations.
    "nt.system": b"(X\x04\x00\x00\x00echoint\nsystem\n.",
    "commands.getoutput": b"(ccommands\ngetoutput\nX\x04\x00\x00\x00echoo.",
    # A class that may be named, but not called, made or changed.
    "calls stable_baselines3.sac.policies.SACPolicy": calls(
        "stable_baselines3.sac.policies", "SACPolicy"
    ),
    "makes stable_baselines3.sac.policies.SACPolicy": (
        named("stable_baselines3.sac.policies", "SACPolicy") + b")\x81."
    ),
    "makes torch.nn.modules.linear.Linear": named("torch.nn.modules.linear", "Linear") + b")\x81.",
    "changes stable_baselines3.sac.policies.SACPolicy": (
        named("stable_baselines3.sac.policies", "SACPolicy")
        + b"N}"
        + text("predict")
        + named("torch.nn.modules.activation", "ReLU")[2:]
        + b"s\x86b."
    ),
    "calls gymnasium.spaces.box.Box": calls("gymnasium.spaces.box", "Box", 0, 1, (10**12,)),
    "operation EXT1": b"\x80\x02\x82\x01.",
    "operation BINPERSID": b"\x80\x02NQ.",
    "operation NEWOBJ_EX": named("stable_baselines3.sac.policies", "SACPolicy") + b")}\x92.",
    "operation FROZENSET": b"\x80\x04(\x91.",
}


PLACES = ("policy_class", "policy_kwargs", "observation_space", "action_space")


@pytest.mark.parametrize(
    ("key", "what"), [(PLACES[i % 4], what) for i, what in enumerate(RUN)], ids=lambda each: each
)
def test_a_model_that_would_run_code(folder, members, key, what):
    write(with_data(members, **{key: RUN[what]}))
    line = refusal(folder)
    assert what.rpartition(" ")[2] in line
    assert f": {key}: it" in line
    assert line.endswith("; pass --trust if you trust the file")


@pytest.mark.parametrize("what", ["os.system", "builtins.eval", "numpy.save", "torch.save"])
def test_they_run_when_trusted(folder, members, what):
    write(with_data(members, policy_class=RUN[what]))
    with pytest.raises(InputError):
        load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu", trust=True)
    (found,) = folder.glob(f"{CANARY}*")
    found.unlink()


@pytest.mark.parametrize(
    "key", ["lr_schedule", "replay_buffer_class", "_last_obs", "ep_info_buffer"]
)
def test_what_acting_does_not_need_is_not_read(folder, members, key):
    payload = RUN["os.system"]
    evil = {**with_data(members, **{key: payload}), "critic.optimizer.pth": payload}
    write(evil)
    load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu")


def filled(shape, content):
    """A pickled array of any shape and any bytes."""
    kind = named("numpy", "dtype")[2:] + b"X\x02\x00\x00\x00f4\x85R"
    head = named("numpy._core.multiarray", "_reconstruct") + named("numpy", "ndarray")[2:]
    made = head + b"K\x00\x85C\x01b\x87R"
    state = b"(K\x01" + pickle.dumps(shape, 2)[2:-1] + kind + b"\x89"
    return made + state + pickle.dumps(content, 3)[2:-1] + b"tb."


def filled_twice():
    once, head = filled((1,), b"1234"), filled((1,), b"").index(b"(K\x01")
    return once[:-1] + once[head:]


def in_order(order):
    """A Fortran-ordered array of protocol 5 whose order is said to be another."""
    content = pickle.dumps(np.zeros((2, 2)).T, 5)
    assert content.count(b"\x8c\x01F") == 1
    return content.replace(b"\x8c\x01F", b"\x8c\x01" + order)


def array_again_and_again():
    """Arguments that stand there once, for a hundred arrays of 64 KiB."""
    content, size = b"B" + (2**16).to_bytes(4, "little") + bytes(2**16), b"J\0\0\1\0\x85"
    kind = named("numpy", "dtype")[2:] + text("u1") + b"\x85R"
    made = named("numpy._core.numeric", "_frombuffer") + b"q\0"
    arguments = b"(" + content + kind + size + text("C") + b"tq\1"
    return made + arguments + b"](" + 100 * b"h\0h\1R" + b"e."


def state_again_and_again():
    """A dictionary that stands there once, for two hundred spaces."""
    state = b"}(" + b"".join(text(f"{k}") + b"N" for k in range(1000)) + b"uq\1"
    made = named("gymnasium.spaces.discrete", "Discrete") + b"q\0"
    return made + state + b"](" + 200 * b"h\0)\x81h\1b" + b"e."


def nested(levels=16, last=b"NN\x86"):
    """Operations that leave tuples of tuples, twice the same each time."""
    return last + levels * b"q\x07h\x07\x86"


def nested_spaces():
    space = b"\x80\x04" + named("gymnasium.spaces.discrete", "Discrete")[2:] + b")\x81"
    pair = text("a") + b"h\x07" + text("b") + b"h\x07"
    level = b"q\x070h\x06)\x81}" + text("spaces") + b"}(" + pair + b"usb"
    return named("gymnasium.spaces.dict", "Dict") + b"q\x060" + space[2:] + 20 * level + b"."


RECORDS = (
    named("numpy", "dtype")
    + b"X\x02\x00\x00\x00f4\x85R(K\x03X\x01\x00\x00\x00<N"
    + (b"X\x01\x00\x00\x00aNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.")
)

BROKEN = {
    "array of another byte order": (
        pickle.dumps(np.zeros(1, ">f4")),
        "arrays of another byte order are not read",
    ),
    "dtype with the state of records": (RECORDS, "arrays of records are not read"),
    "array filled twice": (filled_twice(), "it fills an array twice"),
    "array in no order": (in_order(b"K"), "arrays in order 'K' are not read"),
    "truncated": (pickle.dumps([1, 2, 3])[:-4], "cannot be read"),
    "truncated, of an old protocol": (
        pickle.dumps([1, 2], 2)[:-1],
        "cannot be read: it is cut off$",
    ),
    "empty": (b"", "cannot be read: it is cut off$"),
    "no pickle": (b"\x80\x04 what", "cannot be read: it is no pickle, or damaged$"),
    "zeros": (bytes(100), "cannot be read: it is no pickle, or damaged$"),
    "protocol 9": (b"\x80\x09.", "unsupported pickle protocol: 9"),
    "array without its bytes": (filled((10**12,), b"1234"), "other bytes than its shape needs"),
    "array with a long shape": (filled((2**63, 0), b""), "other bytes than its shape needs"),
    "array of many dimensions": (filled(65 * (1,), b"1234"), "other bytes than its shape needs"),
    "array with negative shape": (filled((-4,), b"1234"), "other bytes than its shape needs"),
    "text announced": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f", "cannot be read"),
    "bytes announced": (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "cannot be read"),
    "array of objects": (pickle.dumps(np.array([None])), "arrays of 'O8' are not read"),
    "array of records": (pickle.dumps(np.zeros(1, "f4,i4")), "arrays of 'V8' are not read"),
    "array of text": (pickle.dumps(np.array(["a"])), "arrays of 'U1' are not read"),
    "array called": (calls("numpy", "ndarray"), "calls numpy.ndarray"),
    "key of the same hash as others": (pickle.dumps({2**61 - 1: 1}), "a key that is a large int"),
    "number that takes long": (pickle.dumps(1 << 3000), "it has the operation LONG4; pass --trust"),
    "key that is a tuple": (pickle.dumps({(1,): 1}), "a key that is a tuple"),
    "memory never written": (b"\x80\x04h\x07.", "cannot be read"),
    "nothing on the stack": (b"\x80\x04R.", "cannot be read: it has another form than it should$"),
    "items of an array": (pickle.dumps(np.zeros(1), 4)[:-1] + b"K\x00K\x00s.", "sets items of"),
    "array again and again": (array_again_and_again(), "the same values too often; pass --trust"),
    "state again and again": (state_again_and_again(), "the same values too often; pass --trust"),
    "nested tuples": (b"\x80\x04" + nested(22) + b".", "the same values too often; pass --trust"),
    "nested spaces": (nested_spaces(), "the same values too often; pass --trust"),
    "array of nested tuples": (
        named("numpy", "dtype") + nested() + b"\x85R.",
        "arrays of a tuple are not read",
    ),
    "array in an order of nested tuples": (
        in_order(b"K").replace(b"\x8c\x01K", nested()),
        "arrays in order a tuple are not read",
    ),
    # NumPy makes dtypes of what they are compared with, and nested lists of fields have no end.
    "array of a type that is text": (
        filled((1,), []).replace(named("numpy", "dtype")[2:] + text("f4") + b"\x85R", text("O")),
        "other bytes than its shape needs",
    ),
    "moments of a list": (
        named("stable_baselines3.common.running_mean_std", "RunningMeanStd")
        + (b")\x81](" + nested() + b"N\x86eb."),
        "a state to .*_CapturedMoments that is none",
    ),
    "numbers as keys": (
        pickle.dumps(dict.fromkeys(range(0, 60_000, 3))),
        "too many keys that are numbers; pass --trust",
    ),
    "values numbered as they like": (
        b"\x80\x04Nr\0\1\0\0.",
        "does not number its values in order; pass --trust",
    ),
    "extends a space": (pickle.dumps(gym.spaces.Discrete(2))[:-1] + b"K\x00a.", "appends to"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_pickles(content, message):
    with pytest.raises(InputError, match=f"^here.*({message})") as caught:
        read_pickle(content, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"net_arch": {"pi": [400, 300], "qf": [8]}, "activation_fn": th.nn.ELU, "n": -(2**70)},
        dict.fromkeys(range(50_000)),
        {"optimizer_class": th.optim.AdamW, "optimizer_kwargs": {"eps": 1e-5}, "x": None},
        [True, False, 1.5, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), "ä" * 300, b"b" * 300],
        {"features_extractor_class": stable_baselines3.common.torch_layers.NatureCNN},
        pyrl_sb3.TQCPolicy,
    ],
    ids=["networks", "counted", "optimizer", "plain", "extractor", "policy"],
)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_models_hold_is_read(value, protocol):
    assert read_pickle(cloudpickle.dumps(value, protocol), "here") == value


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_read(dtype, protocol):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for each in (array, array.T, array[::2, 1:], array[0, 0], np.zeros((0, 3), dtype)):
        found = read_pickle(pickle.dumps(each, protocol), "here")
        assert found.dtype == each.dtype
        assert np.array_equal(found, each)


def test_arrays_of_python_2_are_read():
    number = np.array([1.5], "f4")
    text = number.tobytes().decode("latin1")
    assert np.array_equal(read_pickle(filled((1,), text), "here"), number)
    kind = named("numpy", "dtype")[2:] + b"X\x02\x00\x00\x00f4\x85R"
    scalar = named("numpy._core.multiarray", "scalar") + kind
    found = read_pickle(scalar + pickle.dumps(text, 2)[2:-1] + b"\x86R.", "here")
    assert (found, found.dtype) == (1.5, np.float32)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, np.arange(6, dtype=np.float32).reshape(2, 3), seed=1),
        gym.spaces.Discrete(5, start=2, seed=1),
        gym.spaces.MultiDiscrete([3, 4]),
        gym.spaces.MultiBinary(4),
        gym.spaces.Dict(a=gym.spaces.Box(0, 255, (3, 4), np.uint8), b=gym.spaces.Discrete(2)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_spaces_are_read(space):
    space.sample()
    found = read_pickle(cloudpickle.dumps(space), "here")
    assert found == space
    assert found.contains(found.sample())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("stable_baselines3.nowhere", "Net"),
        ("stable_baselines3.sac", "policies"),
        ("stable_baselines3.sac.policies", "th"),
        ("stable_baselines3.sac.policies", "nn.Module"),
        ("stable_baselines3_mine.policies", "SACPolicy"),
        ("torch.nn", "Linear"),
        ("pyrl_sb3._private", "Net"),
        ("math", "sqrt"),
    ],
)
def test_only_classes_of_known_packages_may_be_named_where_they_are_made(module, name):
    assert find_known_class(module, name) is None
    assert find_known_class("torch.nn.modules.linear", "Linear") is th.nn.Linear


def test_spaces_of_gym_are_read_as_gymnasiums():
    space = gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (3,)), b=gym.spaces.Discrete(2))
    content = pickle.dumps(space, 3)
    assert content.count(b"cgymnasium.spaces") == 3
    assert read_pickle(content.replace(b"cgymnasium.spaces", b"cgym.spaces"), "here") == space


PLUGIN = """
from pyrl_sb3.plugins import PolicySpec, hookimpl
from pyrl_sb3.policies import SACPolicy

class Mine(SACPolicy):
    pass

@hookimpl
def pyrl_policies():
    yield PolicySpec(name="mine", target="acme_policies:Mine", algorithms=frozenset({"sac"}))
"""


def test_policies_of_plugins(folder, members, monkeypatch):
    (folder / "acme_policies.py").write_text(PLUGIN)
    write(with_data(members, policy_class=named("acme_policies", "Mine") + b"."))
    assert "it names acme_policies.Mine" in refusal(folder)
    assert "acme_policies" not in sys.modules
    manager = get_plugin_manager()
    plugin = importlib.import_module("acme_policies")
    monkeypatch.delitem(sys.modules, "acme_policies")
    monkeypatch.setitem(sys.modules, "acme_policies", plugin)
    assert "it names acme_policies.Mine" in refusal(folder)
    manager.register(plugin, "acme")
    try:
        model = load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu")
    finally:
        manager.unregister("acme")
    assert type(model.policy) is plugin.Mine


LAZY = """
from pyrl_sb3.plugins import PolicySpec, hookimpl

@hookimpl
def pyrl_policies():
    yield PolicySpec(name="gone", target="acme_lazy.nowhere:Mine")
    yield PolicySpec(name="mine", target="acme_lazy.policies:Mine")
"""


def test_policies_that_a_plugin_keeps_in_a_module_of_its_own(folder, monkeypatch):
    (folder / "acme_lazy").mkdir()
    (folder / "acme_lazy/__init__.py").write_text(LAZY)
    for name in ("policies", "others"):
        content = "from pyrl_sb3 import SACPolicy\nclass Mine(SACPolicy): pass"
        (folder / f"acme_lazy/{name}.py").write_text(content)
    manager = get_plugin_manager()
    manager.register(importlib.import_module("acme_lazy"), "acme-lazy")
    try:
        found = find_known_class("acme_lazy.policies", "Mine")
        assert found is sys.modules["acme_lazy.policies"].Mine
        assert find_known_class("acme_lazy.others", "Mine") is None
        assert "acme_lazy.others" not in sys.modules
    finally:
        manager.unregister("acme-lazy")
        for name in [each for each in sys.modules if each.startswith("acme_lazy")]:
            monkeypatch.delitem(sys.modules, name)


def tensors(**values):
    file = io.BytesIO()
    th.save(values, file)
    return file.getvalue()


def weights(members):
    return th.load(io.BytesIO(members["policy.pth"]), weights_only=True)


def changed_weights(members, change):
    found = weights(members)
    change(found)
    return {**members, "policy.pth": tensors(**found)}


def repacked(content, compression):
    """A tensor file with its members compressed."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(file, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def with_payload(content, payload=RUN["os.system"]):
    """A tensor file with a call, or something else, as its pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            evil = name.endswith("data.pkl")
            new.writestr(name, payload if evil else old.read(name))
    return file.getvalue()


# Hashing them takes a second; with sixty in place of 26 it would take for ever.
NESTED = b")" + 26 * b"q\xfeh\xfe\x86"
LAYER = "actor.latent_pi.0.weight"
WRONG = {
    "data no JSON": (lambda m: {**m, "data": b"{"}, "its `data` is no JSON"),
    "data deep": (lambda m: {**m, "data": b"[" * 100_000}, "its `data` is no JSON"),
    "data a list": (lambda m: {**m, "data": b"[]"}, "its `data` is no mapping"),
    "data lacking": (lambda m: {"policy.pth": m["policy.pth"]}, "it has no `data`"),
    "weights lacking": (lambda m: {"data": m["data"]}, "it has no `policy.pth`"),
    "no base64": (
        lambda m: {**m, "data": m["data"].replace(b'":serialized:": "', b'":serialized:": "%')},
        "policy_class cannot be read",
    ),
    "policy a layer": (
        lambda m: with_data(m, policy_class=pickle.dumps(th.nn.ReLU)),
        "policy_class is no policy",
    ),
    "policy a word": (
        lambda m: with_data(m, policy_class="MlpPolicy"),
        "policy_class is no policy",
    ),
    "arguments a list": (lambda m: with_data(m, policy_kwargs=[1]), "policy_kwargs are no mapping"),
    "arguments unknown": (
        lambda m: with_data(m, policy_kwargs={"x": 1}),
        "unexpected keyword.*'x'",
    ),
    "space a number": (lambda m: with_data(m, action_space=3), "its spaces are missing"),
    "networks too wide": (
        lambda m: with_data(m, policy_kwargs={"net_arch": [10**9]}),
        "larger than the weights in it",
    ),
    "networks too deep": (
        lambda m: with_data(m, policy_kwargs={"net_arch": [4] * 10**5}),
        "larger than the weights in it",
    ),
    "critics too many": (
        lambda m: with_data(m, policy_kwargs={"net_arch": [4], "n_critics": 10**9}),
        "larger than the weights in it",
    ),
    "layers of another size": (
        lambda m: with_data(m, policy_kwargs={"net_arch": [5]}),
        "weights do not fit: size mismatch for actor",
    ),
    "weights of another shape": (
        lambda m: changed_weights(m, lambda w: w.update({LAYER: w[LAYER].T})),
        f"weights do not fit: size mismatch for {LAYER}",
    ),
    "a weight lacking": (
        lambda m: changed_weights(m, lambda w: w.pop(LAYER)),
        f"weights do not fit: Missing key.*{LAYER}",
    ),
    "not a number": (
        lambda m: changed_weights(m, lambda w: w[LAYER].fill_(float("nan"))),
        f"its weights {LAYER} are not all finite",
    ),
    "infinite": (
        lambda m: changed_weights(m, lambda w: w[LAYER][0].fill_(float("inf"))),
        f"its weights {LAYER} are not all finite",
    ),
    "tensors with a call": (
        lambda m: {**m, "policy.pth": with_payload(m["policy.pth"])},
        "cannot be loaded",
    ),
    "tensors by nested tuples": (
        lambda m: {**m, "policy.pth": with_payload(m["policy.pth"], b"}" + NESTED + b"Ns.")},
        "cannot be loaded: 'policy.pth' in it is refused: it has a key that is a tuple",
    ),
    "tensors a pickle": (
        lambda m: {**m, "policy.pth": RUN["os.system"]},
        "'policy.pth' in it is no tensor file",
    ),
    "tensors compressed": (
        lambda m: {**m, "policy.pth": repacked(m["policy.pth"], zipfile.ZIP_DEFLATED)},
        "'policy.pth' in it would unpack to more than its size",
    ),
    "tensors a list": (lambda m: {**m, "policy.pth": tensors(a=[1])}, "weights do not fit"),
    "path upwards": (lambda m: {**m, "../canary": b""}, "'../canary' in it is no plain file name"),
    "path from the root": (lambda m: {**m, "/tmp/canary": b""}, "is no plain file name"),
    "path of Windows": (lambda m: {**m, "c:\\canary": b""}, "is no plain file name"),
    "path within": (lambda m: {**m, "a/canary.pth": b""}, "is no plain file name"),
    "hidden file": (lambda m: {**m, ".bashrc": b""}, "is no plain file name"),
    "many members": (lambda m: {**m, **{f"a{i}": b"" for i in range(100)}}, "it has 10. members"),
    "components no JSON": (lambda m: {**m, saved.MEMBER: b"]"}, "no list of components"),
    "components a mapping": (lambda m: {**m, saved.MEMBER: b"{}"}, "no list of components"),
    "components numbers": (lambda m: {**m, saved.MEMBER: b"[1]"}, "no list of components"),
    "components large": (lambda m: {**m, saved.MEMBER: b" " * 2**21}, "no list of components"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_archives_that_are_no_models(folder, members, change, message):
    write(change(members))
    assert re.search(message, refusal(folder))


def test_components_are_not_imported(folder, members):
    record = {"kind": "noise", "name": None, "target": "planted:Policy", "distribution": None}
    write({**members, saved.MEMBER: json.dumps([record])})
    load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu")
    record |= {"kind": "policy", "target": "not_there:Policy"}
    write({**members, saved.MEMBER: json.dumps([record])})
    assert "policy 'not_there:Policy', which cannot be imported here" in refusal(folder)


def test_a_bomb(folder, members):
    write({**members, "data": b" " * 2**22}, compression=zipfile.ZIP_DEFLATED)
    assert "'data' in it would unpack to 4194304 bytes" in refusal(folder)


def test_data_that_was_packed(folder, members):
    """SB3 stores it as it is. Memory is taken by the bytes that it has unpacked."""
    rest = random.Random(0).randbytes(10_000).hex() + 2**20 * " "
    changed = with_data(members, rest=rest)
    write(changed, compression=zipfile.ZIP_DEFLATED)
    assert "'data' in it is larger than 1048576 bytes" in refusal(folder)
    assert saved_timesteps(folder / "model.zip") is None
    write(changed)
    assert saved_timesteps(folder / "model.zip") == 0
    load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu")


def test_a_member_twice(folder, members):
    write(members)
    with zipfile.ZipFile("model.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("data", members["data"])
    assert "'data' is in it more than once" in refusal(folder)


def patched(folder, offset, value, name="model.zip"):
    """Overwrite bytes in the table of contents, in the entry of the first member: of `data`."""
    path = folder / name
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content = bytearray(path.read_bytes())
    content[start + offset : start + offset + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\x01", "'data' in it is encrypted"),
        (10, b"\x63", "compression"),
        (16, b"\0\0\0\0", "is damaged: data"),
        (20, (2**31).to_bytes(4, "little"), "overlap"),
        (24, (2**31).to_bytes(4, "little"), "would unpack to 2147483648"),
        (24, (20).to_bytes(4, "little"), "damaged|no JSON"),
        (42, (2**31).to_bytes(4, "little"), "truncated|cannot be read|damaged"),
    ],
    ids=["encrypted", "packed oddly", "checksum", "overlap", "larger", "smaller", "elsewhere"],
)
def test_a_table_of_contents_that_lies(folder, members, offset, value, message):
    write(members)
    patched(folder, offset, value)
    assert re.search(message, refusal(folder))


def undecodable(folder, name="model.zip"):
    """Have the first member's name be UTF-8, which it is not."""
    patched(folder, 8, b"\x00\x08", name)
    patched(folder, 46, b"\xff", name)


def placed(content, offset):
    """An archive that says, in 64 bits, that its table of contents begins there."""
    content, last = content[:-22], content[-22:]
    count, size = struct.unpack("<HL", last[10:16])
    end = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    found = struct.pack("<4sLQL", b"PK\6\7", 0, len(content), 1)
    return content + end + found + last[:16] + b"\xff" * 4 + last[20:]


def test_names_and_places_that_cannot_be_read(folder, members):
    path, wrong = folder / "model.zip", "is damaged: names or places in it cannot be read"
    write(members)
    sound = path.read_bytes()
    undecodable(folder)
    assert refusal(folder).endswith(wrong)
    assert saved_timesteps(path) is None
    with pytest.raises(PluginError, match=r"is damaged: pyrl_components\.json"):
        saved.read_components(path)
    path.write_bytes(sound)
    # Where the member is, not in the table of contents.
    path.write_bytes(sound[:6] + b"\x00\x08" + sound[8:30] + b"\xff" + sound[31:])
    assert refusal(folder).endswith(wrong)
    path.write_bytes(placed(sound, 2**64 - 1))  # the members would be far before the beginning
    assert refusal(folder).endswith(wrong)
    path.write_bytes(placed(sound, 2**40))
    assert "cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, b"\x01"), (6, b"\xff"), (10, b"\x08"), (20, b"\x01")],
    ids=["encrypted", "version", "packed", "cut off"],
)
def test_lists_of_components_that_cannot_be_read(folder, offset, value):
    write({saved.MEMBER: b"\xff[]", "a": b""})
    patched(folder, offset, value)
    with pytest.raises(PluginError, match=r"is damaged: pyrl_components\.json"):
        saved.read_components(folder / "model.zip")


def test_names_in_the_file_of_weights_that_cannot_be_read(folder, members):
    (folder / "policy.pth").write_bytes(members["policy.pth"])
    undecodable(folder, "policy.pth")
    write({**members, "policy.pth": (folder / "policy.pth").read_bytes()})
    assert "'policy.pth' in it is no tensor file of PyTorch" in refusal(folder)


@pytest.mark.parametrize(
    ("offset", "value"), [(8, b"\x01"), (10, b"\x63"), (10, b"\x0e"), (42, b"\xff" * 4)]
)
def test_steps_in_an_archive_that_lies(folder, members, offset, value):
    write(members)
    assert saved_timesteps(folder / "model.zip") == 0
    patched(folder, offset, value)
    assert saved_timesteps(folder / "model.zip") is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"num_timesteps": Infinity}',
        b'{"num_timesteps": [3]}',
        b"{}",
        b"3",
        b"[" * 200_000,
        b"\xff",
    ],
    ids=lambda data: data[:30],
)
def test_steps_that_are_none(folder, data):
    write({"data": data})
    assert saved_timesteps(folder / "model.zip") is None


def test_steps_are_not_looked_for_in_a_bomb(folder):
    write({"data": b" " * 2**22 + b'{"num_timesteps": 3}'}, compression=zipfile.ZIP_DEFLATED)
    assert saved_timesteps(folder / "model.zip") is None
    assert saved_timesteps(folder / "no.zip") is None


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_models(folder, members, keep):
    write(members)
    path = folder / "model.zip"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    assert "no model, or a truncated one" in refusal(folder)


MODELS = {
    "sac": lambda env, **small: SAC("MlpPolicy", env, use_sde=True, **small),
    "tqc": lambda env, **small: TQC(pyrl_sb3.TQCPolicy, env, learning_rate=lambda _: 1e-3, **small),
    "crossq": lambda env, **small: CrossQ("MlpPolicy", env, **small),
    "td3": lambda env, **small: TD3(
        "MlpPolicy", env, action_noise=NormalActionNoise(0, 1), **small
    ),
    "ddpg": lambda env, **small: pyrl_sb3.DDPG(pyrl_sb3.DDPGPolicy, env, **small),
}


@pytest.fixture(params=MODELS)
def model(request, folder):
    """A model saved as `model.zip`."""
    policy_kwargs = {"net_arch": [4], "activation_fn": th.nn.ELU}
    model = MODELS[request.param](pendulum(), policy_kwargs=policy_kwargs, buffer_size=1)
    model.num_timesteps = 7
    model.save("model.zip")
    return request.param, model


def test_it_acts_as_when_trusted(folder, model):
    agent, saved_model = model
    loaded = load_model(folder / "model.zip", AGENTS[agent], pendulum(), "cpu")
    assert loaded.num_timesteps == 7
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    expected, _ = saved_model.predict(observations, deterministic=True)
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], expected)


def test_whose_model_it_is_is_seen(folder, model):
    agent = {"ddpg": "td3"}.get(model[0], model[0])
    alike = {"td3", "ddpg"} if agent == "td3" else {agent}
    for other in AGENTS:
        if other.removeprefix("her-") not in alike:
            assert f"try {agent}-test" in refusal(folder, other)


class Odd(stable_baselines3.common.torch_layers.FlattenExtractor):
    """With buffers of the kinds that PyTorch has fewer functions for."""

    def __init__(self, space):
        super().__init__(space)
        self.register_buffer("graph", th.eye(3).to_sparse())
        self.register_buffer("seen", th.zeros(3, dtype=th.uint32))
        self.register_buffer("phases", th.ones(3, dtype=th.complex64).conj())

    def forward(self, observations):
        return th.sparse.mm(self.graph, super().forward(observations).T).T


# From torch 2.14 on.
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_buffers_of_any_kind_are_tested_when_trusted(folder):
    policy_kwargs = {"net_arch": [4], "features_extractor_class": Odd}
    model = SAC("MlpPolicy", pendulum(), policy_kwargs=policy_kwargs, buffer_size=1)
    model.save("model.zip")
    loaded = load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu", trust=True)
    assert loaded.predict(np.zeros((1, 3), np.float32))[0].shape == (1, 1)
    model.actor.features_extractor.graph._values().fill_(th.nan)
    model.save("model.zip")
    with pytest.raises(InputError, match=r"its weights actor.*\.graph are not all finite"):
        load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu", trust=True)


def test_learning_rates_are_left_alone_when_trusted(folder, recwarn):
    """They are functions of the Python that saved them, whose code another may crash on."""

    def rate(left):
        raise SystemError("another version's code")

    model = SAC("MlpPolicy", pendulum(), policy_kwargs={"net_arch": [4]}, buffer_size=1)
    model.learning_rate = model.lr_schedule = rate
    model.save("model.zip")
    loaded = load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu", trust=True)
    assert loaded.predict(np.zeros((1, 3), np.float32))[0].shape == (1, 1)
    assert not recwarn.list


class Positive(th.optim.SGD):
    """Demands a learning rate, as optimisers of others do."""

    def __init__(self, params, lr=1e-3):
        if not lr > 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, lr)


def test_optimizers_that_demand_a_learning_rate_are_loaded_when_trusted(folder):
    keywords = {"net_arch": [4], "optimizer_class": Positive}
    SAC("MlpPolicy", pendulum(), policy_kwargs=keywords, buffer_size=1).save("model.zip")
    load_model(folder / "model.zip", AGENTS["sac"], pendulum(), "cpu", trust=True)


# Statistics -----------------------------------------------------------------------------------


@pytest.fixture
def statistics(folder):
    """Sound statistics, written when called, with changes; its model is never read."""
    normalized = VecNormalize(pendulum(), clip_obs=3.0, gamma=0.9)
    for _ in range(3):
        normalized.reset()

    def write(change=None):
        if change:
            change(normalized)
        normalized.save("vecnormalize.pkl")
        return normalized

    return write


def test_statistics_are_read(folder, statistics):
    written = statistics()
    env = load_statistics(folder / "model.zip", pendulum())
    observation = np.ones((1, 3), np.float32)
    assert np.array_equal(env.normalize_obs(observation), written.normalize_obs(observation))
    assert (env.training, env.norm_reward, env.clip_obs) == (False, False, 3.0)


def set_moment(name, value):
    return lambda normalized: setattr(normalized.obs_rms, name, value)


MOMENTS = {
    "another environment": (set_moment("mean", np.zeros(5)), r"shape \(5,\), observations here of"),
    "not a number": (set_moment("var", np.array([1, np.nan, 1])), "var is not all finite"),
    "infinite": (set_moment("mean", np.array([1, np.inf, 1])), "mean is not all finite"),
    "negative": (set_moment("var", np.array([1.0, -1, 1])), "var is negative"),
    "whole words": (set_moment("mean", ["a", "b", "c"]), "mean is not all finite numbers"),
    "no count": (set_moment("count", 0.0), "count is no positive number"),
    "no clipping": (lambda n: setattr(n, "clip_obs", float("nan")), "clip_obs is no positive"),
    "a class": (lambda n: setattr(n, "epsilon", th.nn.ReLU), "epsilon is no positive"),
    "no moments": (lambda n: setattr(n, "obs_rms", None), "it holds no RunningMeanStd"),
    "a call": (
        lambda n: setattr(n, "clip_obs", pickle.loads),
        r"names _pickle.loads, which may run code; pass --trust",
    ),
}


@pytest.mark.parametrize(("change", "message"), MOMENTS.values(), ids=MOMENTS)
def test_statistics_that_are_not(folder, statistics, change, message):
    statistics(change)
    with pytest.raises(InputError, match=message) as caught:
        load_statistics(folder / "model.zip", pendulum())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder / "vecnormalize.pkl"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RUN["os.system"], "names os.system"),
        (RUN["planted.Policy"], "names planted.Policy"),
        (b"junk", "cannot be read|operation"),
        (pickle.dumps({"obs_rms": 1}), "it holds no VecNormalize"),
        (b"", "cannot be read"),
    ],
    ids=["call", "import", "junk", "mapping", "empty"],
)
def test_files_that_are_no_statistics(folder, content, message):
    (folder / "vecnormalize.pkl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_statistics(folder / "model.zip", pendulum())


class Goals(gym.ObservationWrapper):
    """Pendulum with observations that are dicts, with one key more than `keys` has letters."""

    def __init__(self, keys):
        super().__init__(gym.make("Pendulum-v1"))
        self.keys = ("observation", *keys)
        self.observation_space = gym.spaces.Dict(
            dict.fromkeys(self.keys, self.env.observation_space)
        )

    def observation(self, observation):
        return dict.fromkeys(self.keys, observation)


def goals(keys=""):
    return DummyVecEnv([lambda: Goals(keys)])


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("theirs", "here", "message"),
    [
        (goals, pendulum, "its observations are dicts, those here are no dicts"),
        (pendulum, goals, "its observations are no dicts, those here are dicts"),
        (lambda: goals("a"), goals, "its observations have 'a', those here have not"),
    ],
)
def test_statistics_of_another_kind_of_observations(folder, theirs, here, message, trust):
    VecNormalize(theirs()).save("vecnormalize.pkl")
    with pytest.raises(InputError, match=rf"vecnormalize\.pkl cannot be read: {message}$"):
        load_statistics(folder / "model.zip", here(), trust=trust)


@pytest.mark.parametrize("here", [pendulum, goals])
def test_trusted_statistics(folder, here):
    VecNormalize(here(), clip_obs=3.0).save("vecnormalize.pkl")
    env = load_statistics(folder / "model.zip", here(), trust=True)
    assert (env.training, env.norm_reward, env.clip_obs) == (False, False, 3.0)
    (folder / "vecnormalize.pkl").write_bytes(pickle.dumps({"obs_rms": 1}))
    with pytest.raises(InputError, match=r"vecnormalize\.pkl cannot be read: it holds no VecNorm"):
        load_statistics(folder / "model.zip", here(), trust=True)


# Arrays ---------------------------------------------------------------------------------------


def npy(shape, content=b"", kind="<f8"):
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def test_arrays_of_files_are_read(folder):
    np.savez("a.npz", a=np.arange(6.0).reshape(2, 3), b=np.asfortranarray(np.eye(3)), c=3)
    found = read_arrays(folder / "a.npz")
    with np.load("a.npz") as expected:
        assert found.keys() == set(expected)
        assert all(np.array_equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(10**12,)"), "cannot be read"),
        (npy("(1000000000000,)"), "an array of shape .1000000000000,. is announced, and 0 bytes"),
        (npy("(-8,)", b"12345678"), "is announced"),
        (npy("(1,)", b"\0" * 8, "|O"), "it holds Python objects"),
        (npy("(__import__('planted'),)"), "cannot be read"),
        (npy("(1,)", b"\0" * 8).replace(b"NUMPY\x01", b"NUMPY\x07"), "of version .7, 0. are not"),
        (b"junk", "cannot be read"),
    ],
    ids=["expression", "large", "negative", "objects", "import", "version", "junk"],
)
def test_arrays_that_are_not(folder, content, message):
    write({"results.npy": content}, "a.npz")
    with pytest.raises(InputError, match=message) as caught:
        read_arrays(folder / "a.npz")
    assert "\n" not in str(caught.value)


def test_no_more_is_unpacked_than_the_table_of_contents_says(folder):
    content = npy("(1,)", b"\0" * 8)
    write({"a.npy": content + b"\0" * 2**24}, "a.npz", compression=zipfile.ZIP_DEFLATED)
    patched(folder, 16, zlib.crc32(content).to_bytes(4, "little"), "a.npz")
    patched(folder, 24, len(content).to_bytes(4, "little"), "a.npz")
    tracemalloc.start()
    assert read_arrays(folder / "a.npz") == {"a": [0]}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def test_files_that_hold_no_arrays(folder):
    (folder / "a.npz").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"a\.npz is no file of arrays, or a truncated one"):
        read_arrays(folder / "a.npz")
    write({"results.npy": npy("()", b"\0" * 8)}, "a.npz")
    undecodable(folder, "a.npz")
    with pytest.raises(InputError, match=r"a\.npz is damaged: names or places"):
        read_arrays(folder / "a.npz")
    write({"../results.npy": npy("()", b"\0" * 8)}, "a.npz")
    with pytest.raises(InputError, match="no plain file name"):
        read_arrays(folder / "a.npz")


def test_members_have_a_largest_size_and_all_together_too(folder, monkeypatch):
    write({"a": 100 * b"a", "b": 100 * b"b"})
    path = folder / "model.zip"
    assert read_member(path, "a", 100) == 100 * b"a"
    with pytest.raises(InputError, match=r"'a' in it is larger than 99 bytes$"):
        read_member(path, "a", 99)
    check_contents(path, members=2)
    with pytest.raises(InputError, match=r"it has 2 members$"):
        check_contents(path, members=1)
    monkeypatch.setattr(archives, "_LARGEST", 200)
    check_contents(path)
    monkeypatch.setattr(archives, "_LARGEST", 199)
    with pytest.raises(InputError, match=r"it would unpack to more than "):
        check_contents(path)


def test_what_is_small_may_have_shrunk_as_much_as_it_likes(folder):
    write({"a": bytes(2**20)}, compression=zipfile.ZIP_DEFLATED)
    check_contents(folder / "model.zip")
    write({"a": bytes(2**20 + 1)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=f"'a' in it would unpack to {2**20 + 1} bytes$"):
        check_contents(folder / "model.zip")


def test_arrays_in_the_order_of_fortran_are_read_as_they_were(folder):
    array = np.arange(6.0).reshape(2, 3)
    np.savez(folder / "a.npz", plain=array, turned=array.T)
    found = read_arrays(folder / "a.npz")
    assert np.array_equal(found["plain"], array)
    assert np.array_equal(found["turned"], array.T)
