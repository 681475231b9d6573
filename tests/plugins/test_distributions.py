"""The distributions in plugins/: their own tests, run as if they were installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
DISTRIBUTIONS = sorted(path.parent for path in PLUGINS.glob("*/pyproject.toml"))


def install(source, site):
    """Put what pip would of the distribution at `source` into `site`."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    entries = project["entry-points"]["pyrl_sb3"].items()
    lines = [f"{name} = {value}" for name, value in entries]
    (info / "entry_points.txt").write_text("\n".join(["[pyrl_sb3]", *lines]))
    return os.pathsep.join([str(site), str(source / "src")])


# Those that take long; `make test-plugins` runs them too.
LONG = dict.fromkeys(
    ("pyrl-colored-noise", "pyrl-population-sync", "pyrl-prioritized-replay"), pytest.mark.learning
)


@pytest.mark.parametrize(
    "source",
    [pytest.param(path, id=path.name, marks=LONG.get(path.name, ())) for path in DISTRIBUTIONS],
)
def test_own_tests_pass(source, tmp_path):
    environment = {**os.environ, "PYTHONPATH": install(source, tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", source],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )
    if run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
        pytest.skip(f"{source.name}: what it depends on is not installed")
    assert run.returncode == 0, run.stdout


def test_their_modules_load_neither_torch_nor_sb3():
    tomllib = pytest.importorskip("tomllib")
    projects = [tomllib.loads((each / "pyproject.toml").read_text()) for each in DISTRIBUTIONS]
    modules = [
        module
        for each in projects
        for module in each["project"]["entry-points"]["pyrl_sb3"].values()
    ]
    code = (
        f"import sys, {', '.join(modules)};"
        "heavy = ('torch', 'stable_baselines3', 'gymnasium', 'numpy', 'ray');"
        "print([module for module in heavy if module in sys.modules])"
    )
    path = [str(each / "src") for each in DISTRIBUTIONS] + [str(PLUGINS.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.stdout == "[]\n", run.stderr
