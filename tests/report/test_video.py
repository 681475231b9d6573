"""Films and where they can be made."""

import gc
import io
import os
import sys
import weakref
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from pyrl_sb3.report.video import (
    NoPictureError,
    check_film,
    film,
    prepare_offscreen,
    write_gif,
    write_mp4,
)
from pyrl_sb3.training.errors import InputError

FFMPEG = (
    pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="needs imageio-ffmpeg"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # imageio's pipes to it
)
KINDS = [".gif", pytest.param(".mp4", marks=FFMPEG)]
BACKENDS = [({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa"), (set(), None)]


def needs_ffmpeg(test):
    for mark in FFMPEG:
        test = mark(test)
    return test


@pytest.mark.skipif(os.name == "nt", reason="Windows always has a display")
@pytest.mark.parametrize(("libraries", "backend"), BACKENDS)
def test_a_library_is_named_only_when_it_is_there(monkeypatch, libraries, backend):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(
        "ctypes.util.find_library", lambda name: name if name in libraries else None
    )
    prepare_offscreen()
    assert os.environ.get("MUJOCO_GL") == backend
    monkeypatch.delenv("MUJOCO_GL", raising=False)


@pytest.mark.parametrize("name", ["DISPLAY", "MUJOCO_GL"])
def test_the_users_setting_stays(monkeypatch, name):
    for other in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "mine")
    before = dict(os.environ)
    prepare_offscreen()
    assert dict(os.environ) == before


@pytest.mark.parametrize(("fps", "frames", "duration"), [(25, 60, 40), (50, 30, 40), (10, 60, 100)])
def test_films_play_in_real_time(tmp_path, fps, frames, duration):
    pictures = [np.full((8, 8, 3), 4 * i, dtype=np.uint8) for i in range(60)]
    write_gif(pictures, tmp_path / "a.gif", fps)
    assert iio.improps(tmp_path / "a.gif", index=None).n_images == frames
    assert iio.immeta(tmp_path / "a.gif")["duration"] == duration


def test_an_mp4_needs_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    check_film(tmp_path / "a.gif", "--out", kinds=(".gif", ".mp4"))
    with pytest.raises(InputError, match=r"imageio_ffmpeg is not installed.*pyrl-sb3\[report\]"):
        check_film(tmp_path / "a.mp4", "--out", kinds=(".gif", ".mp4"))


@needs_ffmpeg
def test_an_mp4_is_the_film(tmp_path):
    """Of an odd size, with a bright half that moves from left to right."""
    pictures = [np.zeros((65, 97, 3), dtype=np.uint8) for _ in range(20)]
    for picture in pictures[:10]:
        picture[:, :48] = 255
    for picture in pictures[10:]:
        picture[:, 48:] = 255
    write_mp4(pictures, tmp_path / "a.mp4", 10)
    film = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert film.shape == (20, 64, 96, 3)
    assert film[4, :, :40].mean() > 240 > 10 > film[4, :, 56:].mean()
    assert film[15, :, 56:].mean() > 240 > 10 > film[15, :, :40].mean()
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 10
    gc.collect()  # while that is ignored


def one_at_a_time(count, most=3):
    """Frames; no more than so many are there at any time."""
    there = []
    for i in range(count):
        picture = np.full((16, 32, 3), 4 * i, dtype=np.uint8)
        there.append(weakref.ref(picture))
        assert sum(each() is not None for each in there) <= most
        yield picture
        del picture


def test_a_gif_is_written_frame_by_frame_and_is_what_it_was(tmp_path):
    write_gif(one_at_a_time(60), tmp_path / "a.gif", 50)
    whole = list(one_at_a_time(60, most=60))
    iio.imwrite(tmp_path / "b.gif", whole[::2], duration=40, loop=0)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@needs_ffmpeg
def test_an_mp4_is_written_frame_by_frame(tmp_path):
    write_mp4(one_at_a_time(60), tmp_path / "a.mp4", 50)
    film = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert film.shape == (60, 16, 32, 3)
    assert film.mean(axis=(1, 2, 3)) == pytest.approx(4 * np.arange(60), abs=3)
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 50
    gc.collect()


class Drawn(gym.Env):
    """Episodes of six steps, drawn by a function of the step."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    render_mode = "rgb_array"

    def __init__(self, draw, fps):
        self.draw, self.metadata = draw, {"render_modes": ["rgb_array"], "render_fps": fps}

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at += 1
        return np.zeros(1, np.float32), 0.0, self.at == 6, False, {}

    def render(self):
        return self.draw(self.at)


class Still:
    """A model that does nothing."""

    def predict(self, observation, deterministic):
        assert deterministic
        return np.zeros((1, 1), np.float32), None


def picture(step, shape=(20, 30, 3), dtype=np.uint8):
    return np.full(shape, 20 * step, dtype)


def film_of(path, draw=picture, fps=30):
    film(Still(), DummyVecEnv([lambda: Drawn(draw, fps)]), path, 1)


def shown(path):
    """The steps whose pictures a film has."""
    options = {"plugin": "FFMPEG"} if path.suffix == ".mp4" else {}
    frames = iio.imread(path, **options)
    gc.collect()
    return np.rint(frames.mean(axis=(1, 2, 3)) / 20).astype(int).tolist()


def opened(*wrappers, fps=10, draw=picture):
    """The environment in wrappers of its own, and of vectors of it."""
    of_vectors = [each for each in wrappers if each in VECTORS.values()]
    env = Drawn(draw, fps)
    for wrap in wrappers:
        env = env if wrap in of_vectors else wrap(env)
    env = DummyVecEnv([lambda: env])
    for wrap in of_vectors:
        env = wrap(env)
    return env


def stacked(env):
    return VecFrameStack(env, 3)


def normalized(env):
    return VecNormalize(env, training=False)


def cut(env):
    return TimeLimit(env, 4)


VECTORS = {"stacked": stacked, "normalized": normalized}
WRAPPERS = {
    "none": [],
    "a limit": [cut],
    **{name: [wrap] for name, wrap in VECTORS.items()},
    "all": [cut, *VECTORS.values()],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrappers", WRAPPERS.values(), ids=WRAPPERS)
def test_episodes_are_shown_to_their_ends_and_no_other_is(tmp_path, wrappers, kind):
    path = tmp_path / f"a{kind}"
    film(Still(), opened(*wrappers), path, 3)
    length = 4 if cut in wrappers else 6
    assert shown(path) == 3 * [*range(length + 1)]


@pytest.mark.parametrize(
    ("fps", "steps"), [(50, [0, 2, 4, 6]), (100, [0, 4, 6]), (125, [0, 5, 6]), (250, [0, 6])]
)
def test_ends_are_among_the_frames_of_a_quick_gif(tmp_path, fps, steps):
    film(Still(), opened(fps=fps), tmp_path / "a.gif", 2)
    assert shown(tmp_path / "a.gif") == 2 * steps
    assert iio.immeta(tmp_path / "a.gif")["duration"] == 40


def test_few_frames_of_a_film_are_there_at_a_time(tmp_path):
    there, most = [], []

    def draw(step):
        frame = picture(step)
        there.append(weakref.ref(frame))
        most.append(sum(each() is not None for each in there))
        return frame

    film(Still(), opened(draw=draw), tmp_path / "a.gif", 20)
    assert max(most) <= 4


class Chance(Drawn):
    """Episodes of random length and observations; `seen` is what happened."""

    def __init__(self):
        super().__init__(lambda step: picture(step % 12), 50)
        self.seen = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        gym.Env.reset(self, seed=seed)
        self.seen.append("reset")
        return self.observed(), {}

    def step(self, action):
        _, reward, _, _, info = super().step(action)
        return self.observed(), reward, bool(self.np_random.random() < 0.2), False, info

    def observed(self):
        self.seen.append(self.np_random.random())
        return np.array(self.seen[-1:], np.float32)


def test_a_filmed_environment_does_what_others_do_and_stays_as_it_was(tmp_path):
    ends = []
    filmed, other = Chance(), Chance()
    for env in (DummyVecEnv([lambda: filmed]), DummyVecEnv([lambda: other])):
        env.seed(3)
        if env.envs[0] is filmed:
            film(Still(), env, tmp_path / "a.gif", 4)
            assert env.envs[0] is filmed
        else:
            env.reset()
            while len(ends) < 4:
                ends += [1] * int(env.step(np.zeros((1, 1)))[2][0])
    assert filmed.seen == other.seen


def test_an_environment_that_could_not_be_filmed_stays_as_it_was(tmp_path):
    env = opened(draw=fails)
    before = env.envs[0]
    with pytest.raises(NoPictureError):
        film(Still(), env, tmp_path / "a.gif", 1)
    assert env.envs[0] is before


@pytest.mark.parametrize("fps", [20, None, "20", np.int64(20), 0])
def test_frames_per_second_of_any_kind(tmp_path, fps):
    film_of(tmp_path / "a.gif", fps=fps)
    assert iio.immeta(tmp_path / "a.gif")["duration"] == (50 if fps else 30)


@needs_ffmpeg
def test_frames_per_second_of_any_kind_in_an_mp4(tmp_path):
    film_of(tmp_path / "a.mp4", fps=np.int64(20))
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 20
    gc.collect()


def fails(step):
    if step > 3:
        raise RuntimeError("the context\nis lost")
    return picture(step)


UNFIT = {
    "nothing": (lambda step: None, "the environment does not draw itself"),
    "nothing later": (
        lambda step: None if step > 3 else picture(step),
        "the environment does not draw itself",
    ),
    "fails later": (fails, "the context"),
    "fails at the end": (
        lambda step: fails(step) if step == 6 else picture(step),
        "the context",
    ),
    "grows": (
        lambda step: picture(step, (20, 30 + step, 3)),
        "its frames change from (20, 30, 3) to (20, 31, 3)",
    ),
    "grows at the end": (
        lambda step: picture(step, (20, 36 if step == 6 else 30, 3)),
        "its frames change from (20, 30, 3) to (20, 36, 3)",
    ),
    "floats": (
        lambda step: picture(step, dtype=np.float32),
        "its frames are float32 of (20, 30, 3), not uint8 of (height, width, 3)",
    ),
    "channels first": (
        lambda step: picture(step, (3, 20, 30)),
        "its frames are uint8 of (3, 20, 30), not uint8 of (height, width, 3)",
    ),
    "grey": (
        lambda step: picture(step, (20, 30)),
        "its frames are uint8 of (20, 30), not uint8 of (height, width, 3)",
    ),
    "empty": (
        lambda step: picture(step, (0, 0, 3)),
        "its frames are uint8 of (0, 0, 3), not uint8 of (height, width, 3)",
    ),
    "a list": (
        lambda step: [picture(step)],
        "its frames are of type list, not arrays of (height, width, 3)",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("draw", "reason"), UNFIT.values(), ids=UNFIT)
def test_what_is_no_picture_is_said_in_one_line(tmp_path, draw, reason, kind):
    with pytest.raises(NoPictureError) as raised:
        film_of(tmp_path / f"a{kind}", draw)
    assert str(raised.value) == reason
    del raised
    gc.collect()  # if ffmpeg were still there it would end now, and leave its file
    assert not list(tmp_path.iterdir())


NO_FPS = [-5, "fast", float("nan"), float("inf"), [30], 1e-4, 1e300, 10**400]


@pytest.mark.parametrize("fps", NO_FPS, ids=lambda fps: str(fps)[:8])
def test_what_is_no_number_of_frames_is_said_in_one_line(tmp_path, fps):
    with pytest.raises(NoPictureError, match=r"its metadata has render_fps="):
        film_of(tmp_path / "a.gif", fps=fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metadata", [None, ["rgb_array"]])
def test_metadata_that_is_no_dict_is_said_in_one_line(tmp_path, metadata):
    env = Drawn(picture, 30)
    env.metadata = metadata
    with pytest.raises(NoPictureError, match=r"its metadata is of type \w+, not a dict"):
        film(Still(), DummyVecEnv([lambda: env]), tmp_path / "a.gif", 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fps", [0.01, 10_000])
def test_the_slowest_and_the_quickest_film(tmp_path, fps, kind):
    film_of(tmp_path / f"a{kind}", fps=fps)
    assert (tmp_path / f"a{kind}").stat().st_size
    gc.collect()


def test_only_of_what_is_not_drawn_the_machine_is_to_blame(tmp_path):
    said = {}
    for name in ("fails later", "grows", "nothing"):
        with pytest.raises(NoPictureError) as raised:
            film_of(tmp_path / "a.gif", UNFIT[name][0])
        said[name] = raised.value.about("Drawn-v0")
    assert said == {
        "fails later": "this machine cannot draw Drawn-v0",
        "grows": "Drawn-v0 cannot be filmed",
        "nothing": "Drawn-v0 cannot be filmed",
    }


def interrupted(step):
    if step > 3:
        raise KeyboardInterrupt
    return picture(step)


def test_the_file_of_an_interrupted_gif_is_closed_before_it_is_deleted(tmp_path, monkeypatch):
    """Windows deletes no open files."""
    still_open = []

    def unlink(path, missing_ok):
        kinds = (io.BufferedRandom, io.BufferedWriter)
        files = [each for each in gc.get_objects() if type(each) in kinds and not each.closed]
        still_open.extend(each.name for each in files if str(each.name) == str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        film_of(tmp_path / "a.gif", interrupted)
    assert list(tmp_path.iterdir())  # so it was begun
    assert not still_open


@needs_ffmpeg
def test_frames_too_small_for_an_mp4(tmp_path):
    with pytest.raises(NoPictureError, match=r"its frames are 9x1, too small for an MP4; .* \.gif"):
        film_of(tmp_path / "a.mp4", lambda step: picture(step, (1, 9, 3)))
    film_of(tmp_path / "a.gif", lambda step: picture(step, (1, 9, 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
