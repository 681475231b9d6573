"""
Every page is what it says: its Python runs, its commands are understood, its links lead somewhere.

The Python blocks of a page run one after the other, in one namespace and an empty folder, as its
reader would run them. A block whose first line is a comment with the name of a `.py` or `.yml`
file is that file: it is written, and a `.py` imported. A comment above a block says what is
different here: `<!-- run with: 100_000 -> 60 -->` runs it with other numbers, and
`<!-- not run: why -->` not at all.
"""

import importlib
import re
import shlex
import sys
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from pyrl_sb3.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *sorted(ROOT.glob("plugins/*/README.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]

# Blocks that are not run, by page. Everything else is.
NOT_RUN = {"docs/configs.md": 1, "docs/seeds.md": 1}

BLOCK = re.compile(r"^(?:<!-- (.+?) -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.(?:py|yml))\n")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, as it is to be run."""

    mark: str
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def code(self) -> str:
        """The text, with the numbers that the mark puts in the place of others."""
        code = self.text
        if self.mark.startswith("run with: "):
            for change in self.mark.removeprefix("run with: ").split(", "):
                old, new = change.split(" -> ")
                assert old in code, f"nothing to replace: {change}"
                code = code.replace(old, new)
        return code


def blocks(page: Path, *languages: str) -> list[Block]:
    found = [Block(*parts) for parts in BLOCK.findall(page.read_text())]
    for block in found:
        assert not block.mark or block.mark.startswith(("run with: ", "not run: ")), block.mark
    return [block for block in found if block.language in languages]


# The plugins' READMEs are run by the plugins' own tests.
WITH_PYTHON = [page for page in (ROOT / "README.md", *DOCS) if blocks(page, "python")]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run blocks in an empty folder; what they import from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYRL_LOAD_PLUGINS", "")
    namespace: dict[str, Any] = {"__name__": "__page__"}

    def run(block: Block) -> None:
        file = FILE.match(block.code)
        if file is None:
            exec(compile(block.code, "<page>", "exec"), namespace)
            return
        path = tmp_path / file[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code)
        if path.suffix == ".yml":
            return
        importlib.invalidate_caches()
        importlib.import_module(file[1].removesuffix(".py").replace("/", "."))

    yield run
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, reader: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # Importing gymnasium-robotics warns about environments nobody has asked for.
        warnings.filterwarnings("ignore", module=r"gymnasium|gymnasium_robotics")
        for block in blocks(page, "python", "yaml"):
            if block.is_run and (block.language == "python" or FILE.match(block.text)):
                reader(block)
    if page.name == "README.md":
        assert (tmp_path / "her_sac_reach.zip").is_file()


def test_blocks_that_are_not_run_are_counted() -> None:
    skipped = {name_of(page): [b for b in blocks(page, "python") if not b.is_run] for page in PAGES}
    counted = {name: len(found) for name, found in skipped.items() if found}
    assert counted == {name: number for name, number in NOT_RUN.items() if number}


def commands(page: Path) -> list[str]:
    """The command lines of a page, from its blocks and its indented lines."""
    text = page.read_text()
    fenced = blocks(page, "bash", "sh", "console", "text")
    lines = [line for block in fenced for line in block.text.splitlines()]
    outside = BLOCK.sub("", text)
    lines += [line[4:] for line in outside.splitlines() if line.startswith("    ")]
    stripped = [textwrap.dedent(line).removeprefix("$ ") for line in lines]
    return [line for line in stripped if re.match(r"pyrl [-\w]", line)]


COMMANDS = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(
    ("page", "line"), COMMANDS, ids=[f"{page.name}-{line[:40]}" for page, line in COMMANDS]
)
def test_commands_are_understood(page: Path, line: str) -> None:
    words = shlex.split(line.split("   ")[0], comments=True)[1:]
    placeholders = {"NAME": "pyrl", "KIND": "noises"}
    # Of the page's own plugin, which is not installed here; tests/plugins/test_agents.py has it.
    words = [word.replace("small-dpg-", "td3-") for word in words]
    words = [placeholders.get(word, word).strip("[]").split("|")[0] for word in words]
    group: Any = typer.main.get_command(app)
    context = typer.Context(group)
    while words and words[0].startswith("-"):  # of the root: -p MODULE, --no-plugins
        words = words[2:] if words[0] == "-p" else words[1:]
    while words and hasattr(group, "commands"):
        name, *words = words
        assert name in group.commands, f"{page.name}: no command {name!r} in {line!r}"
        group = group.commands[name]
    group.make_context(group.name, words, parent=context, resilient_parsing=False)


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


def test_the_mechanism_notices(tmp_path: Path, reader: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run with: 9 -> 0 -->\n```python\n1 / 9\n```\n")
    (block,) = blocks(page, "python")
    with pytest.raises(ZeroDivisionError):
        reader(block)
    with pytest.raises(AssertionError, match="nothing to replace"):
        _ = Block("run with: 8 -> 0", "python", "1 / 9\n").code
