"""`vtr extract WS --report`: the failure ledger as tables, and what to do about each kind of failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from feature_extraction.ledger import ALL_EXPERTS, Failure, Kind, Status, read_ledger
from vtr.workspace import Workspace

SHOWN = 50
"""Entries that the table shows before it says how many more there are."""
MESSAGE_LETTERS = 160
"""Messages are cut to so many letters; they are whole in the ledger."""
WHOLE_VIDEO = "(whole video)"
HEADS = ("video", "expert", "stage", "kind", "status", "attempts", "decoder", "when", "message")

ADVICE: Mapping[Kind, str] = {
    "not_fetched": "the file is not there, or could not be fetched. See to its path, the network, or the package that "
    "the message names, then --retry-failed.",
    "unreadable": "the file is damaged or no video. Play it; copy or fetch it again; or convert it: "
    "ffmpeg -i BAD -c:v libx264 -c:a aac GOOD.mp4. Then --retry-failed.",
    "truncated": "the file ends early or has holes. The readable part was used (partial), or refused under --strict "
    "(failed). Fetch the file again, then --retry-failed; the whole takes the part's place.",
    "no_video": "the file has no video stream: it is sound or something else. Take it off the list, or fetch it again.",
    "no_audio": "the file has no sound track: there is nothing for audio and speech to read, and nothing to be done.",
    "too_little": "what there is, is too little for the expert: silence, or frames too far apart to see motion. "
    "There is nothing to be done.",
    "timeout": "a time limit was reached. Give it more time: --retry-failed --set timeout_seconds=600; or convert the "
    "file with ffmpeg.",
    "out_of_memory": "memory ran out. Try again with fewer processes, --retry-failed --workers 1, or smaller pictures "
    "and batches: frame_side, settings.EXPERT.batch.",
    "crash": "a process died over the video. --retry-failed tells chance from a file that kills what reads it; convert "
    "such a file with ffmpeg.",
    "expert_error": "an expert raised an error. The message says which; mend the expert or its settings, then "
    "--retry-failed.",
    "store_error": "an expert's features could not be stored: NaN, a wrong shape, or too large for float16 "
    "(--set dtype=float32 in a new workspace). Mend the expert, then --retry-failed.",
}


def report(workspace: Workspace, *, whole: bool = False) -> str:
    """Return what stands in the failure ledger: counts, entries, and what to do next.

    It takes no lock: another process may be extracting.

    Args:
        workspace: the workspace.
        whole: show all entries. Otherwise they are the first `SHOWN`, and absences are only counted.

    Raises:
        WorkspaceError: the ledger is damaged.
    """
    entries = sorted(read_ledger(workspace.ledger), key=_urgency)
    if not entries:
        return f"{workspace.root}: no failures stand in the ledger."
    statuses = Counter(entry.status for entry in entries)
    listed = [entry for entry in entries if whole or entry.status != "absent"]
    shown = listed if whole else listed[:SHOWN]
    lines = [
        f"{workspace.root}: {statuses['failed']:,} failed, {statuses['partial']:,} partial (the readable part was "
        f"used), {statuses['absent']:,} absent (nothing there to read)",
        "",
        *_align([*_counts(entries)]),
    ]
    if shown:
        lines += ["", *_align([HEADS, *map(_cells, shown)])]
    if len(listed) > len(shown):
        lines.append(f"... and {len(listed) - len(shown):,} more: --report --all, or {workspace.ledger}")
    kinds = [kind for kind in get_args(Kind) if any(entry.kind == kind for entry in entries)]
    lines += ["", f"What to do (retry with `vtr extract {workspace.root} --retry-failed`):"]
    lines += [f"  {kind}: {ADVICE[kind]}" for kind in kinds]
    return "\n".join(lines)


def _urgency(entry: Failure) -> tuple[int, str, str]:
    return get_args(Status).index(entry.status), entry.video_id, entry.expert


def _counts(entries: Collection[Failure]) -> list[tuple[str, ...]]:
    """Return the table of counts: a row an expert, a column a kind that occurs."""
    counted = Counter((entry.expert, entry.kind) for entry in entries)
    kinds = [kind for kind in get_args(Kind) if any(held == kind for _, held in counted)]
    rows: list[tuple[str, ...]] = [("expert", *kinds, "all")]
    for expert in sorted({expert for expert, _ in counted}):
        numbers = [counted[expert, kind] for kind in kinds]
        rows.append((_expert(expert), *map(_number, numbers), f"{sum(numbers):,}"))
    return rows


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _expert(name: str) -> str:
    return WHOLE_VIDEO if name == ALL_EXPERTS else _printable(name)


def _cells(entry: Failure) -> tuple[str, ...]:
    message = _printable(entry.message)
    if len(message) > MESSAGE_LETTERS:
        message = f"{message[: MESSAGE_LETTERS - 3]}..."
    when = entry.at[:19].replace("T", " ")
    return (
        _printable(entry.video_id),
        _expert(entry.expert),
        _printable(entry.stage),
        entry.kind,
        entry.status,
        str(entry.attempts),
        entry.decoder or "-",
        when or "-",
        message,
    )


def _printable(text: str) -> str:
    """Return a text on one line, without what a terminal would obey or cannot show."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, every column to the left; a rule under the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
