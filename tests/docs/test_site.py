"""The documentation as a site: no warning as it is built, nothing loaded from elsewhere, read as in the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import markdown
import pytest
import yaml
from doc_blocks import PAGES
from markdown_it import MarkdownIt
from toy import ROOT

ELEMENTS = ("h1", "h2", "h3", "p", "ul", "ol", "li", "table", "tr", "td", "pre", "code", "img", "a", "strong", "em")


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root), "NO_MKDOCS_2_WARNING": "1"}
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--site-dir",
        str(out),
        "--config-file",
        str(root / "mkdocs.yml"),
    ]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_it(site: Path) -> None:
    pages = {path.relative_to(ROOT).with_suffix(".html").as_posix().removeprefix("docs/") for path in PAGES}
    pages -= {"README.html", "CONTRIBUTING.html"}
    pages |= {"overview.html", "contributing.html", "changelog.html", "cli.html"}
    assert pages <= {path.relative_to(site).as_posix() for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\ssrc=\"([^\"]*)", path.read_text(encoding="utf-8"))
        loaded += re.findall(r"<link\b[^>]*\shref=\"([^\"]*)", path.read_text(encoding="utf-8"))
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], path


def test_links_of_the_repository_lead_to_pages_of_the_site(site: Path) -> None:
    losses = (site / "losses.html").read_text(encoding="utf-8")
    assert 'href="benchmarks/losses.html"' in losses
    overview = (site / "overview.html").read_text(encoding="utf-8")
    assert 'href="contributing.html"' in overview
    assert 'src="page.png"' in overview


def test_the_command_line_is_described(site: Path) -> None:
    page = (site / "cli.html").read_text(encoding="utf-8")
    assert 'id="vtr-prepare-holdout"' in page
    assert "--target-recall" in page


@pytest.mark.parametrize("mistake", ["[x](none.md)", "[x](../benchmarks/none.md)", "[x](scale.md#none)"])
def test_a_wrong_link_fails_it(mistake: str, tmp_path: Path) -> None:
    for name in ("docs", "benchmarks", "configs", "vtr", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "docs").iterdir():
        if path.name not in ("search.md", "site_hooks.py"):
            (tmp_path / "docs" / path.name).symlink_to(path)
    (tmp_path / "docs" / "site_hooks.py").write_bytes((ROOT / "docs" / "site_hooks.py").read_bytes())
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    (tmp_path / "docs" / "search.md").write_text(f"{text}\n{mistake}\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_bytes((ROOT / "mkdocs.yml").read_bytes())
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "search.md" in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_the_same_parts_for_both_kinds_of_markdown(page: Path) -> None:
    """Python-Markdown, which makes the site, wants four spaces where CommonMark, of code hosts, wants two."""
    text = page.read_text(encoding="utf-8")
    extensions = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["markdown_extensions"]
    named = [name if isinstance(name, str) else next(iter(name)) for name in extensions]
    ours = markdown.markdown(text, extensions=named)
    theirs = MarkdownIt("commonmark").enable("table").render(text)

    def count(html: str) -> dict[str, int]:
        return {name: len(re.findall(rf"<{name}[ >]", html)) for name in ELEMENTS}

    assert count(ours) == count(theirs)


def test_the_tour_names_files_that_are_there() -> None:
    tour = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    there = {
        path.name for folder in ("vtr", "feature_extraction", "tests", "docs") for path in (ROOT / folder).rglob("*.*")
    }
    named = re.findall(r"`([\w./]+\.(?:py|js))`", tour)
    assert len(named) > 80
    for name in named:
        assert (ROOT / name).exists() if "/" in name else name in there, f"CONTRIBUTING.md names {name}"


def test_the_citations_are_those_of_the_code() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (content["cff-version"], content["type"]) == ("1.2.0", "software")
    assert all(content[key] for key in ("message", "title", "authors"))
    code = " ".join(path.read_text(encoding="utf-8") for path in ROOT.glob("vtr/**/*.py"))
    code = " ".join(code.split())
    for paper in content["references"]:
        assert all(author["family-names"] and author["given-names"] for author in paper["authors"]), paper["title"]
        arxiv = [one["value"].removeprefix("arXiv:") for one in paper.get("identifiers", ())]
        first = f"{paper['authors'][0]['family-names']} et al. {paper['year']}"
        assert first in code or any(number in code for number in arxiv), f"the code does not cite {first}"
