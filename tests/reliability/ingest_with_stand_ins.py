"""For tests, a program: `ingest_with_stand_ins.py RUN FOLDER` puts the stand-in clips of a folder into a run's library.

It dies at the moment that `deadly_moments` is told of. With TEST_MOMENTS set to a file, the renames are written there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import deadly_moments
import torch
from stand_in_extraction import StandInExtraction

from vtr.retrieval import ingest, reconcile
from vtr.retrieval.ingest import Ingestion, Request
from vtr.workspace import Run


def main() -> None:
    """Put the videos in, two at a time."""
    torch.set_num_threads(1)
    ingest.BATCH = reconcile.BATCH = 2
    run, folder = (Path(argument) for argument in sys.argv[1:])
    renamed: list[str] = []
    if "TEST_MOMENTS" in os.environ:
        sys.addaudithook(lambda name, given: renamed.append(str(given[1])) if name == "os.rename" else None)
    deadly_moments.die_as("ingest")
    Ingestion(Run.open(run), StandInExtraction(), device="cpu").ingest(Request((folder,), prune=True))
    if "TEST_MOMENTS" in os.environ:
        Path(os.environ["TEST_MOMENTS"]).write_text("\n".join(renamed), encoding="utf-8")


if __name__ == "__main__":
    main()
