"""Its hook wants an argument."""

from pyrl_sb3.plugins import hookimpl


@hookimpl
def pyrl_noise_processes(register):
    register("brown")
