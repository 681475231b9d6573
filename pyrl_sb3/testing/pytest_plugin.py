"""
Pytest fixtures for plugin authors: opt in with ``pytest -p pyrl_sb3.testing.pytest_plugin``, or
with ``pytest_plugins = ["pyrl_sb3.testing.pytest_plugin"]`` in the top ``conftest.py``.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrl_sb3.plugins import PluginManager, Settings, get_plugin_manager

FakeDist = Callable[..., Path]


@pytest.fixture
def pyrl_plugins() -> PluginManager:
    """A manager without any installed plugin; add yours with ``register(module, name)``."""
    return PluginManager(Settings(load=frozenset()))


@pytest.fixture
def fake_dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDist]:
    """
    ``fake_dist(name, source, version="1.0", entry=None)`` installs a distribution for the test.

    It is a module with `source`, and metadata with the entry point `entry` (by default `name`), in
    a directory on ``sys.path``, which is returned: put it in ``PYTHONPATH`` for a subprocess.
    """
    site = tmp_path / "site-packages"
    site.mkdir()
    modules = []
    monkeypatch.syspath_prepend(str(site))
    get_plugin_manager.cache_clear()

    def install(name: str, source: str, *, version: str = "1.0", entry: str | None = None) -> Path:
        module = name.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[pyrl_sb3]\n{entry or name} = {module}\n")
        return site

    yield install
    for module in modules:
        sys.modules.pop(module, None)
    get_plugin_manager.cache_clear()
