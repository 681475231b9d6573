"""What the seeds of a group have had of their steps, and which are to go on."""

from contextlib import suppress
from pathlib import Path

from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import FACTS, read_facts
from pyrl_sb3.training.folders import BEST_MODEL, CHECKPOINTS, MODEL
from pyrl_sb3.training.loading import saved_timesteps
from pyrl_sb3.training.logs import last_evaluated
from pyrl_sb3.training.seeds import SeedGroup


def is_finished(run: Path, timesteps: int | None = None) -> bool:
    """
    Whether a run has had all of its steps, or was ended by its own callback, and has been saved.

    Args:
        run: its folder, which need not be there.
        timesteps: that it is to have; by default those it was to have when it last began.
    """
    saved = saved_timesteps(run / MODEL)
    if saved is None or not (run / FACTS).is_file():
        return False
    # Without a checkpoint, because of --save-freq 0, nobody stopped it.
    done = min(saved, last_checkpoint(run) or saved)
    if timesteps is None:
        timesteps = read_facts(run).timesteps
    if done >= timesteps:
        return True
    with suppress(InputError):  # damaged facts are named when the run goes on
        return read_facts(run).why_finished(done, timesteps) is not None
    return False


def total_of(group: SeedGroup, seed: int, done: int) -> int | None:
    """
    Return the steps that a seed is to have in all, of which it has had `done`.

    The group says so, which an extension that was interrupted may have told it only; where a run
    was made longer alone, that run does.
    """
    wanted = group.request.timesteps
    return wanted if wanted is None or done <= wanted else read_facts(group.run(seed)).timesteps


def has_all_steps(group: SeedGroup, seed: int, timesteps: int | None = None) -> bool:
    """Whether a seed is finished; `timesteps` that it is to have, by default as `total_of`."""
    run = group.run(seed)
    return is_finished(run, timesteps or total_of(group, seed, last_checkpoint(run)))


def unfinished(group: SeedGroup, timesteps: int | None = None) -> list[int]:
    """
    Return the seeds that lack steps, of `timesteps` as in `has_all_steps`, or the last evaluation.

    Raises:
        InputError: one is to have more steps, and has kept no checkpoint to go on from.
    """
    left = [seed for seed in group.seeds if not has_all_steps(group, seed, timesteps)]
    for run in map(group.run, left):
        if not has_checkpoint(run) and is_finished(run):
            raise InputError(
                f"--timesteps {timesteps or group.request.timesteps}: {run} is finished and has "
                "kept no checkpoint to go on from, because of --save-freq 0"
            )
    return [seed for seed in group.seeds if seed in left or _lacks_evaluation(group, seed)]


def refuse_fewer(group: SeedGroup, timesteps: int | None) -> None:
    """
    Check that each seed can have so many steps in all, if a number was given.

    Raises:
        InputError: all that have begun have had more steps, and were to.
    """
    had = {seed: done for seed in group.seeds if (done := _steps_had(group.run(seed)))}
    least = min(had, key=had.__getitem__, default=None)
    if timesteps is None or least is None or timesteps >= had[least]:
        return
    # A run ends where environments or rollouts do: at 501 steps of 500 it has what was asked for.
    if all(timesteps < read_facts(group.run(seed)).timesteps for seed in had):
        raise InputError(
            f"--timesteps {timesteps}: {group.run(least)} has had {had[least]} steps already"
        )


def _steps_had(run: Path) -> int:
    return last_checkpoint(run) or saved_timesteps(run / MODEL) or 0


def may_be_emptied(group: SeedGroup, seed: int) -> bool:
    """Whether a seed without a checkpoint can begin again and nothing of use is lost by that."""
    run = group.run(seed)
    # Where there are no checkpoints, a killed seed's best model is all that is left of it; of
    # copies that are synchronised, one that is lost makes all begin again.
    best = group.request.save_freq == 0 and group.sync is None and (run / BEST_MODEL).exists()
    real = run.is_dir() and not run.is_symlink()
    return not run.exists() or (real and not best and not (run / MODEL).exists())


def _lacks_evaluation(group: SeedGroup, seed: int) -> bool:
    run = group.run(seed)
    # Copies that are synchronised go on together or not at all: without a checkpoint, not.
    can_go_on = group.sync is None or has_checkpoint(run)
    return can_go_on and last_evaluated(run) < (saved_timesteps(run / MODEL) or 0)


def last_checkpoint(run: Path) -> int:
    """Return the steps of a run's last checkpoint, 0 without one."""
    return max(CheckpointFolder(run / CHECKPOINTS).by_steps(), default=0)


def has_checkpoint(run: Path) -> bool:
    """Whether a run can go on; otherwise it has to begin again."""
    return last_checkpoint(run) > 0
