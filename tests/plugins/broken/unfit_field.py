"""Has a field that a table cannot show."""

from pyrl_sb3.plugins import NoiseSpec, hookimpl


@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="bad", target="pyrl_sb3.noise.action:gaussian", summary=None)
