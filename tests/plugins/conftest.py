from pathlib import Path

import pytest

from pyrl_sb3.testing.pytest_plugin import fake_dist, pyrl_plugins

__all__ = ["broken", "fake_dist", "good", "pyrl_plugins"]

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.py"))

GOOD = """
from pyrl_sb3.plugins import NoiseSpec, hookimpl

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="brown", target="pyrl_sb3.noise.action:gaussian", defaults={"sigma": 0.5})
"""


@pytest.fixture
def good(fake_dist):
    """A sound plugin ``good``, distribution ``pyrl-good 1.0``, with the noise ``brown``."""
    return fake_dist("pyrl-good", GOOD, entry="good")


@pytest.fixture
def broken(fake_dist):
    """The broken plugins, installed together; their directory."""
    return [
        fake_dist(f"pyrl-{path.stem.replace('_', '-')}", path.read_text(), entry=path.stem)
        for path in BROKEN
    ][-1]
