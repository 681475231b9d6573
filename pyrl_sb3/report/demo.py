"""The demonstration: a robot arm learns to reach, and is shown."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.report.curves import read_evaluations
from pyrl_sb3.report.video import NoPictureError, check_film, film_trial, prepare_offscreen
from pyrl_sb3.training.errors import require_package
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.folders import make_folder
from pyrl_sb3.training.request import TrainingRequest, TrainingResult
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out

log = logging.getLogger("pyrl_sb3")

AGENT, ENV_ID = "her-sac", "FetchReach-v4"
SOLVED = 0.95
TIMESTEPS = 1500
EPISODES, FILMED_EPISODES = 50, 6


@dataclass(frozen=True)
class DemoResult:
    """
    What the demonstration came to.

    Attributes:
        training: the run.
        evaluation: of the saved model over 50 episodes; None when the training was stopped.
    """

    training: TrainingResult
    evaluation: Evaluation | None


def run_demo(
    folder: Path,
    seed: int,
    threads: int | None = None,
    callbacks: Sequence[BaseCallback] = (),
) -> DemoResult:
    """
    Train HER + SAC on FetchReach, test the saved model, draw its learning curve, film it.

    The algorithm is SB3's own, with our policy and buffer in it.

    Writes `<folder>/FetchReach-v4_<n>/`, `<folder>/learning_curve.png` and `<folder>/agent.gif`.

    Args:
        folder: made where it is not there.
        seed: of everything random.
        threads: of PyTorch.
        callbacks: of the training.

    Raises:
        InputError: a package is not installed, or the folder cannot be written to.
    """
    prepare_offscreen()
    for package in ("matplotlib", "imageio"):
        require_package(package)
    make_folder(folder)
    check_film(folder / "agent.gif")
    request = TrainingRequest(
        agent=AGENT,
        env_id=ENV_ID,
        timesteps=TIMESTEPS,
        seed=seed,
        save=folder,
        threads=threads,
        eval_freq=TIMESTEPS // 12,
        stock=True,
    )
    start = time.perf_counter()
    training = train(request, callbacks)
    if training.stopped_by:
        return DemoResult(training, None)
    log.info("trained in %.0f s, evaluations included", time.perf_counter() - start)
    trial = TrialRequest(agent=AGENT, env_id=ENV_ID, path=training.model, episodes=EPISODES)
    evaluation = try_out(trial)
    log.info("the saved model over %s episodes: %s", EPISODES, evaluation)
    _draw(training.folder, folder / "learning_curve.png", seed)
    _film(training.model, folder / "agent.gif")
    return DemoResult(training, evaluation)


def _draw(run: Path, picture: Path, seed: int) -> None:
    from pyrl_sb3.report.plots import plot_curves  # matplotlib is optional

    title = f"HER + SAC on {ENV_ID}, seed {seed}"
    plot_curves([read_evaluations(run)], picture, title, SOLVED)
    log.info("learning curve: %s", picture)


def _film(model_file: Path, gif: Path) -> None:
    trial = TrialRequest(agent=AGENT, env_id=ENV_ID, path=model_file, seed=1)
    try:
        film_trial(trial, gif, FILMED_EPISODES)
        log.info("film of the agent: %s", gif)
    except NoPictureError as error:
        log.info("no film: this machine cannot draw without a display (%s)", error)
