"""Films of an agent at work."""

import ctypes.util
import math
import os
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, redirect_stderr
from dataclasses import replace
from importlib import import_module
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from pyrl_sb3.errors import short
from pyrl_sb3.training.environments import UndrawnError
from pyrl_sb3.training.errors import first_line, require_package
from pyrl_sb3.training.evaluation import EachStep
from pyrl_sb3.training.folders import require_writable, write_whole
from pyrl_sb3.training.trial import TrialRequest, open_trial

Frame = npt.NDArray[np.uint8]  # (height, width, 3), or 4 with an alpha channel

_SLOWEST, _QUICKEST = 0.01, 10_000  # frames a second, that every kind of film can be written with


class NoPictureError(RuntimeError):
    """The machine cannot draw the environment."""

    def about(self, env_id: str) -> str:
        """Return what the message is the reason for."""
        return f"this machine cannot draw {env_id}"


class UnfitFilmError(NoPictureError):
    """The environment is drawn, and by its own fault not as a film."""

    def about(self, env_id: str) -> str:
        return f"{env_id} cannot be filmed"


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
    require_package("imageio")
    require_writable(path, option, f"film{kinds[0]}", kinds)
    if path.suffix == ".mp4":
        require_package("imageio_ffmpeg")


def film(
    model: BaseAlgorithm,
    env: VecEnv,
    path: Path,
    episodes: int,
    each_step: EachStep | None = None,
) -> None:
    """
    Film whole episodes of one environment, to play in real time.

    Args:
        model: whose deterministic policy acts.
        env: one environment, opened with `render_mode="rgb_array"`.
        path: a GIF or MP4.
        episodes: how many.
        each_step: called after every step.

    Raises:
        NoPictureError: no working GL.
        UnfitFilmError: an environment that does not draw itself as Gymnasium has it.
    """
    fps = _frames_per_second(env)
    mp4 = path.suffix == ".mp4"
    every = 1 if mp4 else _every(fps)
    write = write_mp4 if mp4 else write_gif
    with closing(_frames(model, env, episodes, every, each_step)) as frames:
        write(frames, path, fps / every)


