"""The demonstration: a robot arm learns to reach, and is shown."""

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pyrl_sb3.report.curves import read_evaluations
from pyrl_sb3.report.video import NoPictureError, check_film, film_trial, prepare_offscreen
from pyrl_sb3.training.errors import require_package
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.folders import make_folder
from pyrl_sb3.training.progress import ProgressReport, episodes_bar
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


def run_demo(folder: Path, seed: int, threads: int | None, console: Console) -> DemoResult:
    """
    Train HER + SAC on FetchReach, test the saved model, draw its learning curve, film it.

    The algorithm is SB3's own, with our policy and buffer in it.

    Writes `<folder>/FetchReach-v4_<n>/`, `<folder>/learning_curve.png` and `<folder>/agent.gif`.

    Args:
        folder: made where it is not there.
        seed: of everything random.
        threads: of PyTorch.
        console: where it is shown how far all is.

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
    with closing(ProgressReport(console)) as shown:
        training = train(request, [shown])
    if training.stopped_by:
        return DemoResult(training, None)
    log.info("trained in %.0f s, evaluations included", time.perf_counter() - start)
    trial = TrialRequest(agent=AGENT, env_id=ENV_ID, path=training.model, episodes=EPISODES)
    with episodes_bar(console, EPISODES) as watch:
        evaluation = try_out(trial, watch)
    log.info("the saved model over %s episodes: %s", EPISODES, evaluation)
    _draw(training.folder, folder / "learning_curve.png", seed)
    _film(training.model, folder / "agent.gif", console)
    return DemoResult(training, evaluation)


def _draw(run: Path, picture: Path, seed: int) -> None:
    from pyrl_sb3.report.plots import plot_curves  # matplotlib is optional

    title = f"HER + SAC on {ENV_ID}, seed {seed}"
    plot_curves([read_evaluations(run)], picture, title, SOLVED)
    log.info("learning curve: %s", picture)


def _film(model_file: Path, gif: Path, console: Console) -> None:
    trial = TrialRequest(agent=AGENT, env_id=ENV_ID, path=model_file, seed=1)
    try:
        with episodes_bar(console, FILMED_EPISODES) as watch:
            film_trial(trial, gif, FILMED_EPISODES, watch)
        log.info("film of the agent: %s", gif)
    except NoPictureError as error:
        log.info("no film: this machine cannot draw without a display (%s)", error)
