"""Config files: YAML within bounds, or Python where that is trusted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyrl_sb3.config.components import TRUSTED
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.config.scripts import is_script, run_script
from pyrl_sb3.devices import is_device
from pyrl_sb3.errors import did_you_mean, did_you_mean_beside, short

# The zoo's largest file has 12 kB, 4 levels, and 900 nodes with its anchors written out.
_MOST_BYTES, _DEEPEST, _MOST_NODES, _LONGEST_NUMBER = 256 * 1024, 30, 50_000, 64
MOST_WRITTEN = 2000 * 1024  # bytes of what runs write: each value of a list has a line of its own
_OF_RUNS = ("run.yml", "seeds.yml")  # beside their configs

_YAML = "tag:yaml.org,2002:"
_MAPPING, _SEQUENCE, _TEXT, _MERGE = (_YAML + name for name in ("map", "seq", "str", "merge"))
_EXPONENTIAL = f"{_YAML}exponential"
_NUMBERS = {_EXPONENTIAL, *(_YAML + name for name in ("int", "float", "bool", "null"))}
_READ = _NUMBERS | {_MAPPING, _SEQUENCE, _TEXT, _MERGE}
# As RL Zoo writes its settings: a list whose only item is a list of keys and values.
_ORDERED = f"{_YAML}python/object/apply:collections.OrderedDict"
_NAME = f"{_YAML}python/name:"  # and where a class is


@dataclass(frozen=True)
class Document:
    """
    What a config file holds.

    :param name: The file, as errors name it.
    :param data: Its content.
    """

    name: str
    data: Any
    root: yaml.Node | None = None

    def where(self, path: Sequence[str]) -> str:
        """`file:line: a.b.c`, the place of a key; of a missing one the place above it."""
        line, node = None, self.root
        for key in path:
            found = _child(node, key)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return f"{self.name}:{line}: {'.'.join(path)}" if line else f"{self.name}: {'.'.join(path)}"


def read_document(path: Path, *, trust: bool = False) -> Document:
    """
    Read a config file.

    :param trust: Run a Python file and take its ``hyperparams``; read the names of Python's classes
        in any package.
    :raises ConfigError: when the file is missing, too large, no text or no config, or Python that
        raises.
    """
    if path.suffix and is_device(path):  # not /dev/stdin, and not what shells make of `<(...)`
        raise ConfigError(f"{path}: a device or a pipe, and no file")
    try:
        with path.open("rb") as file:
            most = MOST_WRITTEN if _is_written(path) else _MOST_BYTES
            raw = file.read(most + 1)
    except OSError as error:
        advice = did_you_mean_beside(path) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: {error.strerror}{advice}") from None
    if is_script(path):
        return _python(path, trust)
    if len(raw) > most:
        raise ConfigError(f"{path}: larger than {most // 1024} kB, which no config is")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, see byte {error.start}") from None
    return parse_yaml(text, str(path), trust=trust)


def parse_yaml(text: str, name: str, *, exponents: bool = True, trust: bool = False) -> Document:
    """
    Read YAML: mappings, lists, strings, numbers, true, false, null, anchors and merges.

    A class that PyYAML has written by its name is read as the path to it; nothing is imported.

    :param name: What errors call it.
    :param exponents: Whether ``1e-3`` is a number. PyYAML takes it for text, and what it wrote by
        itself has such text without quotes.
    :param trust: Read such names in any package.
    :raises ConfigError: for other tags, duplicate keys, or aliases that expand beyond measure.
    """
    try:
        loader = _Loader(text) if exponents else _Bounded(text)
        loader.trust = trust
        root = loader.get_single_node()
        if root is None:
            return Document(name, None)
        _Check(loader).measure(root)
        return Document(name, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        character = f"character {chr(error.character)!r} at {error.position}"
        raise ConfigError(f"{name}: the {character} cannot stand in YAML") from None


def _is_written(path: Path) -> bool:
    """Whether a file is the config in the folder of a run or a group."""
    return path.name == "config.yml" and any((path.parent / name).is_file() for name in _OF_RUNS)


def _python(path: Path, trust: bool) -> Document:
    if not trust:
        raise ConfigError(f"{path}: Python code, which would be run; pass --trust if you trust it")
    names = run_script(path)
    if "hyperparams" not in names:
        raise ConfigError(f"{path}: defines no `hyperparams`{did_you_mean('hyperparams', names)}")
    return Document(str(path), _without_numpy(names["hyperparams"]))


def _without_numpy(value: Any) -> Any:
    """
    Python's numbers and text in the place of NumPy's: YAML has no others, and a run is to go on,
    and to be tested, with what it was trained with.
    """
    import numpy as np

    if type(value) is dict:
        return {_without_numpy(key): _without_numpy(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_without_numpy, value))
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return value.item()
    return value


class _Bounded(yaml.SafeLoader):
    """Safe, and refuses any nesting, in which PyYAML recurses without a bound, and any length."""

    depth = nodes = 0
    trust = False

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        if self.depth > _DEEPEST or self.nodes > _MOST_NODES:
            deep = f"nested more than {_DEEPEST} levels deep"
            problem = deep if self.depth > _DEEPEST else f"more than {_MOST_NODES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A value; a class's name is the path to it, which its reader may follow or not."""
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        path = node.tag.removeprefix(_NAME)
        if path != node.tag and not node.value and (self.trust or path.split(".")[0] in TRUSTED):
            node = yaml.ScalarNode(_TEXT, path, node.start_mark, node.end_mark)
            if anchor is not None:
                self.anchors[anchor] = node
        return node

    # What it returns becomes a part of other nodes, which hold any kind.
    def compose_sequence_node(self, anchor: Any) -> yaml.Node:  # type: ignore[override]
        """A list; what Python calls an `OrderedDict` is a mapping, and no code is needed for it."""
        node: yaml.Node = super().compose_sequence_node(anchor)
        if node.tag == _ORDERED and (pairs := _pairs(node)) is not None:
            node = yaml.MappingNode(_MAPPING, pairs, node.start_mark, node.end_mark)
            if anchor is not None:
                self.anchors[anchor] = node
        return node


