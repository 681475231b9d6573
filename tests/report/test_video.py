"""Films and where they can be made."""

import os

import imageio.v3 as iio
import numpy as np
import pytest

from pyrl_sb3.report.video import prepare_offscreen, write_gif

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
