"""Classes that have moved within their plugin since a model was saved: names still lead to them."""

import base64
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

from pyrl_sb3.plugins.manager import get_plugin_manager
from pyrl_sb3.plugins.records import Record
from pyrl_sb3.plugins.types import SPECS

# What a policy is made of, and where SB3's zip has it.
_NETWORKS = ("policy", "features-extractor")
_PLACES = ("policy_class", "policy_kwargs")


def exists(record: Mapping[str, Any]) -> bool:
    """Whether the class is where it was; imports its module."""
    try:
        resolve_name(record["target"])
    except (ImportError, AttributeError, ValueError):  # the last for a class within a function
        return False
    return True


def is_registered(record: Mapping[str, Any]) -> bool:
    """Whether the registry has a component of that name."""
    if record["kind"] not in SPECS:
        return False
    known = get_plugin_manager().components(record["kind"])
    return record["name"] in {found.name for found in known}


def load_registered(record: Mapping[str, Any]) -> Any:
    """What the name of a component stands for now."""
    return get_plugin_manager().load(record["kind"], record["name"])


def network_class(records: Iterable[Record], module: str, name: str) -> Any:
    """
    The class that has taken the place of one that was saved; None where no plugin has it.

    :param records: The components of the model: nothing is imported because they say so.
    :param module: Of the class when the model was saved.
    :param name: Of the class.
    """
    for record in records:
        if record["kind"] in _NETWORKS and record["target"] == f"{module}:{name}":
            return load_registered(record) if is_registered(record) else None
    return None


def moved_networks(path: str | os.PathLike[str], records: Iterable[Record]) -> dict[str, Any]:
    """
    Policy and features extractor for SB3's `custom_objects`, where one of them has moved.

    :param path: The saved model, which is trusted: it is unpickled.
    :param records: Its components.
    """
    moved = [each for each in records if each["kind"] in _NETWORKS and not exists(each)]
    if not any(is_registered(record) for record in moved):
        return {}
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    pickles = {place: data[place].get(":serialized:") for place in _PLACES if place in data}
    return {
        place: _Unpickler(base64.b64decode(content), moved).load()
        for place, content in pickles.items()
        if content
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, moved: Sequence[Record]) -> None:
        super().__init__(io.BytesIO(content))
        self.moved = moved

    def find_class(self, module: str, name: str) -> Any:
        return network_class(self.moved, module, name) or super().find_class(module, name)
