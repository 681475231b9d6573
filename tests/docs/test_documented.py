"""All that is public is documented: names, commands and their options."""

import importlib
import re
from collections.abc import Iterator
from inspect import isfunction, ismodule, signature
from pathlib import Path
from pkgutil import resolve_name
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
PUBLIC = {
    (f"pyrl_sb3{module}", name)
    for module in MODULES
    for name in importlib.import_module(f"pyrl_sb3{module}").__all__
    if not name.startswith("_")
}
# What users are shown: the pages, the README, and the plugins to copy from.
GUIDES = [
    *(text for page, text in DOCS.items() if page.parent.name != "api"),
    (ROOT / "README.md").read_text(),
    *(path.read_text() for path in (ROOT / "plugins").glob("*/README.md")),
    *(path.read_text() for path in (ROOT / "plugins").glob("*/src/**/*.py")),
]
IMPORTS = re.compile(r"^ *from (pyrl_sb3[\w.]*) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)
IMPORTED = {
    (module, name)
    for text in GUIDES
    for module, several, line in IMPORTS.findall(text)
    for name in re.findall(r"\w+", several or line.partition("#")[0])
}
# And what they are told to use by its full name.
NAMED = {
    (module, name)
    for text in GUIDES
    for module, name in re.findall(r"`(pyrl_sb3[\w.]*)[.:](\w+)`", text)
}
FOR_USERS = {
    f"{module}.{name}": value
    for module, name in sorted(PUBLIC | IMPORTED | NAMED)
    if not ismodule(value := resolve_name(f"{module}.{name}"))
}


def test_every_name_for_users_is_in_the_reference() -> None:
    listed = {line.removeprefix("::: ") for line in REFERENCE.splitlines()}
    lacking = [
        path
        for path in FOR_USERS
        if not listed & {path, path.rpartition(".")[0], f"pyrl_sb3.{path.rpartition('.')[2]}"}
    ]
    assert not lacking, f"docs/api lacks {', '.join(lacking)}"


def test_every_name_for_users_has_a_docstring() -> None:
    silent = [
        path
        for path, value in FOR_USERS.items()
        if callable(value) and not (value.__doc__ or "").strip()
    ]
    assert not silent


@pytest.mark.parametrize("path", [path for path, value in FOR_USERS.items() if isfunction(value)])
def test_every_parameter_of_a_function_for_users_is_in_its_docstring(path: str) -> None:
    function = FOR_USERS[path]
    named = set(re.findall(r"\w+", function.__doc__ or ""))
    assert {*signature(function).parameters} - named <= {"kwargs"}


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


def undocumented() -> Iterator[str]:
    for name, command in leaves(typer.main.get_command(app)):
        agent, _, verb = name.removeprefix("pyrl ").rpartition("-")
        if (f"`{agent}`" if verb in ("train", "test") else f"`{name}") not in COMMANDS:
            yield name
        for parameter in command.params:
            if getattr(parameter, "hidden", False):  # what commands say to one another
                continue
            for option in parameter.opts:
                if option.startswith("--") and f"`{option}`" not in COMMANDS:
                    yield f"{option} of {name}"


def test_every_command_is_documented_with_its_options() -> None:
    lacking = list(undocumented())
    assert not lacking, f"docs/commands.md lacks {', '.join(lacking)}"


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    for page in DOCS:
        assert f": {page.relative_to(ROOT / 'docs')}\n" in nav, page


def test_the_site_is_built_with_its_warnings_as_errors() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (line,) = [line for line in makefile.splitlines() if "mkdocs build" in line]
    assert "--strict" in line
    assert "--quiet" not in line  # which keeps the warnings from being counted
