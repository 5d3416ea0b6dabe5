"""docs/msrvtt.md names the files that are looked for, and shows what `vtr prepare msrvtt` prints of the real data."""

from __future__ import annotations

import re
from pathlib import Path

from toy import ROOT

from vtr.annotations.msrvtt import LISTS
from vtr.annotations.msrvtt_layouts import LAYOUTS
from vtr.annotations.prepare import prepare_msrvtt

PAGE = (ROOT / "docs" / "msrvtt.md").read_text(encoding="utf-8")


def test_every_layout_and_every_list_is_on_the_page() -> None:
    rows = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    described = {row[0].strip(): set(re.findall(r"`(\w+\.json)`", row[1])) for row in rows if len(row) > 1}
    for layout in LAYOUTS:
        assert described[layout.name] == set(layout.files)
    for name in LISTS:
        assert f"`{name}`" in PAGE or "_list_full" in name


def test_the_report_on_the_page_is_what_is_printed(shared: Path, tmp_path: Path) -> None:
    shown = re.search(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert shown is not None
    told = str(prepare_msrvtt(None, None, None, tmp_path / "ws", shared / "msrvtt")).replace(str(tmp_path) + "/", "")
    assert re.sub(r"(?m)^  video\d+: CSV .*\n", "", told) == shown[1].replace("  ...\n", "").rstrip("\n")
