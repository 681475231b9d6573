"""Where plugins come from: distributions, and modules and files named on the command line."""

import re
import sys
from email.parser import HeaderParser
from importlib import import_module, metadata
from importlib.metadata import Distribution, EntryPoint
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from pyrl_sb3.plugins.hookspecs import PROJECT
from pyrl_sb3.plugins.settings import normalise


def installed() -> list[EntryPoint]:
    """The entry points of the installed plugins, in the order of their names."""
    entry_points = metadata.entry_points(group=PROJECT)
    return sorted(entry_points, key=lambda each: (normalise(each.name), each.value))


def name_and_version(distribution: Distribution | None) -> tuple[str | None, str | None]:
    """As the distribution's metadata say; entry points that are made by hand have none.

    Its `metadata` would parse the long description too, on each access.
    """
    if distribution is None:
        return None, None
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    about = HeaderParser().parsestr(text)
    return about["Name"], about["Version"]


def entry_module(entry: EntryPoint) -> str:
    """The module that an entry point names, whether or not there can be one of that name."""
    return re.split(r"[:\[]", entry.value)[0].strip()


def load_entry(entry: EntryPoint) -> object:
    """
    What an entry point stands for, imported.

    :raises ValueError: when it cannot be imported for the way it is written: builders let it pass.
    """
    if not all(part.isidentifier() for part in entry_module(entry).split(".")):
        raise ValueError(f"its entry point {entry.value!r} names no module such as acme.plugin")
    return entry.load()


def _look_in(folder: Path) -> None:
    """Let modules be imported from a folder too; at the end, it hides nothing that is installed."""
    if (name := str(folder.resolve())) not in sys.path:
        sys.path.append(name)


def package_of(module: str) -> str:
    """What a module is imported as: its first package, or the stem of a ``.py`` file."""
    return Path(module).stem if module.endswith(".py") else module.partition(".")[0]


def load_module(module: str) -> ModuleType:
    """
    Import a module by name, also from the current folder, or a ``.py`` file by path.

    What lies beside it can be imported from then on, as for a script that Python is given.

    :raises FileNotFoundError: when the file does not exist.
    """
    if not module.endswith(".py"):
        if find_spec(package_of(module)) is None:
            _look_in(Path())
        return import_module(module)
    path = Path(module)
    if path.is_file():
        _look_in(path.parent)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None, "the suffix .py always has a loader"
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    # Nobody else can import the file, so a saved model has to carry its classes.
    import_module("cloudpickle").register_pickle_by_value(loaded)
    return loaded
