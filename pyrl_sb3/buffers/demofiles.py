"""Files of demonstrations: our own, those of OpenAI baselines, Minari's data sets."""

import os
import reprlib
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pyrl_sb3.buffers.baselines import read_baselines
from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode, naming
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array
from pyrl_sb3.plaindata import announced, read_npy, unpack

VERSION = 1
MINARI = "minari:"
_MOST = 2**33  # bytes, far more than demonstrations take
# Rewards that are all the same shrink by a thousand, and long demonstrations with them, but what
# is large as a whole and shrinks so is a bomb.
_SHRINKS, _UNSUSPECTED = 200, 2**29
_MADE = 4  # objects and `float64` for each byte of pickles that may be unpacked
_MOST_PLAIN = 2**24  # bytes of the lengths, which are read before the rest is measured by them


def require_file(given: object) -> None:
    """Raise DemonstrationError where this does not name one file."""
    if isinstance(given, (str, os.PathLike)):
        return
    several = "; for several, Demonstrations(episodes=[*a.episodes, *b.episodes], source='a, b')"
    short = " ".join(reprlib.repr(given).split())
    raise DemonstrationError(
        f"demonstrations={short}: must be one file, or what load_demonstrations returns"
        f"{several if isinstance(given, (list, tuple)) else ''}"
    )


def load_demonstrations(source: str | Path) -> Demonstrations:
    """
    Read demonstrations; which kind they are is seen from what is in the file.

    - our own, of `save_demonstrations` and ``pyrl demos record``;
    - ``acs``, ``obs`` and ``info``, an array or list of each for every episode, as OpenAI
      baselines records them. They hold pickles, of which nothing but arrays and plain values is
      read;
    - ``minari:D4RL/pointmaze/umaze-v2`` and the like, data sets that Minari has on this machine.

    :param source: the file, or ``minari:`` and the name of a data set
    :raises DemonstrationError: no such file, or none of these
    """
    require_file(source)
    if str(source).startswith(MINARI):
        return _minari(str(source).removeprefix(MINARI))
    path = Path(source)
    if path.is_dir():
        raise DemonstrationError(f"{path}: is a folder: name a file in it")
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file")
    with naming(f"{path}: cannot be read"), zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        most = min(_MOST, max(_UNSUSPECTED, _SHRINKS * path.stat().st_size))
        if size > most:
            raise DemonstrationError(f"{path}: {size} bytes unpacked, at most {most} are read")
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if "pyrl_demonstrations" in names:
            return _own(path, archive, names)
        if {"acs", "obs"} <= names:
            most = _MADE * max(_UNSUSPECTED, _SHRINKS * path.stat().st_size)
            return read_baselines(archive, names, str(path), most)
    held = "".join(c if c.isprintable() else "?" for c in ", ".join(sorted(names))[:200])
    raise DemonstrationError(
        f"{path}: holds {held or 'nothing'}: no demonstrations of `pyrl demos record`, "
        "nor acs and obs"
    )


def save_demonstrations(demonstrations: Demonstrations, path: Path) -> None:
    """
    Write checked demonstrations with their rewards to an ``.npz`` of plain arrays.

    Floats become float32; infos are left out.

    :param demonstrations: all of whose episodes have rewards
    :param path: of the file; an older one is replaced
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
    keys = sorted(name for name in names if name.startswith("observations/"))
    needed = {"actions", "rewards", "lengths", "terminated", "env_id"}
    if missing := sorted(needed - names) or ([] if keys else ["observations"]):
        raise DemonstrationError(f"{path}: {missing[0]} is missing")
    plain = {"pyrl_demonstrations", *needed, *({"success"} & names)}
    arrays = {name: _announced(archive, name, path) for name in (*plain, *keys)}
    first = ("pyrl_demonstrations", "env_id", "lengths")
    for name in first:
        if arrays[name].nbytes > _MOST_PLAIN:
            raise DemonstrationError(f"{path}: {name}: more than {_MOST_PLAIN} bytes")
        arrays[name] = _read(archive, name, path)
    if problem := _problem(arrays, keys):
        raise DemonstrationError(f"{path}: {problem}")
    arrays |= {name: _read(archive, name, path) for name in arrays if name not in first}
    lengths, success = arrays["lengths"].astype(np.int64), arrays.get("success")
    steps, rows = np.cumsum(lengths)[:-1], np.cumsum(lengths + 1)[:-1]
    actions, rewards = (np.split(arrays[name], steps) for name in ("actions", "rewards"))
    states = {key.partition("/")[2]: np.split(arrays[key], rows) for key in keys}
    episodes = [
        Episode(
            observations={key: values[i] for key, values in states.items()},
            actions=actions[i],
            rewards=rewards[i],
            terminated=bool(arrays["terminated"][i]),
            success=None if success is None else bool(success[i]),
        )
        for i in range(len(lengths))
    ]
    env_id = str(arrays["env_id"]) or None
    return Demonstrations(episodes=episodes, source=str(path), env_id=env_id)


def _problem(arrays: Mapping[str, Array], keys: Sequence[str]) -> str | None:
    """What is wrong with a file of ours, by the field."""
    version, lengths = arrays["pyrl_demonstrations"], arrays["lengths"]
    if version.shape or version.dtype.kind not in "iu":
        return "pyrl_demonstrations: must be the number of a version"
    if version > VERSION:
        return f"is of a newer version, {version}"
    if arrays["env_id"].shape or arrays["env_id"].dtype.kind != "U":
        return "env_id: must be text"
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        return "lengths: must be whole numbers, one for each episode"
    steps, episodes = sum(lengths.tolist()), len(lengths)
    of_steps = {"actions": steps, "rewards": steps, **dict.fromkeys(keys, steps + episodes)}
    of_episodes = dict.fromkeys({"terminated", "success"} & arrays.keys(), episodes)
    for name, count in {**of_steps, **of_episodes}.items():
        values = arrays[name]
        if values.ndim < 1 or values.dtype.kind not in "biuf":
            return f"{name}: must be numbers, one or a row of them for each step"
        if name in of_episodes and values.ndim > 1:
            return f"{name}: must be one for each episode"
        if len(values) != count:
            return f"{name}: {len(values)}, by the lengths there must be {count}"
    return None


def _minari(name: str) -> Demonstrations:
    source = f"{MINARI}{name}"
    if find_spec("minari") is None:
        raise DemonstrationError(f"{source}: minari is not installed: pip install 'minari[hdf5]'")
    with naming(f"{source}: cannot be read"):
        import minari  # type: ignore[import-not-found, unused-ignore]

        try:
            data = minari.load_dataset(name)
        except FileNotFoundError as error:
            message = f"not on this machine: minari download {name}"
            raise DemonstrationError(f"{source}: {message}") from error
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
        return Demonstrations(episodes=episodes, source=source, env_id=spec.id if spec else None)


def _announced(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    with naming(f"{path}: {name}"), archive.open(f"{name}.npy") as file:
        return announced(file, archive.getinfo(f"{name}.npy").file_size)


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    with naming(f"{path}: {name}"):
        return read_npy(unpack(archive, f"{name}.npy"))
