"""Runs whose plugins are gone: what to install before they can be tested or go on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.plugins import UnknownComponentError
from pyrl_sb3.training.errors import InputError


@contextmanager
def naming_packages(run: Path | None) -> Iterator[None]:
    """Have errors about what is unknown say what to install, if a run was made with it."""
    try:
        yield
    except (InputError, ConfigError, UnknownComponentError) as error:
        check_installed(error, [run] if run else [])
        raise


def check_installed(error: Exception, runs: Iterable[Path]) -> None:
    """
    Look whether an error names a component that is not installed any more.

    Args:
        error: of a command.
        runs: folders of runs, of several seeds, or of many of these, or models in them.

    Raises:
        MissingPluginError: naming the package and version that the first such run was made with.
    """
    from pyrl_sb3.plugins import saved  # where all is well, nobody needs it

    message = str(error).lower()
    for run, record in _components(runs):
        name = str(record.get("name") or record["target"]).rpartition("/")[2]
        if name.lower() in message:
            saved.check_registered(run, record)


def _components(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, str | None]]]:
    """Yield the folders of runs and groups, with each component that they were made with."""
    from pyrl_sb3.plugins.records import is_record
    from pyrl_sb3.training.facts import FACTS, read_facts
    from pyrl_sb3.training.folders import SEEDS
    from pyrl_sb3.training.seeds import read_group

    for path in paths:
        for file in _within(path, (FACTS, SEEDS)):
            read = read_facts if file.name == FACTS else read_group
            with suppress(InputError):  # what is damaged tells nothing
                for record in read(file.parent).components:
                    if is_record(record):
                        yield file.parent, record


def _within(path: Path, names: Sequence[str]) -> Sequence[Path]:
    """Return the files of these names in a folder, or beside a file, and two levels down."""
    with suppress(OSError, ValueError):  # it may be any word, which no path can be
        folder = path.parent if path.is_file() else path
        return [
            file
            for level in ("", "*/", "*/*/")
            for file in sorted(each for name in names for each in folder.glob(level + name))
        ]
    return ()