class _Loader(_Bounded):
    """Reads numbers as people write them."""

    def exponential(self, node: yaml.ScalarNode) -> float:
        """A number; a whole one where it is written without a point, such as ``1e6``."""
        value: float = self.construct_yaml_float(node)
        return int(value) if "." not in node.value and value.is_integer() else value


class _Dumper(yaml.SafeDumper):
    """Puts text that `_Loader` would read as a number in quotes."""


def write_yaml(data: Any) -> str:
    """What `parse_yaml` reads as the same."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False))


# YAML 1.1 wants a point and a sign in numbers with an exponent, which nobody writes.
_WRITTEN = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
_Loader.add_implicit_resolver(_EXPONENTIAL, *_WRITTEN)
_Loader.add_constructor(_EXPONENTIAL, _Loader.exponential)
_Dumper.add_implicit_resolver(_EXPONENTIAL, *_WRITTEN)


class _Check:
    """Looks at the nodes before anything is built of them: aliases are still shared then."""

    def __init__(self, loader: _Bounded) -> None:
        self.loader = loader
        self.sizes: dict[int, int] = {}

    def measure(self, node: yaml.Node) -> int:
        """The number of nodes when all aliases are written out."""
        known = self.sizes.get(id(node))
        if known == 0:
            raise _error("an alias within the value it names", node)
        if known is None:
            self.sizes[id(node)] = 0  # begun: who meets it now is inside it
            known = self._measure(node)
            self.sizes[id(node)] = known
        return known

    def _measure(self, node: yaml.Node) -> int:
        if node.tag not in _READ:
            tag = node.tag.replace(_YAML, "!!")
            named = node.tag.startswith(_NAME)
            advice = "pass --trust if you trust it" if named else "quote the value if it is text"
            raise _error(f"the tag {short(tag)} is not read; {advice}", node)
        if isinstance(node, yaml.MappingNode):
            self._keys(node)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        else:
            self._scalar(node)
            return 1
        size = 1 + sum(self.measure(part) for part in parts)
        if size > _MOST_NODES:
            raise _error(f"aliases expand to more than {_MOST_NODES} values", node)
        return size

    def _keys(self, node: yaml.MappingNode) -> None:
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key must be a word", key)
            name = (key.tag, key.value)
            if name in seen and key.tag != _MERGE:
                raise _error(f"{short(key.value)} is given twice, first in line {seen[name]}", key)
            seen[name] = key.start_mark.line + 1

    def _scalar(self, node: yaml.Node) -> None:
        if node.tag not in _NUMBERS:
            return
        kind = node.tag.rpartition(":")[2]
        if len(node.value) > _LONGEST_NUMBER:
            raise _error(f"{short(node.value)} is too long for a {kind}", node)
        try:
            self.loader.construct_object(node)
        except (ValueError, LookupError):
            raise _error(f"{short(node.value)} is no {kind}", node) from None


def _pairs(ordered: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]] | None:
    """The keys and values of an `OrderedDict`; None where it is not written as PyYAML does."""
    items = [item.value for item in ordered.value if _is_list(item)]
    if len(items) != 1 or len(ordered.value) != 1:
        return None
    pairs = [item.value for item in items[0] if _is_list(item) and len(item.value) == 2]
    return [(key, value) for key, value in pairs] if len(pairs) == len(items[0]) else None


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _child(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of a key and its value in a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    # PyYAML has put what was merged in before the mapping's own keys.
    return next((pair for pair in reversed(pairs) if pair[0].value == key), None)
