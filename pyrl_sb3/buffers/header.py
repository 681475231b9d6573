"""The header of a saved replay buffer: what the other files are, and in what order."""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.snapshot import Layout

FORMAT = 1
HEADER = "header.json"
_SHARD = re.compile(r"\d+-\d+-[0-9a-f]{16}\.bin")
_EXTRA = re.compile(r"extra-[0-9a-f]{16}\.json")
_TEMPORARY = re.compile(r"header-[0-9a-f]{16}\.tmp")
_DTYPE = re.compile(r"[<|][biuf]\d{1,2}")


@dataclass(frozen=True)
class File:
    """A file besides the header."""

    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Shard(File):
    """A file with the steps `[first, past)` of every environment.

    The episodes in it are those whose end became known by `past` and not by `first`, by number.
    """

    first: int
    past: int
    low: list[int]  # by environment, the number of the first episode in it
    high: list[int]  # and of the first after it


@dataclass(frozen=True)
class Header:
    """What a folder holds."""

    id: str  # of the store that was saved
    n_envs: int
    first: int
    now: int
    layout: Layout
    has_infos: bool
    rng: dict[str, Any]
    shards: list[Shard]
    tip: Shard  # the running episodes, and the steps needed before the window
    extra: File | None = None  # what the buffer knows besides transitions, if anything

    @property
    def parts(self) -> list[Shard]:
        """The files of transitions."""
        return [*self.shards, self.tip]

    @property
    def files(self) -> list[File]:
        """All files."""
        return [*self.parts, *([] if self.extra is None else [self.extra])]


def new_name(first: int, past: int) -> str:
    """A name that no file of the folder has had."""
    return f"{first}-{past}-{secrets.token_hex(8)}.bin"


def new_extra_name() -> str:
    """One for extra state."""
    return f"extra-{secrets.token_hex(8)}.json"


def ours(name: str) -> bool:
    """Whether a file of this name is part of a saved replay buffer, or left over from one."""
    return name == HEADER or any(
        pattern.fullmatch(name) for pattern in (_SHARD, _EXTRA, _TEMPORARY)
    )


def dump(header: Header) -> bytes:
    """A header as its file has it."""
    content = {
        **vars(header),
        "layout": _layout_to_json(header.layout),
        "shards": [vars(shard) for shard in header.shards],
        "tip": vars(header.tip),
    }
    del content["extra"]  # a field of buffers that have some
    if header.extra is not None:
        content["extra"] = vars(header.extra)
    return json.dumps(
        {"format": FORMAT, "checksum": _checksum(content), "content": content}
    ).encode()


def read_header(folder: Path) -> Header:
    """What a folder holds.

    :raises FileNotFoundError: there is no such folder
    :raises ValueError: it is no replay buffer's, is damaged, or from a newer version; says which
    """
    file = folder / HEADER
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    if not file.is_file():
        raise ValueError(f"{folder} is no replay buffer's folder: it has no {HEADER}")
    try:
        whole = json.loads(file.read_bytes())
        version, content = whole["format"], whole["content"]
        intact = whole["checksum"] == _checksum(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, or no replay buffer's header") from error
    if version != FORMAT:
        raise ValueError(
            f"{file} has format {version!r}, and this version of pyrl-sb3 reads {FORMAT}: "
            "update pyrl-sb3"
        )
    if not intact:
        raise ValueError(f"{file} is damaged: its checksum is wrong")
    try:
        header = _from_json(content)
        _check(header)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} does not describe a replay buffer: {error}") from error
    return header


def _checksum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def little_endian(dtype: np.dtype) -> np.dtype:
    """The same dtype in the byte order of files."""
    return dtype.newbyteorder("<")


def _layout_to_json(layout: Layout) -> dict[str, Any]:
    def plain(fields: dict[str, Field]) -> dict[str, Any]:
        return {k: [list(f.shape), little_endian(f.dtype).str] for k, f in fields.items()}

    return {"steps": plain(layout.steps), "episodes": plain(layout.episodes), "lead": layout.lead}


def _fields_from_json(plain: dict[str, Any]) -> dict[str, Field]:
    fields = {}
    for name, (shape, dtype) in plain.items():
        if not _DTYPE.fullmatch(dtype):
            raise ValueError(f"dtype {dtype!r} of {name!r}")
        fields[name] = Field(tuple(map(_natural, shape)), np.dtype(dtype).newbyteorder("="))
    return fields


def _natural(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**62:
        raise ValueError(f"{number!r} where a number is expected")
    return number


def _from_json(content: dict[str, Any]) -> Header:
    plain = content["layout"]
    layout = Layout(
        _fields_from_json(plain["steps"]),
        _fields_from_json(plain["episodes"]),
        {name: _natural(plain["lead"][name]) for name in plain["steps"]},
    )
    shards = [Shard(**shard) for shard in content["shards"]]
    fields = {"layout": layout, "shards": shards, "tip": Shard(**content["tip"])}
    if "extra" in content:
        fields["extra"] = File(**content["extra"])
    return Header(**{**content, **fields})


def _check(header: Header) -> None:
    """Check that the parts fit together, before anything is allocated for them."""
    for number in (header.n_envs, header.first, header.now):
        _natural(number)
    if not isinstance(header.id, str):
        raise ValueError(f"{header.id!r} is no name")
    before: Shard | None = None
    for part in header.parts:
        if not _SHARD.fullmatch(part.name):
            raise ValueError(f"{part.name!r} is no shard's name")
        for number in (part.size, part.first, part.past, *part.low, *part.high):
            _natural(number)
        if {len(part.low), len(part.high)} != {header.n_envs} or part.first > part.past:
            raise ValueError(f"{part.name} contradicts itself")
        if before is not None and (before.past, before.high) != (part.first, part.low):
            raise ValueError(f"{part.name} does not follow {before.name}")
        before = part
        _check_size(header, part)
    if not header.parts[0].first <= header.first <= header.now == header.tip.past:
        raise ValueError("the shards do not cover what is stored")
    if header.extra is not None:
        _natural(header.extra.size)
        if not _EXTRA.fullmatch(header.extra.name):
            raise ValueError(f"{header.extra.name!r} is no name of extra state")


def _check_size(header: Header, part: Shard) -> None:
    episodes = [high - low for low, high in zip(part.low, part.high, strict=True)]
    if min(episodes, default=0) < 0 or not header.n_envs:
        raise ValueError(f"{part.name} contradicts itself")
    size = header.layout.size((part.past - part.first) * header.n_envs, sum(episodes))
    if part is header.tip:
        size += header.layout.lead_size(header.first, header.n_envs)
    if part.size < size or (part.size > size and not header.has_infos):
        raise ValueError(f"{part.name} has {part.size} bytes, and its contents {size}")
