"""How several seeds are doing: a live table in a terminal, plain lines in a pipe."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pyrl_sb3.training.jobs import State, Task
from pyrl_sb3.training.progress import PROGRESS_FILE

_LINES = 10  # of each seed, where there is no terminal
_HEADINGS = ("state", "steps", "return", "success", "steps/s")
_IN_WORDS = ("{}", "{} steps", "return {}", "success {}", "{} steps/s")  # the same on a line
_STATUS = {
    "timesteps": int,
    "total": int,
    "speed": float,
    "return": float | None,
    "success": float | None,
}


@dataclass(frozen=True)
class Seed:
    """One row."""

    number: int
    run: Path
    task: Task | None  # None if it was finished before

    @property
    def state(self) -> State:
        """What it is at."""
        return self.task.state if self.task else State.FINISHED

    def progress(self) -> dict[str, Any]:
        """Return what its process has written last; nothing before it has, or if it is damaged."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads((self.run / PROGRESS_FILE).read_text(encoding="utf-8"))
            if isinstance(found, dict) and all(
                isinstance(found.get(name), kind) for name, kind in _STATUS.items()
            ):
                return found
        return {}


class SeedTable:
    """Shows steps, latest training return, success rate, speed and state of each seed."""

    def __init__(self, console: Console, seeds: Sequence[Seed]) -> None:
        self.console = console
        self.seeds = seeds
        self.shown: dict[int, tuple[State, int]] = {}
        self.live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=2)
            if console.is_interactive
            else None
        )

    def __enter__(self) -> "SeedTable":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self) -> None:
        """Print what is new, unless the table shows it anyway."""
        if self.live:
            return
        for seed in self.seeds:
            latest = seed.progress()
            part = latest.get("timesteps", 0) * _LINES // max(latest.get("total", 1), 1)
            now = (seed.state, part if seed.state is State.RUNNING else 0)
            if self.shown.get(seed.number) != now:
                self.shown[seed.number] = now
                if seed.state is not State.WAITING:
                    cells = zip(_IN_WORDS, _cells(seed), strict=True)
                    words = "  ".join(form.format(cell) for form, cell in cells if cell)
                    self.console.print(f"seed {seed.number}: {words}")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("seed", *_HEADINGS):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        for seed in self.seeds:
            table.add_row(str(seed.number), *_cells(seed))
        return table


def _cells(seed: Seed) -> list[str]:
    """What there is to say under each of the headings."""
    latest = seed.progress() if seed.state is not State.WAITING else {}
    state = seed.state.value
    if seed.state is State.FAILED and seed.task:
        state += f" (exit code {seed.task.code})"
    if not latest:
        return [state, "", "", "", ""]
    value, success = latest.get("return"), latest.get("success")
    return [
        state,
        f"{latest['timesteps']}/{latest['total']}",
        f"{value:.2f}" if value is not None else "",
        f"{success:.2f}" if success is not None else "",
        f"{latest['speed']:.0f}",
    ]
