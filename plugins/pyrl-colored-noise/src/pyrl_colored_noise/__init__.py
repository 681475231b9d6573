"""Action noise with a power spectrum proportional to 1/f**exponent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrl_colored_noise.noise import ColoredNoise, colored

__all__ = ["ColoredNoise", "colored"]


# Loaded on first use (PEP 562), so that finding the plugin loads neither torch nor SB3.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("pyrl_colored_noise.noise"), name)


def __dir__() -> list[str]:
    return __all__
