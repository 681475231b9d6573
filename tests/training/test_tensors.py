"""Tensor files: all that models save is read; what hangs PyTorch or takes its memory is refused."""

import io
import shutil
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict
from fractions import Fraction
from itertools import product

import gymnasium as gym
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3.common.save_util import load_from_zip_file

import pyrl_sb3
from pyrl_sb3.training.checkpoint import Checkpoint, Moment, write_checkpoint
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.state import StateError
from pyrl_sb3.training.untrusted import read_member, read_tensors


def saved(value, **options):
    file = io.BytesIO()
    th.save(value, file, **options)
    return file.getvalue()


def with_pickle(content, change, **more):
    """A tensor file whose pickle is changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            was = old.read(name)
            new.writestr(name, change(was) if name.endswith("data.pkl") else was)
        for name, member in more.items():
            new.writestr(name, member)
    return file.getvalue()


def read(tmp_path, content, packed=None):
    path = tmp_path / "model.zip"
    path.write_bytes(content if packed is None else packed)
    return read_tensors(path, "policy.pth", content, "cpu")


def same(one, other):
    if isinstance(one, th.Tensor):
        kinds = [(each.dtype, each.layout, each.is_conj(), each.is_neg()) for each in (one, other)]
        return kinds[0] == kinds[1] and th.equal(one.to_dense(), other.to_dense())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


OURS = ("SAC", "TD3", "DDPG", "DQN", "DiscreteSAC")
THEIRS = {
    **dict.fromkeys(("SAC", "TD3", "DDPG", "DQN"), stable_baselines3),
    **dict.fromkeys(("TQC", "CrossQ", "QRDQN"), sb3_contrib),
}
ALGORITHMS = {
    **{f"own {name}": getattr(pyrl_sb3, name) for name in OURS},
    **{f"stock {name}": getattr(package, name) for name, package in THEIRS.items()},
}


POLICIES = {
    "DQN": pyrl_sb3.DQNPolicy,
    "TQC": pyrl_sb3.TQCPolicy,
    "CrossQ": pyrl_sb3.CrossQPolicy,
    "QRDQN": pyrl_sb3.QRDQNPolicy,
}


def trained(algorithm, policy="MlpPolicy", **policy_kwargs):
    discrete = algorithm.__name__ in ("DQN", "QRDQN", "DiscreteSAC")
    env = gym.make("CartPole-v1" if discrete else "Pendulum-v1")
    keywords = {"net_arch": [4], **policy_kwargs}
    model = algorithm(
        policy, env, policy_kwargs=keywords, buffer_size=20, learning_starts=4, batch_size=4
    )
    return model.learn(8)


def assert_read(path):
    _, parameters, variables = load_from_zip_file(path, load_data=False, device="cpu")
    expected = {f"{name}.pth": value for name, value in parameters.items()}
    expected["pytorch_variables.pth"] = variables
    with zipfile.ZipFile(path) as archive:
        assert {*expected} == {name for name in archive.namelist() if name.endswith(".pth")}
    for name, value in expected.items():
        found = read_tensors(path, name, read_member(path, name, 2**20), "cpu")
        assert same(found, value)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_what_models_save(tmp_path, algorithm):
    trained(algorithm).save(tmp_path / "model.zip")
    assert_read(tmp_path / "model.zip")


@pytest.mark.parametrize("name", POLICIES)
def test_what_models_of_own_policies_save(tmp_path, name):
    trained(getattr(THEIRS[name], name), POLICIES[name]).save(tmp_path / "model.zip")
    assert_read(tmp_path / "model.zip")


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "NAdam", "SGD"])
def test_what_optimisers_save(tmp_path, name):
    options = {"momentum": 0.5} if name == "SGD" else {}
    kind = getattr(th.optim, name)
    model = trained(pyrl_sb3.TD3, optimizer_class=kind, optimizer_kwargs=options)
    model.save(tmp_path / "model.zip")
    assert_read(tmp_path / "model.zip")
    network = th.nn.Linear(2, 2)
    optimiser = kind([{"params": [each]} for each in network.parameters()], lr=0.1, **options)
    network(th.ones(2)).sum().backward()
    optimiser.step()
    assert same(read(tmp_path, saved(optimiser.state_dict())), optimiser.state_dict())


weight = th.arange(6.0).reshape(2, 3)
KEPT = {
    "version": {"a._extra_state": {"version": 2, "best": None, 3: [1, (2.5, True)]}},
    "text": {"a._extra_state": "text"},
    "bytes": {"a._extra_state": {"seed": b"\x00\xff", "rest": bytearray(b"abc")}},
    "set": {"a._extra_state": {"seen": {1, 2, "three"}}},
    "large number": {"n": 2**70, "m": -(2**40)},
    "shape and place": {"shape": weight.shape, "device": th.device("cpu"), "dtype": th.float16},
    "views": {"a": weight[0], "b": weight.T, "c": weight[:, 1:], "d": weight[1, 2]},
    "no numbers": {"a": th.zeros(0), "b": th.zeros(3, 0), "c": th.zeros(())},
    "expanded": {"a": th.ones(1).expand(5, 3)},
    "parameter": {"a": th.nn.Parameter(weight), "b": weight.clone().requires_grad_()},
    "the same again": {"a": weight, "b": weight, "c": [weight]},
    "kinds": {
        str(kind): th.ones(3).to(kind)
        for kind in (
            *(th.float16, th.bfloat16, th.float32, th.float64, th.complex64, th.complex128),
            *(th.int8, th.uint8, th.int16, th.int32, th.int64, th.bool),
            *(th.uint16, th.uint32, th.uint64),
        )
    },
    "sparse": {"a": th.eye(4).to_sparse(), "b": th.zeros(3, 2).to_sparse()},
    "conjugated": {"a": th.complex(weight, weight).conj(), "b": th.ones(2) * 1j},
    "negated": {"a": th.complex(weight, weight).conj().imag},
    "complex number": {"a._extra_state": {"z": 2 + 1j}},
    "counter": {"a._extra_state": Counter("abca"), "b": Counter()},
    "keys": {("a", 1): 2, (): 3, b"a": 4, th.float32: 5, weight.shape: 6},
    "set of tuples": {"a._extra_state": {(1, 2), None, b"a", True}},
    "empty bytes": {"a._extra_state": bytearray()},
    "layout": {"a._extra_state": th.strided},
    "shared list": {"a._extra_state": [list(range(200))] * 300},
    "ordered": OrderedDict(a=weight),
    "nothing": None,
}


@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
def test_what_is_kept_besides_weights(tmp_path, value):
    assert same(read(tmp_path, saved(value)), value)


@pytest.mark.filterwarnings("ignore:Sparse")  # they are in beta, says PyTorch
@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_sparse_tensors_by_rows_or_columns(tmp_path, layout):
    value = {"a": th.eye(4).to_sparse(layout=getattr(th, f"sparse_{layout}"))}
    assert same(read(tmp_path, saved(value)), value)


def test_versions_of_modules_are_kept(tmp_path):
    state = th.nn.Sequential(th.nn.BatchNorm1d(3)).state_dict()
    found = read(tmp_path, saved(state))
    assert same(found, state)
    assert found._metadata == state._metadata


def test_files_of_earlier_versions(tmp_path):
    """They have no more than the pickle, the version and the numbers."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": weight}))) as old,
        zipfile.ZipFile(file, "w") as new,
    ):
        for name in ("data.pkl", "data/0", "version"):
            new.writestr(f"policy/{name}", old.read(f"archive/{name}"))
    assert same(read(tmp_path, file.getvalue()), {"a": weight})