def film_trial(
    request: TrialRequest, path: Path, episodes: int, each_step: EachStep | None = None
) -> None:
    """
    Film a saved model in the environment it was trained in.

    Args:
        request: which model, and where.
        path: a GIF or MP4.
        episodes: how many.
        each_step: called after every step.

    Raises:
        NoPictureError, UnfitFilmError: as `film`.
        InputError, ConfigError: as `open_trial`.
    """
    try:
        model, env = open_trial(replace(request, render_mode="rgb_array"))
    except UndrawnError as error:
        raise UnfitFilmError(str(error)) from error
    try:
        film(model, env, path, episodes, each_step)
    finally:
        env.close()


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """Takes the last picture of each episode: vectors of environments reset them in that step."""

    def __init__(self, env: gym.Env[Any, Any], whole: VecEnv) -> None:
        super().__init__(env)
        self._whole = whole  # with what its wrappers make of pictures
        self._ending: Frame | None = None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, once the picture is taken."""
        self._ending = _frame(self._whole)
        return super().reset(**options)

    def take_ending(self) -> Frame | None:
        """Return the last picture of the episode that the last step ended, if it did."""
        ending, self._ending = self._ending, None
        return ending


def _frames(
    model: BaseAlgorithm, env: VecEnv, episodes: int, every: int, each_step: EachStep | None
) -> Generator[Frame, None, None]:
    """Yield how each episode begins, one frame of `every` after that, and how it ends."""
    observation: Any = env.reset()
    # Gymnasium's half-made viewer prints a traceback when it is thrown away with the exception.
    with redirect_stderr(StringIO()):
        first = _frame(env)
    yield first
    vector = env.unwrapped
    assert isinstance(vector, DummyVecEnv)
    opened = vector.envs[0]
    vector.envs[0] = filmed = _Filmed(opened, env)
    try:
        steps = ended = 0
        while ended < episodes:
            actions, _ = model.predict(observation, deterministic=True)
            observation, _, dones, _ = env.step(actions)
            if each_step:
                each_step(ended)
            steps = 0 if dones[0] else steps + 1
            ended += int(dones[0])
            ending = filmed.take_ending()
            if ending is not None:
                yield _alike(ending, first)
            if ended < episodes and steps % every == 0:
                yield _alike(_frame(env), first)
    finally:
        vector.envs[0] = opened


def _alike(frame: Frame, first: Frame) -> Frame:
    if frame.shape != first.shape:
        raise UnfitFilmError(f"its frames change from {first.shape} to {frame.shape}")
    return frame


def _frame(env: VecEnv) -> Frame:
    try:
        frame: Any = env.get_images()[0]  # `env.render()` fails to tile what is no picture
    except Exception as error:  # every drawing library fails in its own way
        problem = first_line(error)
    else:
        if unfit := _unfit(frame):
            raise UnfitFilmError(unfit)
        return frame
    raise NoPictureError(problem)  # without the error, which may hold a viewer


def _unfit(frame: Any) -> str | None:
    """What keeps a frame from being one of a film."""
    if frame is None:
        return "the environment does not draw itself"
    wanted = "(height, width, 3)"
    if not isinstance(frame, np.ndarray):
        return f"its frames are of type {type(frame).__name__}, not arrays of {wanted}"
    in_colour = frame.ndim == 3 and frame.shape[2] in (3, 4)
    if frame.dtype != np.uint8 or not in_colour or not frame.size:
        return f"its frames are {frame.dtype} of {frame.shape}, not uint8 of {wanted}"
    return None


def _frames_per_second(env: VecEnv) -> float:
    metadata = env.get_attr("metadata")[0]
    if not isinstance(metadata, Mapping):
        raise UnfitFilmError(f"its metadata is of type {type(metadata).__name__}, not a dict")
    given = metadata.get("render_fps")
    try:
        fps = float(given or 30)
    except (TypeError, ValueError, OverflowError):
        fps = math.nan
    if not _SLOWEST <= fps <= _QUICKEST:
        wanted = f"no number of frames a second from {_SLOWEST} to {_QUICKEST}"
        raise UnfitFilmError(f"its metadata has render_fps={short(given)}, {wanted}")
    return fps


def _every(fps: float) -> int:
    """Return how many frames one stands for in a GIF."""
    # Players take less than 20 ms a frame for nonsense and play at 100 ms: leave frames out.
    return max(1, round(fps / 25))


def write_gif(frames: Iterable[Frame], path: Path, fps: float) -> None:
    """Write frames into a GIF that repeats for ever."""
    image = import_module("PIL.Image")  # comes with imageio, which would keep all frames
    every = _every(fps)
    pictures = map(image.fromarray, islice(frames, 0, None, every))
    first = next(pictures)
    film = {"save_all": True, "append_images": pictures, "duration": 1000 * every / fps, "loop": 0}

    def write(part: Path) -> None:
        # Where Ctrl-C stops the frames, Pillow leaves files open that it has opened itself.
        with part.open("wb") as file:
            first.save(file, format="GIF", **film)

    write_whole(path, write)


def write_mp4(frames: Iterable[Frame], path: Path, fps: float) -> None:
    """Write frames into an MP4 that any player takes: H.264, an even number of rows and columns."""
    imageio = import_module("imageio.v2")  # v3 takes all frames at once
    frames = iter(frames)
    first = next(frames)
    rows, columns = first.shape[:2]
    height, width = rows // 2 * 2, columns // 2 * 2
    if not height or not width:
        raise UnfitFilmError(
            f"its frames are {columns}x{rows}, too small for an MP4; name a film that ends in .gif"
        )
    options = {"fps": fps, "codec": "libx264", "macro_block_size": 2}

    def write(part: Path) -> None:
        # By itself, the writer leaves ffmpeg alone with the file where a frame fails.
        with closing(imageio.get_writer(part, format="FFMPEG", **options)) as writer:
            for frame in chain([first], frames):
                writer.append_data(frame[:height, :width])

    write_whole(path, write)
