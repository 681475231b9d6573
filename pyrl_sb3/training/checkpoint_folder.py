"""Where the checkpoints of a run are kept."""

import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pyrl_sb3.buffers.shards import sync_folder
from pyrl_sb3.training.folders import name_file

_NAME = re.compile(r"step_(\d+)")


class CheckpointFolder:
    """
    The checkpoints in a folder, each there whole or not at all.

    A checkpoint is written under another name and renamed when it is on the disk; one that is no
    longer kept is renamed before it is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def by_steps(self) -> dict[int, Path]:
        """Return the checkpoints, oldest first, by the environment steps they were taken at."""
        entries = self.path.iterdir() if self.path.is_dir() else []
        found = {entry: _NAME.fullmatch(entry.name) for entry in entries}
        return dict(sorted((int(match[1]), entry) for entry, match in found.items() if match))

    def latest(self) -> Path | None:
        """Return the last checkpoint."""
        return next(reversed(self.by_steps().values()), None)

    def add(self, timesteps: int, write: Callable[[Path, Path | None], None], keep: int) -> Path:
        """
        Add a checkpoint and drop the oldest.

        Args:
            timesteps: at which it is taken.
            write: fills the new folder, its first argument; the second is the last checkpoint.
            keep: how many remain.

        Raises:
            OSError: it could not be written; the earlier ones are untouched.
        """
        final = self.path / f"step_{timesteps}"
        if final.exists():
            return final  # the run has not moved since
        self.path.mkdir(parents=True, exist_ok=True)
        self._clean()
        part = self.path / f".{final.name}.part"
        try:
            part.mkdir()
            write(part, self.latest())
            sync_folder(part)
            part.rename(final)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            name_file(error, final, part)
            raise
        sync_folder(self.path)
        for old in list(self.by_steps().values())[:-keep]:
            shutil.rmtree(_hidden(old))
        return final

    def _clean(self) -> None:
        """Delete what killed processes left behind."""
        for entry in self.path.glob(".step_*"):
            shutil.rmtree(entry)


def _hidden(old: Path) -> Path:
    """A checkpoint under a name that none has, so that no part of it counts as one."""
    doomed = old.with_name(f".{old.name}.old")
    try:
        return old.rename(doomed)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return old  # of a lower layer of overlayfs, as in Docker's images: those cannot be renamed
