"""What mkdocs.yml builds beside docs/: pages that lie elsewhere in the repository, and the command line's reference.

Links between files are written as they work in the repository (`../benchmarks/losses.md` seen from `docs/`). Here they
are turned into what they are in the site. A link to a file that is no page, such as a config, takes a copy of it into
the site.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "THIRD_PARTY.md": "third_party.md",
}
"""Pages outside docs/ and benchmarks/: the file in the repository, the page in the site."""
LINK = re.compile(r"(?P<before>\]\(|^\[[^\]]+\]: +)(?P<target>[^)\s#:]+)(?=[)\s#]|$)", re.MULTILINE)
"""The target of a link, a picture or a reference, without its anchor; addresses with a scheme are left alone."""
CODE = re.compile(r"^ *```.*?^ *```|^ {4}.*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, what is linked from any page, and the command line's reference."""
    for path in [*sorted(ROOT.glob("benchmarks/*.md")), *(ROOT / name for name in PAGES)]:
        files.append(_file(path.relative_to(ROOT).as_posix(), config))
    for page in list(files.documentation_pages()):
        for target in _targets(page.content_string):
            path = _resolved(page.src_uri, target)
            if (ROOT / path).is_file() and _in_site(path) not in files.src_uris:
                files.append(_file(path, config))
    files.append(File.generated(config, "cli.md", content=_command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page, which are the repository's, into the site's."""
    del config, files
    here = page.file.src_uri
    if here == "cli.md":
        return markdown

    def mended(found: re.Match[str]) -> str:
        path = _resolved(here, found["target"])
        if not (ROOT / path).exists():
            return found[0]  # mkdocs names it
        return found["before"] + posixpath.relpath(_in_site(path), posixpath.dirname(here) or ".")

    pieces, end = [], 0
    for code in CODE.finditer(markdown):
        pieces += [LINK.sub(mended, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, LINK.sub(mended, markdown[end:])])


def _targets(markdown: str) -> list[str]:
    return [found["target"] for found in LINK.finditer(CODE.sub("", markdown))]


def _resolved(page: str, target: str) -> str:
    """Return the path in the repository that a page of the site links to."""
    names = {site: name for name, site in PAGES.items()}
    source = names.get(page, page if page.startswith("benchmarks/") else f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _in_site(path: str) -> str:
    """Return what a path of the repository is called in the site."""
    return PAGES.get(path, path.removeprefix("docs/"))


def _file(path: str, config: MkDocsConfig) -> File:
    return File.generated(config, _in_site(path), abs_src_path=str(ROOT / path))


def _command_line() -> str:
    """Return the reference of the command line as typer writes it."""
    arguments = ["vtr.cli", "utils", "docs", "--name", "vtr", "--title", "The command line"]
    command = [sys.executable, "-m", "typer", *arguments]
    made = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if made.returncode:
        raise PluginError(f"the command line's reference could not be made: {made.stderr.strip()}")
    return made.stdout
