"""The report as a browser would take it apart: self-contained, accessible, escaped, whole and in pieces."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtr.errors import InputError
from vtr.evaluation.export import Outputs
from vtr.evaluation.page import Page, render
from vtr.evaluation.protocols import Rules
from vtr.evaluation.thumbnails import WIDTH, thumbnail
from vtr.files import read_json, write_json
from vtr.stages.evaluate import evaluate
from vtr.stages.evaluate_scores import Matrix, evaluate_scores
from vtr.stages.index import index
from vtr.stages.report import report
from vtr.stages.status import run_lines
from vtr.workspace import Run, Workspace

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, text, and whether every tag that opens also closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(run: Run) -> Parsed:
    report(run)
    page = Parsed(run.report.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_whole_report(run: Run) -> None:
    evaluate(run, None, None, device="cpu")
    evaluate(run, "val", None, device="cpu")
    page = parsed(run)
    titles = {attributes.get("id") for attributes in page.all("h2")}
    assert titles == {"full-test", "full-validation", "training", "config"}
    assert "full test: 6 of 6; 2 captions a video" in page.text
    assert "so the figures are optimistic" in page.text
    assert "each of 12 captions ranks 6 videos" in page.text
    assert len(page.all("svg")) == len(page.all("figure")) == 3
    assert "RSUM goes from" in page.text
    found = read_json(run.evaluation / "full-test.json")
    recall = found["metrics"]["text_to_video"]["recall"]["1"]
    assert f"{recall:.1f}" in page.text
    examples = found["examples"] + read_json(run.evaluation / "full-validation.json")["examples"]
    assert page.text.count("✓ right answer") == len(examples) == 12  # every gallery of six has six examples
    assert "name: unified" in page.text  # the config


def test_nothing_is_fetched_from_elsewhere(run: Run) -> None:
    evaluate(run, None, None, device="cpu")
    page = parsed(run)
    references = [
        str(value)
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data")
    ]
    assert references
    assert [r for r in references if not r.startswith(("data:image/jpeg;base64,", "#"))] == []
    assert not {"script", "link", "iframe", "object", "base"} & {name for name, _ in page.tags}
    text = run.report.read_text(encoding="utf-8")
    assert [u for u in re.findall(r"url\(([^)]*)\)", text) if not u.startswith("#")] == []
    assert "@import" not in text


def test_accessible_and_in_both_colour_schemes(run: Run) -> None:
    evaluate(run, None, None, device="cpu")
    page = parsed(run)
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) == 5
    assert {attributes["scope"] for attributes in page.all("th")} == {"row", "col"}
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert ids.most_common(1)[0][1] == 1
    inside = [str(value)[1:] for a in page.all("use") for name, value in a.items() if name == "xlink:href"]
    assert set(inside) <= set(ids)
    named = {str(attributes["aria-labelledby"]) for attributes in page.all("section")}
    assert named <= set(ids)
    text = run.report.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    assert "#000000" not in text
    assert "#010203" not in text


def test_the_same_run_gives_the_same_page(run: Run) -> None:
    evaluate(run, None, None, device="cpu")
    report(run)
    before = run.report.read_bytes()
    report(run)
    assert run.report.read_bytes() == before


def test_pieces_that_are_missing_are_named(run: Run) -> None:
    told = report(run)
    assert "Nothing has been evaluated yet. Run `vtr evaluate" in told
    assert "Nothing has been evaluated yet" in parsed(run).text
    run.log.unlink()
    (run.root / "manifest.json").unlink()
    page = parsed(run)
    assert "There is no training log" in page.text
    assert "Training is not finished" in page.text
    assert page.all("svg") == []


def test_a_log_cut_short_and_figures_of_another_checkpoint(run: Run) -> None:
    evaluate(run, None, None, device="cpu")
    with run.log.open("a") as stream:
        stream.write('{"kind": "train", "step": 99, "lo')
    manifest = read_json(run.root / "manifest.json")
    write_json(run.root / "manifest.json", manifest | {"output": "another"})
    page = parsed(run)
    assert len(page.all("svg")) == 3
    assert re.search(r"of another checkpoint.*vtr evaluate .* --split full --part test", page.text)


def test_videos_that_cannot_be_shown(run: Run) -> None:
    summary = evaluate(run, None, None, device="cpu")
    clips = run.workspace.root.parent / "ws-clips"
    for path in sorted(clips.iterdir()):  # hard links to the shared originals: replace, do not write into them
        path.unlink()
        if path.name < "2":
            path.write_bytes(b"not a video")
    page = parsed(run)
    assert page.all("img") == []
    shown = sum(len(example.video_ids) + (example.rank > 5) for example in summary.evaluation.examples)
    assert page.text.count("no picture") == shown


def test_a_damaged_result_is_named(run: Run) -> None:
    summary = evaluate(run, None, None, device="cpu")
    content = read_json(summary.path)
    del content["protocol"]
    write_json(summary.path, content)
    with pytest.raises(InputError, match=r"full-test\.json is not an evaluation"):
        report(run)


def test_text_is_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    text = render(Page(hostile, {hostile: hostile}, (hostile,), (), (), hostile, {hostile: hostile}))
    assert Parsed(text).all("script") == []
    assert text.count("&lt;script&gt;") == 8


def test_thumbnails_show_the_video(trained: Path, shared: Path, tmp_path: Path) -> None:
    """A clip of one shade gives a picture of that shade; real clips of odd names and sizes give pictures too."""
    uri = thumbnail(str(trained / "ws-clips" / "20.mp4"))
    assert uri is not None
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.size == (WIDTH, 120)
    assert abs(np.asarray(picture).mean() - 140) < 6
    clips = sorted((shared / "clips").rglob("*.avi"))[:3]
    assert all(thumbnail(str(path)) for path in clips)
    (tmp_path / "half.avi").write_bytes(clips[0].read_bytes()[:300])
    assert thumbnail(str(tmp_path / "half.avi")) is None
    assert thumbnail(str(tmp_path / "nowhere.mp4")) is thumbnail(None) is None


def test_a_gallery_elsewhere_is_not_on_the_runs_page(run: Run, other_workspace: Callable[..., Workspace]) -> None:
    elsewhere = Run.open(run.root, other_workspace("elsewhere").root)
    evaluate(elsewhere, None, None, device="cpu")
    assert "Nothing has been evaluated yet" in parsed(run).text


def test_results_of_other_rules_go_stale_too(run: Run) -> None:
    rules = Rules(ties="pessimistic")
    evaluate(run, None, None, device="cpu")
    evaluate(run, None, None, rules=rules, device="cpu")
    lines = {line.stage: line for line in run_lines(run)}
    assert lines["evaluate full-test"].state == lines["evaluate full-test+pessimistic"].state == "done"
    assert "These figures are of another" not in parsed(run).text
    index(run, None, None, factory="IVF3,Flat")
    evaluate(run, None, None, device="cpu")
    lines = {line.stage: line for line in run_lines(run)}
    assert (lines["evaluate full-test"].state, lines["evaluate full-test+pessimistic"].state) == ("done", "stale")
    command = lines["evaluate full-test+pessimistic"].command
    assert command.endswith("--split full --part test --ties pessimistic")
    text = parsed(run).text
    assert text.count("These figures are of another checkpoint, or of other videos") == 1
    assert "--split full --part test --ties pessimistic" in text


def test_only_videos_that_were_left_out_ask_for_available_only(run: Run) -> None:
    manifest = run.root / "manifest.json"
    content = json.loads(manifest.read_text())
    for coverage, wanted in (
        ("toy train: 40 of 40, 2 of them without any features", False),
        ("toy train: 40 of 40", False),
        ("toy train: 38 of 40", True),
    ):
        manifest.write_text(json.dumps(content | {"coverage": [coverage]}))
        (line,) = [line for line in run_lines(run) if line.stage == "evaluate"]
        assert line.command.endswith(" --available-only") is wanted


def test_a_matrix_among_the_results_is_shown_as_one(run: Run, tmp_path: Path) -> None:
    evaluate(run, None, None, outputs=Outputs(save_scores=tmp_path / "m.npy"), device="cpu")
    evaluate_scores(Matrix(tmp_path / "m.npy"), run.workspace, "full", rules=Rules("optimistic"), out=run.evaluation)
    assert "These figures are of a matrix of scores, not of this run's model." in parsed(run).text
    assert {line.state for line in run_lines(run) if line.stage.startswith("evaluate")} == {"done", "stale"}
