"""Its hook has no such name."""

from pyrl_sb3.plugins import NoiseSpec, hookimpl


@hookimpl
def pyrl_noise_process():
    return [NoiseSpec(name="lost", target="m:A")]