def doubled(times, empty=b")", pair=b"\x86"):
    """Operations that leave tuples of tuples, twice the same each time."""
    return empty + b"".join(b"q\xfeh\xfe" + pair for _ in range(times))


def first(operations):
    """A pickle that does something before all else."""
    return lambda content: content[:2] + operations + b"0" + content[2:]


def instead(operations):
    return lambda content: content[:2] + operations + b"."


def length(number):
    return b"\x8a\x08" + number.to_bytes(8, "little")


def listed():
    """A list that holds the one before it twice, and so on."""
    return b"]" + b"".join(b"q\xfe]h\xfeah\xfea" for _ in range(40))


def calls(module, name, arguments):
    return first(f"c{module}\n{name}\n".encode() + arguments + b"R")


def multiples(number):
    """Whole numbers of one hash, as many as are wanted."""
    return [b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") for k in range(1, number + 1)]


def ratio(number):
    return b"G" + struct.pack(">d", number)


HUGE = 10**12
EMPTY = b"ccollections\nOrderedDict\n)R"
LETTER = b"X\x01\x00\x00\x00a"
REFUSED = {
    "tuples as key": (instead(b"}" + doubled(25) + b"K\x01s"), "a key that is a tuple"),
    "tuples as value": (instead(b"}K\x01" + doubled(40) + b"s"), "the same values too often"),
    "lists as value": (instead(b"}K\x01(" + listed() + b"ts"), "the same values too often"),
    "bytearray": (first(b"c__builtin__\nbytearray\n" + length(HUGE) + b"\x85R"), "has no content"),
    "bytearray by its name": (
        first(b"cbuiltins\nbytearray\n" + length(HUGE) + b"\x85R"),
        "names builtins.bytearray",
    ),
    "tensor": (first(b"ctorch\nTensor\n" + length(HUGE) + b"\x85R"), "names torch.Tensor"),
    "storage": (first(b"ctorch\nFloatStorage\n" + length(HUGE) + b"\x85R"), "it calls"),
    "call": (instead(b"cposix\nsystem\nX\x01\x00\x00\x00a\x85R"), "names posix.system"),
    "more than there is": (
        lambda content: content.replace(b"K\x06tq", length(HUGE) + b"tq"),
        "a storage in it is larger than its bytes",
    ),
    "larger than its storage": (
        lambda content: content.replace(b"K\x02K\x03\x86", length(HUGE) + b"K\x03\x86"),
        "a tensor in it is larger than its numbers",
    ),
    "set of tuples": (
        first(b"c__builtin__\nset\n]" + doubled(25) + b"a\x85R"),
        "a set in it is not of text or numbers",
    ),
    "attributes": (first(b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aNsb"), "it changes"),
    "long key": (
        instead(b"}(" + 1000 * b"K\x01" + b"tK\x01s"),
        "a key that is a tuple",
    ),
    "tuples to count": (
        first(b"ccollections\nCounter\n]" + doubled(25) + b"a\x85R"),
        "a Counter in it is of no dictionary",
    ),
    "many dimensions": (
        lambda content: content.replace(b"K\x02K\x03\x86", b"(" + 65 * b"K\x01" + b"t"),
        "a tensor in it has no shape",
    ),
    "text as a number": (
        first(b"c__builtin__\ncomplex\nX\x02\x00\x00\x001j\x85R"),
        "a complex number in it is not of numbers",
    ),
    "bytes again and again": (
        first(
            b"c_codecs\nencode\nq\xfdX\x00\x00\x10\x00"
            + 2**20 * b"a"
            + b"q\xfe0X\x06\x00\x00\x00latin1q\xff0]("
            + 100 * b"h\xfdh\xfeh\xff\x86R"
            + b"e0"
        ),
        "the same values too often",
    ),
    "sets again and again": (
        first(
            b"c__builtin__\nset\nq\xfd]("
            + 2**17 * b"K\x01"
            + b"eq\xfe0]("
            + 100 * b"h\xfdh\xfe\x85R"
            + b"e0"
        ),
        "the same values too often",
    ),
    "sparse lists": (
        first(
            b"ctorch._utils\n_rebuild_sparse_tensor\nctorch.serialization\n_get_layout\n"
            b"X\x10\x00\x00\x00torch.sparse_coo\x85R("
            + listed()
            + b"NNtR".replace(b"tR", b"t\x86R")
        ),
        "a sparse tensor in it is not of tensors",
    ),
    "functions as numbers": (
        lambda content: content.replace(b"K\x00K\x02K\x03", b"cos\nsystem\nK\x02K\x03"),
        "names os.system",
    ),
    "parameter of a number": (
        calls("torch._utils", "_rebuild_parameter", b"K\x01\x89" + EMPTY + b"\x87"),
        "a parameter in it is no tensor",
    ),
    "tensor of a number": (
        calls(
            *("torch._utils", "_rebuild_tensor_v3"),
            b"(K\x01K\x00K\x02\x85K\x01\x85\x89" + EMPTY + b"ctorch\nfloat32\nt",
        ),
        "a tensor in it has no shape",
    ),
    "tensor of another number of strides": (
        lambda content: content.replace(b"K\x03K\x01\x86", b"K\x03\x85"),
        "a tensor in it has no shape",
    ),
    "tensor with a stride below 0": (
        lambda content: content.replace(b"K\x03K\x01\x86", b"K\x03J\xff\xff\xff\xff\x86"),
        "a tensor in it has no shape",
    ),
    "tensor from below 0": (
        lambda content: content.replace(b"QK\x00", b"QJ\xff\xff\xff\xff"),
        "a tensor in it has no shape",
    ),
    "tensor from beyond its end": (
        lambda content: content.replace(b"QK\x00", b"QK\x01"),
        "a tensor in it is larger than its numbers",
    ),
    "storage below 0": (
        lambda content: content.replace(b"K\x06tq", b"J\xff\xff\xff\xfftq"),
        "a storage in it is larger than its bytes",
    ),
    "reference to something else": (
        first(b"(" + LETTER + b"ctorch\nFloatStorage\n" + LETTER + LETTER + b"K\x01tQ"),
        "refers to something that is no storage",
    ),
    "bytes of another encoding": (
        calls("_codecs", "encode", LETTER + b"X\x03\x00\x00\x00hex\x86"),
        "bytes in it are of no text",
    ),
    "bytes of a number": (
        calls("_codecs", "encode", b"K\x01X\x06\x00\x00\x00latin1\x86"),
        "bytes in it are of no text",
    ),
    "set of a number": (
        calls("__builtin__", "set", length(HUGE) + b"\x85"),
        "a set in it is not of text or numbers",
    ),
    "shape of text": (calls("torch", "Size", LETTER + b"\x85"), "a shape in it is not of numbers"),
    "shape below 0": (
        calls("torch", "Size", b"J\xff\xff\xff\xff\x85\x85"),
        "a shape in it is not of numbers",
    ),
    "device of a number": (calls("torch", "device", b"K\x01\x85"), "a device in it has no name"),
    "device of text and text": (
        calls("torch", "device", LETTER + LETTER + b"\x86"),
        "a device in it has no name",
    ),
    "a kind of another module": (instead(b"cposix\nfloat32\n"), "names posix.float32"),
    "operation": (instead(b"N\x81"), "an operation or a reference that is not read"),
    "numbers that take long to multiply": (
        instead(b"\x8b\x00\x02\x00\x00" + 512 * b"\x01"),
        "an operation or a reference that is not read",
    ),
    "numbers of one hash": (
        instead(b"}(" + b"".join(each + b"N" for each in multiples(5000)) + b"u"),
        "too many keys of the same hash",
    ),
    "numbers of one hash in tuples": (
        instead(b"}(" + b"".join(each + b"\x85N" for each in multiples(5000)) + b"u"),
        "too many keys of the same hash",
    ),
    "complex numbers of one hash": (
        instead(
            b"c__builtin__\ncomplex\nq\xfd0}("
            + b"".join(b"h\xfd" + ratio(1000003 * k) + ratio(-k) + b"\x86RN" for k in range(5000))
            + b"u"
        ),
        "too many keys of the same hash",
    ),
    "sets of numbers of one hash": (
        instead(
            b"c__builtin__\nset\nq\xfd]("
            + b"".join(multiples(400))
            + b"eq\xfe0]("
            + 500 * b"h\xfdh\xfe\x85R"
            + b"e"
        ),
        "too many keys of the same hash",
    ),
    "Counters of numbers of one hash": (
        instead(
            b"ccollections\nCounter\nq\xfd}("
            + b"".join(each + b"N" for each in multiples(400))
            + b"uq\xfe0]("
            + 500 * b"h\xfdh\xfe\x85R"
            + b"e"
        ),
        "too many keys of the same hash",
    ),
    "numbers as keys": (
        instead(b"}(" + b"".join(ratio(k) + b"N" for k in range(20_000, 0, -1)) + b"u"),
        "too many keys that are numbers",
    ),
    "numbers as keys again and again": (
        instead(
            b"}("
            + b"".join(ratio(-k) + b"N" for k in range(10_000))
            + b"u("
            + 10_000 * (ratio(-1) + b"N")
            + b"u"
        ),
        "too many keys that are numbers",
    ),
    "sets of numbers": (
        instead(
            b"c__builtin__\nset\nq\xfd]("
            + b"".join(map(ratio, range(9000, 0, -1)))
            + b"eq\xfe0]("
            + 5 * b"h\xfdh\xfe\x85R"
            + b"e"
        ),
        "too many keys that are numbers",
    ),
    "values numbered as they like": (
        instead(b"]r\0\1\0\0"),
        "does not number its values in order",
    ),
    "shape of long numbers": (
        lambda content: content.replace(
            b"K\x02K\x03\x86", b"K\x02\x8a\x09" + bytes(8) + b"\x01\x86"
        ),
        "a tensor in it has no shape",
    ),
    "calls without end": (
        instead(
            b"ccollections\nOrderedDict\nq\xfd)q\xfe0](" + 40_000 * b"h\xfdh\xfeR" + b"e",
        ),
        "the same values too often",
    ),
    "cut off": (lambda content: content[:8], "cannot be read"),
    "empty": (lambda content: b"", "cannot be read: it is cut off"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_no_weights(tmp_path, change, message):
    sound = saved({"a": weight})
    evil = with_pickle(sound, change)
    assert evil != with_pickle(sound, lambda content: content)
    with pytest.raises(ValueError, match=f"^'policy.pth' in it .*{message}") as caught:
        read(tmp_path, evil)
    assert "\n" not in str(caught.value)
    assert "may run code" not in str(caught.value)
    advice = str(caught.value).endswith("; pass --trust if you trust the file")
    assert advice == ("in it is refused" in str(caught.value))


def test_numbers_of_storages_without_a_type(tmp_path):
    """Their type stands with the tensor: there may be no more of them than there are bytes for."""
    sound = saved({"a": th.ones(6, dtype=th.uint16)})
    for was, now in ((b"uint16", b"uint64"), (b"K\x06\x85", b"K\x07\x85")):
        evil = with_pickle(sound, lambda content, was=was, now=now: content.replace(was, now))
        with pytest.raises(ValueError, match="a tensor in it is larger than its numbers"):
            read(tmp_path, evil)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_tensors_with_places_that_are_none(tmp_path, layout):
    """PyTorch takes them unseen unless asked, and writes where they lead."""
    eye = th.eye(4).to_sparse(layout=getattr(th, f"sparse_{layout}"))
    places = eye._indices() if layout == "coo" else eye.col_indices()
    places[..., -1] = 10**9
    with pytest.raises(RuntimeError, match=r"size is inconsistent with indices|col_indices"):
        read(tmp_path, saved({"a": eye}))


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_tensors_of_the_same_numbers_again_and_again(tmp_path, layout):
    """PyTorch walks through them each time."""
    value = th.zeros(100_000).reshape(1, -1)
    value[0, -1] = 1
    if layout == "coo":
        parts = [th.zeros(2, 100_000, dtype=th.int64), value[0]]
        kind, size = th.sparse_coo, (1, 1)
    else:
        parts = [*(th.zeros(100_000, dtype=th.int64), th.zeros(0, dtype=th.int64)), th.zeros(0)]
        kind, size = th.sparse_csr, (99_999, 1)
    for times, message in ((5, None), (400, "the same numbers too often")):
        content = saved([Sparse(kind, (*parts, size)) for _ in range(times)])
        if message:
            with pytest.raises(ValueError, match=message):
                read(tmp_path, content)
        else:
            assert len(read(tmp_path, content)) == times


class Sparse:
    """Saved as PyTorch saves sparse tensors."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return th._utils._rebuild_sparse_tensor, self.arguments


@pytest.mark.parametrize(
    "kept",
    [
        lambda tensor: [tensor] * 800,
        lambda tensor: [{tensor} for _ in range(800)],
        lambda tensor: [th.nn.Parameter(tensor)] * 800,
    ],
    ids=["list", "sets", "parameter"],
)
@pytest.mark.parametrize("expanded", [True, False])
def test_tensors_that_are_referred_to_too_often(tmp_path, kept, expanded):
    """Each reference is a copy where an optimiser takes them."""
    tensor = th.ones(1).double().expand(2**16) if expanded else th.ones(2**16).double()
    with pytest.raises(ValueError, match="the same numbers too often; pass --trust"):
        read(tmp_path, saved(kept(tensor)))
    assert len(read(tmp_path, saved(kept(tensor[: 2**10])))) == 800


@pytest.mark.parametrize(("width", "layers"), [(256, 24), (256, 48), (512, 12), (768, 12)])
def test_layers_that_share_their_weights(tmp_path, width, layers):
    """As in ALBERT: their numbers are stored once, and nothing is copied."""
    layer = th.nn.TransformerEncoderLayer(width, 4, 4 * width)
    state = th.nn.ModuleList([layer] * layers).state_dict()
    assert same(read(tmp_path, saved(state)), state)


GRID = [(row, column) for row in range(-50, 50) for column in range(100)]
MANY = {
    "grid": Counter(GRID),
    "set of a grid": set(GRID),
    "grid below 0": Counter(product((-2.0, -1.0, 0.0), repeat=8)),  # -1 and -2 have one hash
    "hashes": {hash((k, "text")) for k in range(10_000)},
    "times": {2**60 + k: k for k in range(10_000)},
    "counted": dict.fromkeys(range(50_000)),
    "powers": {2**k: k for k in range(2000)},
    "complex numbers": {complex(k, -k): k for k in range(3000)},
    "bytes as keys": {k.to_bytes(4, "little"): k for k in range(3000)},
    "bytes in tuples": {(b"a", k): k for k in range(3000)},
    "places": {(th.device("cpu"), th.float32, k): k for k in range(3000)},
    "tensors as keys": [{th.zeros(1): 1 for _ in range(100)}],
    "small sets": [{k, -k} for k in range(3000)],
    "calls": [Counter() for _ in range(3000)],
    "views": list(th.zeros(5000)),
    "bytes": bytes(9 * 2**20),
    "history": [k / 7 for k in range(300_000)],
    "words": {f"word{k}": k for k in range(150_000)},
}


@pytest.mark.parametrize("name", MANY)
def test_as_much_as_the_file_has_bytes_for(tmp_path, name):
    value = {"a._extra_state": MANY[name]}
    content = saved(value)
    if name == "tensors as keys":
        assert len(read(tmp_path, content)["a._extra_state"][0]) == 100
    else:
        assert same(read(tmp_path, content), value)


def test_pickles_that_were_packed(tmp_path):
    """They take time for each byte that they have unpacked."""
    for size, message in ((2**20 - 100, None), (2**20, "is larger than the file that it is in")):
        content = saved({"a": bytes(1), "b": size * "a"})
        if message:
            with pytest.raises(ValueError, match=message):
                read(tmp_path, content, packed=zlib.compress(content))
        else:
            assert read(tmp_path, content, packed=zlib.compress(content))["a"] == bytes(1)


def test_a_copy_of_half_precision_is_larger(tmp_path):
    """Optimisers make them what their parameters are."""
    half = th.ones(1).half().expand(2**20)
    assert len(read(tmp_path, saved([half] * 30))) == 30
    with pytest.raises(ValueError, match="the same numbers too often"):
        read(tmp_path, saved([half] * 40))


def test_references_to_numbers_that_were_packed(tmp_path):
    """A hundred megabytes of zeros pack to one, and each reference would be a copy of them all."""
    content = saved([th.zeros(2**22)] * 20)
    assert len(read(tmp_path, content)) == 20
    with pytest.raises(ValueError, match="the same numbers too often"):
        read(tmp_path, content, packed=zlib.compress(content))


def test_a_failed_read_leaves_nothing_to_the_next(tmp_path):
    eye = th.eye(4).to_sparse()
    eye._indices()[..., -1] = 10**9
    content = saved({"a": eye, "b": Stats()})
    with pytest.raises(ValueError, match="Stats"):
        read_tensors(tmp_path / "model.zip", "policy.pth", content, "cpu", trust=True)
    assert same(read(tmp_path, saved({"a": weight})), {"a": weight})


class Stats:
    """What a module may keep, known to its own code."""

    def __init__(self):
        self.n, self.seen = 1, {(1, 2)}

    def __eq__(self, other):
        return vars(self) == vars(other)


def test_classes_that_other_code_says_are_safe(tmp_path):
    value = {"a._extra_state": Stats(), "b": Fraction(1, 3), "c": frozenset({1})}
    content = saved(value)
    with pytest.raises(ValueError, match=r"names .*Stats, which is not read; pass --trust"):
        read(tmp_path, content)
    with th.serialization.safe_globals([Stats, (Fraction, "fractions.Fraction"), frozenset]):
        assert same(read(tmp_path, content), value)
        with pytest.raises(ValueError, match="the same values too often"):
            read(
                tmp_path,
                with_pickle(
                    content, instead(b"c__builtin__\nfrozenset\n" + doubled(40) + b"\x85R")
                ),
            )


def test_keys_of_classes_that_other_code_says_are_safe(tmp_path):
    value = {"a._extra_state": {Fraction(k, 7): k for k in range(5000)}}
    with th.serialization.safe_globals([(Fraction, "fractions.Fraction")]):
        assert same(read(tmp_path, saved(value)), value)


@pytest.mark.parametrize("name", ["torch.distributed.Layout", "torch.nested.inner._rebuild_njt"])
def test_what_pytorch_itself_says_is_safe(tmp_path, name):
    """It may take any time and memory; PyTorch registers it when other things are imported."""
    module, _, last = name.rpartition(".")
    with th.serialization.safe_globals([(Stats, name), th.nn.Identity]):
        assert type(read(tmp_path, saved(th.nn.Identity()))) is th.nn.Identity
        evil = with_pickle(saved({}), instead(f"c{module}\n{last}\nK\x01\x85R".encode("latin1")))
        with pytest.raises(ValueError, match=f"names {name}, which is not read; pass --trust"):
            read(tmp_path, evil)


def tagged():
    parameter = th.nn.Parameter(weight)
    parameter.tag = "text"
    return parameter


@pytest.mark.parametrize(
    "value",
    [
        {"a": tagged()},
        {"a": th.zeros(3, device="meta")},
        {((1, 2), 3): 4},
    ],
    ids=["attributes", "no numbers", "nested key"],
)
def test_what_pytorch_alone_reads(tmp_path, value):
    content = saved(value)
    with pytest.raises(ValueError, match=r"; pass --trust if you trust the file$") as caught:
        read(tmp_path, content)
    assert "may run code" not in str(caught.value)
    found = read_tensors(tmp_path / "model.zip", "policy.pth", content, "cpu", trust=True)
    assert list(found) == list(value)


def test_what_runs_code_is_not_read_when_trusted_either(tmp_path):
    content = with_pickle(saved({}), instead(b"cposix\nsystem\nX\x01\x00\x00\x00a\x85R"))
    with pytest.raises(
        ValueError, match=r"^'policy.pth' in it is refused: .*posix\.system"
    ) as caught:
        read_tensors(tmp_path / "model.zip", "policy.pth", content, "cpu", trust=True)
    assert "\n" not in str(caught.value)
    content = saved({"a._extra_state": Stats()})
    with pytest.raises(ValueError, match=r"Please use .torch.serialization.add_safe_globals"):
        read_tensors(tmp_path / "model.zip", "policy.pth", content, "cpu", trust=True)


def test_only_what_was_looked_at_reaches_pytorch(tmp_path):
    """Members besides tensors make PyTorch take the file for a program, for example."""
    payload = b"\x80\x02cposix\nsystem\nX\x01\x00\x00\x00a\x85R."
    more = {"archive/DATA.PKL": payload, "archive/constants.pkl": payload, "archive/code/a": b""}
    found = read(tmp_path, with_pickle(saved({"a": weight}), lambda was: was, **more))
    assert same(found, {"a": weight})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of one, and the model it is of."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = trained(pyrl_sb3.SAC)
    moment = Moment(timesteps=8, env_seed=0, reset=True)
    write_checkpoint(folder, model, [], moment, lambda model, path: model.save(path))
    return folder, model


@pytest.mark.parametrize("name", ["policy.pth", "critic.optimizer.pth", "pytorch_variables.pth"])
def test_checkpoints(checkpoint, tmp_path, name):
    sound, model = checkpoint
    Checkpoint(sound).restore(model, [])
    folder = shutil.copytree(sound, tmp_path / "step_8")
    change = REFUSED["tuples as key"][0]
    with (
        zipfile.ZipFile(sound / "model.zip") as old,
        zipfile.ZipFile(folder / "model.zip", "w") as new,
    ):
        for each in old.namelist():
            content = old.read(each)
            new.writestr(each, with_pickle(content, change) if each == name else content)
    with pytest.raises(StateError) as caught:
        Checkpoint(folder).restore(model, [])
    line = f"{folder} cannot be resumed from: '{name}' in it is refused: it has a key"
    assert str(caught.value).startswith(line)
    assert str(caught.value).endswith("; pass --trust if you trust the file")
    # Every checkpoint would have the same.
    assert "deleting" not in str(caught.value)


def test_a_checkpoint_with_members_that_no_model_has(checkpoint, tmp_path):
    sound, model = checkpoint
    folder = shutil.copytree(sound, tmp_path / "step_8")
    with zipfile.ZipFile(folder / "model.zip", "a") as archive:
        archive.writestr("actor.more.pth", b"not read")
    with pytest.raises(StateError, match=r"has actor\.more\.pth, which is no part of the model"):
        Checkpoint(folder).restore(model, [])


def test_a_checkpoint_puts_the_entropy_coefficient_back_in_place(checkpoint):
    folder, model = checkpoint
    there, value = model.log_ent_coef, model.log_ent_coef.detach().clone()
    there.data.add_(1)
    Checkpoint(folder).restore(model, [])
    assert model.log_ent_coef is there
    assert th.equal(there.detach(), value)


def entry(name):
    """Of a table of contents, of a member without content."""
    return b"PK\x01\x02" + bytes(24) + len(name).to_bytes(2, "little") + bytes(16) + name


def table(*entries):
    """A tensor file that lists more than it has."""
    content = saved({"a": weight})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start, here = archive.start_dir, len(archive.namelist())
    old = content[start : content.rindex(b"PK\x05\x06")]
    old = old[: old.index(b"PK\x06\x06")] if b"PK\x06\x06" in old else old
    new = old + b"".join(entries)
    number, size = here + len(entries), len(new)
    counts = 2 * number.to_bytes(8, "little")
    last = size.to_bytes(8, "little") + start.to_bytes(8, "little")
    zip64 = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(12) + counts + last
    locator = b"PK\x06\x07" + bytes(4) + (start + size).to_bytes(8, "little") + bytes(4)
    end = b"PK\x05\x06" + bytes(4) + 12 * b"\xff" + bytes(2)
    return content[:start] + new + zip64 + locator + end


def test_tables_of_contents(tmp_path):
    assert same(read(tmp_path, table(entry(b"a/b"))), {"a": weight})
    with pytest.raises(InputError, match=r"'policy\.pth' in it lists the same member twice"):
        read(tmp_path, table(entry(b"a/b"), entry(b"a/b")))
    with pytest.raises(InputError, match=r"'policy\.pth' in it has more than 65536 members"):
        read(tmp_path, table(entry(b"a/b") * 70_000))


def test_files_of_another_kind(tmp_path):
    for content in (b"junk", saved({"a": weight}, _use_new_zipfile_serialization=False)):
        with pytest.raises(InputError, match=r"'policy\.pth' in it is no tensor"):
            read(tmp_path, content)
