"""Raises only while its results are read."""

from pyrl_sb3.plugins import NoiseSpec, hookimpl


@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="early", target="pyrl_sb3.noise.action:gaussian")
    raise RuntimeError("too late")
