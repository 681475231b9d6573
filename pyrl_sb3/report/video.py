"""Films of an agent at work."""

import ctypes.util
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.training.errors import InputError, first_line, require_package
from pyrl_sb3.training.folders import write_whole
from pyrl_sb3.training.trial import TrialRequest, open_trial

Frame = npt.NDArray[np.uint8]  # (height, width, 3)


class NoPictureError(RuntimeError):
    """The machine cannot draw the environment."""


def has_display() -> bool:
    """Tell whether windows can be opened."""
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def prepare_offscreen() -> None:
    """Let MuJoCo draw without a display; to be called before mujoco is imported."""
    if has_display() or "MUJOCO_GL" in os.environ:
        return
    # Naming a library that is not there would break mujoco's import.
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = backend
            return


def check_film(path: Path, option: str = "--gif", kinds: Sequence[str] = (".gif",)) -> None:
    """Raise InputError, naming the option, if no film of these kinds could be written to `path`."""
    require_package("imageio", "report")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file, such as film{kinds[0]}")
    if path.suffix not in kinds:
        likely = path.with_suffix(kinds[0])
        raise InputError(f"{option} {path}: must end in {' or '.join(kinds)}, such as {likely}")
    if path.suffix == ".mp4":
        require_package("imageio_ffmpeg", "report")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{option} {path}: cannot write to {path.parent}")


def film(model: BaseAlgorithm, env: VecEnv, path: Path, episodes: int) -> None:
    """
    Film whole episodes of one environment, to play in real time.

    Args:
        model: whose deterministic policy acts.
        env: one environment, opened with `render_mode="rgb_array"`.
        path: a GIF or MP4.
        episodes: how many.

    Raises:
        NoPictureError: no working GL, or an environment that does not draw itself.
    """
    observation: Any = env.reset()
    frames = [_first_frame(env)]
    while episodes:
        actions, _ = model.predict(observation, deterministic=True)
        observation, _, dones, _ = env.step(actions)
        episodes -= int(dones[0])
        frames.append(_checked(env.render()))
    write = write_mp4 if path.suffix == ".mp4" else write_gif
    write(frames, path, env.get_attr("metadata")[0].get("render_fps", 30))


def film_trial(request: TrialRequest, path: Path, episodes: int) -> None:
    """
    Film a saved model in the environment it was trained in.

    Args:
        request: which model, and where.
        path: a GIF or MP4.
        episodes: how many.

    Raises:
        NoPictureError: as `film`.
        InputError, ConfigError: as `open_trial`.
    """
    model, env = open_trial(replace(request, render_mode="rgb_array"))
    try:
        film(model, env, path, episodes)
    finally:
        env.close()


def _first_frame(env: VecEnv) -> Frame:
    # Gymnasium's half-made viewer prints a traceback when it is thrown away with the exception.
    with redirect_stderr(StringIO()):
        try:
            return _checked(env.render())
        except Exception as error:  # every drawing library fails in its own way
            reason = first_line(error)
    raise NoPictureError(reason)


def _checked(frame: Frame | None) -> Frame:
    if frame is None:
        raise NoPictureError("the environment does not draw itself")
    return frame


def write_gif(frames: list[Frame], path: Path, fps: float) -> None:
    """Write frames into a GIF that repeats for ever."""
    imageio = import_module("imageio.v3")
    # Players take less than 20 ms a frame for nonsense and play at 100 ms: leave frames out.
    step = max(1, round(fps / 25))
    duration = 1000 * step / fps
    write_whole(path, lambda part: imageio.imwrite(part, frames[::step], duration=duration, loop=0))


def write_mp4(frames: list[Frame], path: Path, fps: float) -> None:
    """Write frames into an MP4 that any player takes: H.264, an even number of rows and columns."""
    imageio = import_module("imageio.v3")
    height, width = (length // 2 * 2 for length in frames[0].shape[:2])
    even = [frame[:height, :width] for frame in frames]
    options = {"fps": fps, "codec": "libx264", "macro_block_size": 2}
    write_whole(path, lambda part: imageio.imwrite(part, even, plugin="FFMPEG", **options))
