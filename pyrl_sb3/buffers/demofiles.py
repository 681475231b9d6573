"""Files of demonstrations: our own, those of OpenAI baselines, Minari's data sets."""

import pickle
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array

VERSION = 1
MINARI = "minari:"
_MOST = 2**33  # bytes, far more than demonstrations take
_BASELINES = {"observations": "obs", "actions": "acs", "infos": "info"}


def load_demonstrations(source: str | Path) -> Demonstrations:
    """
    Read demonstrations; which kind they are is seen from what is in the file.

    - our own, of `save_demonstrations` and ``pyrl demos record``;
    - ``acs``, ``obs`` and ``info``, an array or list of each for every episode, as OpenAI
      baselines records them. They hold pickles, of which nothing but arrays and plain values is
      read;
    - ``minari:D4RL/pointmaze/umaze-v2`` and the like, data sets that Minari has on this machine.

    :raises DemonstrationError: no such file, or none of these
    """
    if str(source).startswith(MINARI):
        return _minari(str(source).removeprefix(MINARI))
    path = Path(source)
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _MOST:
                raise DemonstrationError(f"{path}: {size} bytes unpacked, at most {_MOST} are read")
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "pyrl_demonstrations" in names:
                return _own(path, archive, names)
            if {"acs", "obs"} <= names:
                return _baselines(path, archive, names)
    except (zipfile.BadZipFile, EOFError, ValueError, pickle.UnpicklingError) as error:
        if isinstance(error, DemonstrationError):
            raise
        raise DemonstrationError(f"{path}: cannot be read: {error}") from error
    raise DemonstrationError(
        f"{path}: holds {', '.join(sorted(names)) or 'nothing'}: no demonstrations of "
        "`pyrl demos record`, nor acs and obs"
    )


def save_demonstrations(demonstrations: Demonstrations, path: Path) -> None:
    """
    Write checked demonstrations with their rewards to an ``.npz`` of plain arrays.

    Floats become float32; infos are left out.
    """
    episodes = demonstrations.episodes
    arrays = {
        f"observations/{key}": np.concatenate([each.observations[key] for each in episodes])
        for key in episodes[0].observations
    }
    arrays["actions"] = np.concatenate([each.actions for each in episodes])
    arrays["rewards"] = np.concatenate([np.asarray(each.rewards) for each in episodes])
    arrays = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    arrays["lengths"] = np.array([len(each) for each in episodes])
    arrays["terminated"] = np.array([each.terminated for each in episodes])
    if all(each.success is not None for each in episodes):
        arrays["success"] = np.array([each.success for each in episodes])
    arrays["env_id"] = np.array(demonstrations.env_id or "")
    arrays["pyrl_demonstrations"] = np.array(VERSION)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _own(path: Path, archive: zipfile.ZipFile, names: set[str]) -> Demonstrations:
    arrays = {name: _read(archive, name) for name in names}
    version = int(arrays["pyrl_demonstrations"])
    if version > VERSION:
        raise DemonstrationError(f"{path}: is of a newer version, {version}")
    expected = {"actions", "rewards", "lengths", "terminated", "env_id"}
    keys = [name for name in names if name.startswith("observations/")]
    if missing := sorted(expected - names) or ([] if keys else ["observations"]):
        raise DemonstrationError(f"{path}: {missing[0]} is missing")
    lengths = arrays["lengths"]
    steps = np.cumsum(lengths)[:-1]
    parts = {name: np.split(arrays[name], steps) for name in ("actions", "rewards")}
    states = {
        key.partition("/")[2]: np.split(arrays[key], np.cumsum(lengths + 1)[:-1]) for key in keys
    }
    success = arrays.get("success", [None] * len(lengths))
    episodes = [
        Episode(
            observations={key: values[i] for key, values in states.items()},
            actions=parts["actions"][i],
            rewards=parts["rewards"][i],
            terminated=bool(arrays["terminated"][i]),
            success=None if success[i] is None else bool(success[i]),
        )
        for i in range(len(lengths))
    ]
    env_id = str(arrays["env_id"]) or None
    return Demonstrations(episodes=episodes, source=str(path), env_id=env_id)


def _baselines(path: Path, archive: zipfile.ZipFile, names: set[str]) -> Demonstrations:
    actions, observations = _read(archive, "acs"), _read(archive, "obs")
    infos = _read(archive, "info") if "info" in names else [()] * len(actions)
    for name, values in (("obs", observations), ("info", infos)):
        if len(values) != len(actions):
            raise DemonstrationError(f"{path}: {len(values)} {name} for {len(actions)} acs")
    episodes = []
    for number, (acts, states, info) in enumerate(zip(actions, observations, infos, strict=True)):
        try:
            episode = _baselines_episode(acts, states, info)
        except (TypeError, ValueError, KeyError) as error:
            raise DemonstrationError(f"{path}: episode {number}: obs: {error}") from error
        episodes.append(episode)
    return Demonstrations(episodes=episodes, source=str(path), names=_BASELINES)


def _baselines_episode(actions: Any, states: Any, info: Any) -> Episode:
    keyed = len(states) > 0 and isinstance(states[0], Mapping)
    keys = states[0].keys() if keyed else [WHOLE]
    observations = {
        key: np.array([state[key] if keyed else state for state in states], dtype=np.float64)
        for key in keys
    }
    infos = [dict(each) for each in info]
    success = bool(np.all(infos[-1]["is_success"])) if infos and "is_success" in infos[-1] else None
    return Episode(
        observations=observations,
        actions=np.array(list(actions), dtype=np.float64),
        success=success,
        infos=infos,
    )


def _minari(name: str) -> Demonstrations:
    if find_spec("minari") is None:
        raise DemonstrationError(f"{MINARI}{name}: minari is not installed: pip install minari")
    import minari  # type: ignore[import-not-found, unused-ignore]

    try:
        data = minari.load_dataset(name)
    except FileNotFoundError as error:
        message = f"not on this machine: minari download {name}"
        raise DemonstrationError(f"{MINARI}{name}: {message}") from error
    episodes = [
        Episode(
            observations=each.observations
            if isinstance(each.observations, Mapping)
            else {WHOLE: each.observations},
            actions=each.actions,
            rewards=each.rewards,
            terminated=bool(each.terminations[-1]),
        )
        for each in data.iterate_episodes()
    ]
    spec = data.spec.env_spec
    return Demonstrations(
        episodes=episodes, source=f"{MINARI}{name}", env_id=spec.id if spec else None
    )


def _read(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if dtype.hasobject:
            found = np.asarray(_PlainUnpickler(file).load(), dtype=object)
        else:
            found = np.frombuffer(file.read(), dtype)
        if found.size != int(np.prod(shape)):
            raise DemonstrationError(f"{archive.filename}: {name} is truncated")
        return found.reshape(shape, order="F" if fortran else "C")


class _PlainUnpickler(pickle.Unpickler):
    """Makes arrays and plain values, and nothing that could run code."""

    _ALLOWED = frozenset(
        {
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("collections", "OrderedDict"),
            ("_codecs", "encode"),
        }
    )

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # as numpy, for files of Python 2

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, refused")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
