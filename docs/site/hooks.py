"""
What the site is made of besides ``docs/``: the README, the changelog and their like become pages,
links between pages of the repository become links between pages of the site, and equations become
MathML, which browsers show without a script.
"""

import html
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

LOG = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[2]

# Path in the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    **{
        f"{path.parent.relative_to(ROOT)}/README.md": f"plugins/{path.parent.name}.md"
        for path in sorted(ROOT.glob("plugins/*/README.md"))
    },
}
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
FIELD = re.compile(r":(?:param|raises|returns?|ivar|func|class|meth|mod)\b")
LINK = re.compile(r"(!?)\[([^\]]+)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)")


def page_of(path: str) -> str | None:
    """The page that a path of the repository is shown on."""
    for candidate in (path, f"{path.rstrip('/')}/README.md"):
        if candidate in PAGES:
            return PAGES[candidate]
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return None


def relinked(markdown: str, source: str, page: str) -> str:
    """The text of a page, its links leading to pages of the site, or to nothing but their text."""

    def replace(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = page_of(path)
        if found is None and (ROOT / path).exists():
            return text  # in the repository, and not on the site
        if found is None:
            return match[0]  # MkDocs says what is wrong with it
        there = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"{image}[{text}]({there}{anchor or ''})"

    return LINK.sub(replace, markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in ``docs/``."""
    for source, page in PAGES.items():
        content = relinked((ROOT / source).read_text(encoding="utf-8"), source, page)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Mend the links of the other pages."""
    uri = page.file.src_uri
    return markdown if uri in PAGES.values() else relinked(markdown, f"docs/{uri}", uri)


def on_page_content(page_html: str, page: Any, config: Any, files: Any) -> str:
    """Typeset the equations; warn of docstrings whose fields are shown as text."""

    def typeset(match: re.Match[str]) -> str:
        tag, bracket, latex = match.groups()
        display = "block" if bracket == "[" else "inline"
        mathml = convert(html.unescape(latex), display=display)
        mathml = mathml.replace("<mi>&#x02032;</mi>", '<mi class="prime">&#x02032;</mi>')
        return f'<{tag} class="equation">{mathml}</{tag}>'

    if field := FIELD.search(page_html):
        shown = page_html[field.start() : field.start() + 40]
        LOG.warning(f"{page.file.src_uri} shows a field of a docstring as text: {shown}")
    return EQUATION.sub(typeset, page_html)
