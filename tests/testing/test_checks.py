"""What the package itself offers passes its own kit."""

import pytest

from pyrl_sb3.plugins import (
    NoiseSpec,
    PluginManager,
    Settings,
    SyncCallbackSpec,
    get_plugin_manager,
    hookimpl,
)
from pyrl_sb3.testing.checks import check_component


@pytest.mark.parametrize("name", ["param", "policy", "scheduled"])
def test_noise_that_is_made_of_another_or_cannot_be_drawn(name):
    manager = get_plugin_manager()
    assert check_component(manager, manager.find("noise", f"pyrl/{name}")) == ""


def leaving(context):
    raise SystemExit(3)


class Leaving:
    @hookimpl
    def pyrl_noise_processes(self):
        yield NoiseSpec(name="leaving", target=leaving)

    @hookimpl
    def pyrl_sync_callbacks(self):
        yield SyncCallbackSpec(name="leaving", target=leaving, couples_seeds=True)


@pytest.mark.parametrize("kind", ["noise", "sync-callback"])
def test_a_factory_that_exits_is_wrong_and_ends_nothing(kind):
    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Leaving(), "acme")
    assert check_component(manager, manager.find(kind, "leaving")) == "SystemExit: 3"
