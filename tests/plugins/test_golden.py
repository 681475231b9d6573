"""The interface that plugins are written against changes only on purpose."""

import dataclasses
import inspect
import json
from pathlib import Path

from pyrl_sb3.plugins import hookspecs, types
from pyrl_sb3.plugins.contexts import NoiseContext, SyncContext

GOLDEN = Path(__file__).parent / "hook_api.json"


def fields(cls):
    return {
        field.name: "required"
        if field.default is field.default_factory is dataclasses.MISSING
        else repr(field.default)
        if field.default is not dataclasses.MISSING
        else field.default_factory.__name__
        for field in dataclasses.fields(cls)
    }


def hook_api():
    return {
        "api": [types.MIN_API, types.API_VERSION],
        "hooks": {
            spec.hook: {
                "signature": str(inspect.signature(getattr(hookspecs, spec.hook))),
                "kind": kind,
                "fields": fields(spec),
            }
            for kind, spec in types.SPECS.items()
        },
        "contexts": {cls.__name__: fields(cls) for cls in (NoiseContext, SyncContext)},
    }


def test_hook_api_is_the_recorded_one():
    # A deliberate change: keep old plugins working (new fields have defaults), then record it with
    # GOLDEN.write_text(json.dumps(hook_api(), indent=2) + "\n").
    assert hook_api() == json.loads(GOLDEN.read_text())
