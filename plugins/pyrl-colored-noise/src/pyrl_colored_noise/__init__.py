"""Action noise with a power spectrum proportional to 1/f**exponent."""

from pyrl_colored_noise.noise import ColoredNoise, colored

__all__ = ["ColoredNoise", "colored"]
