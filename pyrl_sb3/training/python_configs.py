"""Configs in Python that runs were begun with: found again, and the modules beside them."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pyrl_sb3.config.scripts import find_modules_in, is_script


def digest_of(config: Path) -> str:
    """Return the checksum by which a config is known again."""
    return sha256(config.read_bytes()).hexdigest()


def found_again(given: Path, digest: str) -> Path | None:
    """Return where a config is by now as it was; None where it is nowhere."""
    return next((each for each in _places(given) if digest_of(each) == digest), None)


def find_modules_beside(given: Path | None) -> None:
    """Have what lies beside the config of a trusted run found: its classes may be of there."""
    if given is not None and is_script(given):
        config = next(_places(given), given)
        find_modules_in(config.parent)


def _places(given: Path) -> Iterator[Path]:
    """Where it was and, since a project may have been moved, in whose folder commands are called,
    here; those that are there.
    """
    return filter(Path.is_file, (given, Path(given.name).absolute()))
