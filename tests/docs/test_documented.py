"""All that is public is documented: names, commands and their options."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pyrl_sb3 import discrete_losses, losses
from pyrl_sb3.cli.app import app
from pyrl_sb3.plugins import hookspecs
from pyrl_sb3.plugins.types import SPECS

ROOT = Path(__file__).parents[2]
DOCS = {page: page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))}
REFERENCE = "\n".join(text for page, text in DOCS.items() if page.parent.name == "api")
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
MODULES = ("", ".algorithms", ".buffers", ".config", ".plugins", ".testing")
NAMES = [
    (f"pyrl_sb3{module}", name)
    for module in MODULES
    for name in importlib.import_module(f"pyrl_sb3{module}").__all__
    if not name.startswith("_")
]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_is_in_the_reference(module: str, name: str) -> None:
    places = {f"::: {module}.{name}", f"::: pyrl_sb3.{name}"}
    assert places & set(REFERENCE.splitlines()), f"docs/api has no {module}.{name}"
    value = getattr(importlib.import_module(module), name)
    if callable(value):
        assert (value.__doc__ or "").strip(), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_all_equals_the_public_names(module: str) -> None:
    package = importlib.import_module(f"pyrl_sb3{module}")
    home = package.__name__
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith(home)
    }
    assert public <= set(package.__all__), f"{home}: {public - set(package.__all__)}"
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        getattr(package, name)


def test_every_hook_is_documented() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("pyrl_")}
    assert hooks == {spec.hook for spec in SPECS.values()}
    page = (ROOT / "docs" / "plugins.md").read_text()
    assert hooks == set(re.findall(r"^### `(pyrl_\w+)\(", page, re.MULTILINE))


def test_every_loss_stands_beside_its_equation() -> None:
    equations = {
        name
        for module in (losses, discrete_losses)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    gradients = {name for name in equations if name.endswith("_gradient")}
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "algorithms.md").read_text()))
    assert equations - gradients <= named, equations - gradients - named


def leaves(group: Any, path: str = "pyrl") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize(("name", "command"), [*leaves(typer.main.get_command(app))])
def test_every_command_is_documented_with_its_options(name: str, command: Any) -> None:
    agent, _, verb = name.removeprefix("pyrl ").rpartition("-")
    if verb in ("train", "test"):
        assert f"`{agent}`" in COMMANDS
    else:
        assert f"`{name}" in COMMANDS
    for parameter in command.params:
        if getattr(parameter, "hidden", False):  # what commands say to one another
            continue
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}`" in COMMANDS, f"docs/commands.md has no {option} of {name}"


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    for page in DOCS:
        assert f": {page.relative_to(ROOT / 'docs')}\n" in nav, page


def test_the_site_is_built_with_its_warnings_as_errors() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (line,) = [line for line in makefile.splitlines() if "mkdocs build" in line]
    assert "--strict" in line
    assert "--quiet" not in line  # which keeps the warnings from being counted
