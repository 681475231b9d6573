"""The version has one place, and what else names it agrees: changelog, citation, plugins."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import pyrl_sb3

ROOT = Path(__file__).parents[2]
VERSION = Version(pyrl_sb3.__version__)


def problem_of_changelog(text: str, version: Version) -> str | None:
    """
    What is wrong with a changelog for this version: it begins with *Unreleased*; below are the
    releases, dated, newest first; the version is the newest of them, or is yet to come, its
    changes under *Unreleased*.
    """
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    headings, bodies = parts[1::2], parts[2::2]
    if headings[:1] != ["[Unreleased]"]:
        return "it does not begin with [Unreleased]"
    releases = []
    for heading in headings[1:]:
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+\S*)\] - \d{4}-\d\d-\d\d", heading)
        if not match:
            return f"no version and date: {heading}"
        releases.append(Version(match[1]))
    if releases != sorted(set(releases), reverse=True):
        return "releases are not in order"
    if releases and version < releases[0]:
        return f"{releases[0]} is newer than {version}"
    if version not in releases and not re.search(r"^- ", bodies[0], re.MULTILINE):
        return f"no heading for {version}, and nothing under [Unreleased]"
    return None


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert problem_of_changelog(changelog, VERSION) is None
    # Here the version is raised by a release only: it is none that is yet to come.
    released = re.findall(r"^## \[(\d.*?)\]", changelog, re.MULTILINE)
    assert not released or released[0] == pyrl_sb3.__version__


ENTRY = "\n### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"## [Unreleased]\n{ENTRY}", None),
        (f"## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n{ENTRY}", None),
        (f"## [Unreleased]\n{ENTRY}\n## [0.1.0] - 2026-01-02\n", None),
        (f"## [0.2.0] - 2026-02-03\n{ENTRY}", "does not begin"),
        ("## [Unreleased]\n\n## [0.1.0] - 2026-01-02\n", "no heading for 0.2.0"),
        (f"## [Unreleased]\n\n## [0.3.0] - 2026-02-03\n{ENTRY}", "0.3.0 is newer"),
        (f"## [Unreleased]\n\n## [0.2.0]\n{ENTRY}", "no version and date"),
        ("## [Unreleased]\n## [0.1.0] - 2026-01-02\n## [0.2.0] - 2026-02-03\n", "not in order"),
    ],
)
def test_changelogs_that_do_not_fit_are_found(text: str, problem: str | None) -> None:
    found = problem_of_changelog(f"# Changelog\n\n{text}", Version("0.2.0"))
    assert problem in found if problem and found else problem == found


def test_the_citation_has_the_version_and_the_project_reads_it() -> None:
    assert f"\nversion: {pyrl_sb3.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert '[tool.hatch.version]\npath = "pyrl_sb3/__init__.py"\n' in project


PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))


@pytest.mark.parametrize("project", PLUGINS, ids=lambda path: path.parent.name)
def test_plugins_accept_the_version(project: Path) -> None:
    (asked,) = re.findall(r'"(pyrl-sb3[^"]*)"', project.read_text())
    requirement = Requirement(asked)
    assert requirement.specifier.contains(VERSION, prereleases=True), asked
