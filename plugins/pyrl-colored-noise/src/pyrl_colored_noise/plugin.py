"""What the plugin registers."""

from collections.abc import Iterable

from pyrl_sb3.plugins import NoiseSpec, hookimpl

PYRL_PLUGIN_API = 1


@hookimpl
def pyrl_noise_processes() -> Iterable[NoiseSpec]:
    """One process under four names."""
    target = "pyrl_colored_noise.noise:colored"
    yield NoiseSpec(
        name="colored", target=target, summary="noise with a power spectrum of 1/f**exponent"
    )
    for name, exponent in (("white", 0.0), ("pink", 1.0), ("red", 2.0)):
        yield NoiseSpec(
            name=name,
            target=target,
            defaults={"exponent": exponent},
            summary=f"coloured noise with exponent {exponent:g}",
        )
