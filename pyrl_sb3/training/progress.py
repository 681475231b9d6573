"""How the training is going: a live bar in a terminal, plain lines in a pipe."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import safe_mean

from pyrl_sb3.training.evaluation import EachStep
from pyrl_sb3.training.signals import ending_in_order

PROGRESS_FILE = "status.json"

_LINES = 20
_SECONDS = 1.0


def _latest_episodes(
    model: BaseAlgorithm, ended: Sequence[dict[str, Any]] = ()
) -> tuple[float | None, float | None]:
    """
    Mean return and success rate of the latest training episodes; None before there are any.

    SB3 takes note of an episode after the callbacks of its last step: `ended` are infos of such.
    """
    episodes = [*(model.ep_info_buffer or ()), *(info["episode"] for info in ended)]
    reached = [info["is_success"] for info in ended if info.get("is_success") is not None]
    successes = [*(model.ep_success_buffer or ()), *reached]
    return (
        float(safe_mean([episode["r"] for episode in episodes])) if episodes else None,
        float(safe_mean(successes)) if successes else None,
    )


def _bar(console: Console, *columns: TextColumn | BarColumn, transient: bool = False) -> Progress:
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
        transient=transient,
        disable=not console.is_interactive,
    )


class ProgressReport(BaseCallback):
    """
    Shows steps, speed, and the mean return and success rate of the latest training episodes.

    Where the console is a terminal it is a bar, redrawn a few times a second; elsewhere 20 lines
    over the whole run.
    """

    keeps_state = False  # it shows what the model knows

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        steps, latest = "{task.completed}/{task.total} steps", "{task.fields[latest]}"
        self.bar = _bar(console, TextColumn(steps), BarColumn(), TextColumn(latest))

    def _on_training_start(self) -> None:
        self.total = self.model._total_timesteps
        self.lines = self.num_timesteps * _LINES // self.total
        self.bar.start()
        self.task = self.bar.add_task("", total=self.total, latest="")

    def _on_step(self) -> bool:
        done = min(self.num_timesteps, self.total)
        if not self.bar.disable:
            self.bar.update(self.task, completed=done, latest=self._latest())
        elif done * _LINES // self.total > self.lines:
            self.lines = done * _LINES // self.total
            self.console.print(f"{done}/{self.total} steps  {self._latest()}", highlight=False)
        return True

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, with its cursor; also where the training has failed."""
        if self.bar.live.is_started:
            self.bar.stop()

    def _latest(self) -> str:
        infos = self.locals.get("infos", ())  # which algorithms of plugins may not tell
        ended = [info for info in infos if info.get("episode") is not None]
        latest, success = _latest_episodes(self.model, ended)
        if latest is None:
            return "no episode finished yet"
        text = f"return {latest:.2f}"
        return text if success is None else f"{text}  success {success:.2f}"


@contextmanager
def episodes_bar(console: Console, episodes: int) -> Iterator[EachStep]:
    """Show in a terminal how many of the episodes have ended, while entered; elsewhere nothing."""
    text = "{task.completed}/{task.total} episodes, {task.fields[steps]} steps"
    bar = _bar(console, TextColumn(text), BarColumn(), transient=True)
    # Without one, older versions of rich would end it with an empty line.
    shown = nullcontext() if bar.disable else bar
    with ending_in_order(), shown:  # which gives the cursor back
        task, steps = bar.add_task("", total=episodes, steps=0), count(1)
        yield lambda ended: bar.update(task, completed=ended, steps=next(steps))


class ProgressFile(BaseCallback):
    """
    Writes how far a run is into a file, once a second, for those who watch several.

    The file is JSON: `timesteps`, `total`, `speed` in environment steps per second since this
    process began, `return` and `success` of the latest training episodes, null before there are
    any.
    """

    keeps_state = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_training_start(self) -> None:
        self.started, self.first = time.monotonic(), self.num_timesteps
        self._write()

    def _on_step(self) -> bool:
        if time.monotonic() - self.written >= _SECONDS:
            self._write()
        return True

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        latest, success = _latest_episodes(self.model)
        seconds = max(self.written - self.started, 1e-9)
        status = {
            "timesteps": self.num_timesteps,
            "total": self.model._total_timesteps,
            "speed": (self.num_timesteps - self.first) / seconds,
            "return": latest,
            "success": success,
        }
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(status), encoding="utf-8")
        part.replace(self.path)
