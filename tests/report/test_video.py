"""Films and where they can be made."""

import gc
import os
import sys
from importlib.util import find_spec

import imageio.v3 as iio
import numpy as np
import pytest

from pyrl_sb3.report.video import check_film, prepare_offscreen, write_gif, write_mp4
from pyrl_sb3.training.errors import InputError

BACKENDS = [({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa"), (set(), None)]


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


@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="needs imageio-ffmpeg")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio's pipes to ffmpeg
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
