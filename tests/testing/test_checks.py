"""What the package itself offers passes its own kit."""

import pytest

from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.testing.checks import check_component


@pytest.mark.parametrize("name", ["param", "policy", "scheduled"])
def test_noise_that_is_made_of_another_or_cannot_be_drawn(name):
    manager = get_plugin_manager()
    assert check_component(manager, manager.find("noise", f"pyrl/{name}")) == ""
