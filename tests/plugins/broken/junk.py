"""Gives something that is no component."""

from pyrl_sb3.plugins import NoiseSpec, hookimpl


@hookimpl
def pyrl_noise_processes():
    return [{"name": "junk"}, NoiseSpec(name="kept", target="pyrl_sb3.noise.action:gaussian")]
