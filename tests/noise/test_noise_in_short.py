"""Noise in short."""

import pytest

from pyrl_sb3.plugins import ComponentParameterError, UnknownComponentError, parse_noise


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("eps_0.2", ("eps", {"probability": 0.2})),
        (
            "eps_0.2+normal_0.1",
            ("eps", {"probability": 0.2, "noise": {"name": "normal", "params": {"sigma": 0.1}}}),
        ),
        (
            "ou_0.4..0.1",
            ("scheduled", {"noise": {"name": "ou", "params": {"sigma": 0.4}}, "end": 0.25}),
        ),
        (
            "eps_0.4..0.1+ou",
            (
                "scheduled",
                {
                    "noise": {
                        "name": "eps",
                        "params": {"probability": 0.4, "noise": {"name": "ou", "params": {}}},
                    },
                    "end": 0.25,
                },
            ),
        ),
        ("policy+ou", ("policy", {"noise": {"name": "ou", "params": {"sigma": 1.0}}})),
        ("param_0.2", ("param", {"target": 0.2})),
    ],
)
def test_shorts(pyrl_plugins, text, parsed):
    assert parse_noise(pyrl_plugins, text) == parsed


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("eps_x", ComponentParameterError, "'x' is no number; write for example eps_0.1"),
        ("eps_nan", ComponentParameterError, "'nan' is no number"),
        ("ou_inf", ComponentParameterError, "'inf' is no number"),
        ("ou_0.1..1e999", ComponentParameterError, "'1e999' is no number"),
        ("ou_0.1+normal_0.1", ComponentParameterError, "only eps and policy take another noise"),
        ("ou_0..0.1", ComponentParameterError, "must begin above 0"),
        ("ou_0.1..", ComponentParameterError, "'' is no number"),
        ("scheduled_0.1", ComponentParameterError, "has no scale"),
        ("eps_0.2+pink_0.3", UnknownComponentError, "pip install ./plugins/pyrl-colored-noise"),
        ("brown_0.2", UnknownComponentError, "available: pyrl/eps, .*pyrl/normal, pyrl/ou, "),
    ],
)
def test_what_means_nothing(pyrl_plugins, text, error, message):
    with pytest.raises(error, match=message):
        parse_noise(pyrl_plugins, text)
