"""The key `sync`: how several seeds are synchronised."""

from typing import Any

from pyrl_sb3.config.components import load_class
from pyrl_sb3.errors import short
from pyrl_sb3.plugins import get_plugin_manager


def sync_plan(value: Any, *, trust: bool) -> dict[str, Any] | None:
    """
    `name`, and what there is of `every` and `params`; None for no synchronisation.

    :param value: A name, or a mapping of these.
    :param trust: Import from any package.
    :raises ValueError, ConfigError, PluginError: when it is not that.
    """
    if value is None:
        return None
    plan = {"name": value} if isinstance(value, str) else value
    named = isinstance(plan, dict) and set(plan) <= {"name", "every", "params"}
    if not named or not isinstance(plan.get("name"), str):
        raise ValueError("must be a name such as mean, or {name: best, params: {patience: 3}}")
    every, params = plan.get("every", 1), plan.get("params", {})
    if type(every) is not int or every < 1:
        raise ValueError(f"every: must be a whole number of steps from 1 on, not {short(every)}")
    if not isinstance(params, dict):
        raise ValueError(f"params: must be a mapping of names, not {short(params)}")
    if not trust:
        load_class("sync-callback", plan["name"])
    get_plugin_manager().check_params("sync-callback", plan["name"], params)
    return dict(plan)
