"""What holds for the package as a whole: import direction, lazy imports, small modules."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyrl_sb3

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyrl_sb3"

# A module imports from its own layer or a lower one, never from a higher one.
LAYERS = [
    {
        "devices",
        "errors",
        "shapes",
        "losses",
        "discrete_losses",
        "noise",
        "buffers",
        "envs",
        "plaindata",
    },
    {"critics", "networks", "policies", "discrete_policies", "agent"},
    {"algorithms"},
    {"plugins"},
    {"config", "hyperparams"},
    {"training"},
    {"report", "testing"},
    {"cli", "__main__", "zoo"},
]


def layer(part: str) -> int:
    (found,) = [i for i, parts in enumerate(LAYERS) if part in parts]
    return found


def imported_parts(path: Path) -> Iterator[str]:
    """The parts of the package that ``path`` imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "pyrl_sb3":
                names = [f"pyrl_sb3.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("pyrl_sb3."))


def upward_imports() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":  # which only names what is loaded on use
            continue
        for part in imported_parts(path):
            part = pyrl_sb3._LAZY.get(part, "").rpartition(".")[2] or part
            if part not in pyrl_sb3.__all__ and layer(part) > layer(own):
                yield f"{path.relative_to(ROOT)} imports {part}, which is above {own}"


def test_imports_go_one_way() -> None:
    assert not list(upward_imports())


def loaded_by(code: str) -> set[str]:
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name.partition(".")[0] for name in output.split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "stable_baselines3", "gymnasium", "numpy", "pluggy", "typer"}
    assert not heavy & loaded_by("import pyrl_sb3")


def test_public_names_exist_and_are_listed() -> None:
    assert dir(pyrl_sb3) == sorted(pyrl_sb3.__all__)
    assert set(pyrl_sb3._LAZY) | {"__version__"} == set(pyrl_sb3.__all__)
    for name in pyrl_sb3.__all__:
        assert getattr(pyrl_sb3, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PPOPolicy'"):
        _ = pyrl_sb3.PPOPolicy


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := path.read_text().count("\n")) > 300
    }
    assert not long
