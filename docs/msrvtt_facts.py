"""Print what docs/evaluation.md says of MSR-VTT and of its arithmetic, from the annotations.

.venv/bin/vtr prepare msrvtt --annotations DIR --splits DIR --out ws
.venv/bin/python docs/msrvtt_facts.py ws --train-7k DIR/MSRVTT_train.7k.csv
"""

from __future__ import annotations

import argparse
from math import sqrt
from pathlib import Path

import numpy as np

from vtr.annotations.ids import read_ids
from vtr.annotations.tables import load_annotations, load_split
from vtr.coverage import Coverage
from vtr.evaluation.duplicates import ceiling
from vtr.evaluation.leaks import leaks
from vtr.evaluation.metrics import BothWays, chance, count, evaluate_scores
from vtr.evaluation.ranks import TIE_RULES, VIDEO_TO_TEXT
from vtr.evaluation.subject import Subject
from vtr.types import Annotations, Split
from vtr.workspace import Workspace


def subject_of(annotations: Annotations, split: Split) -> Subject:
    """Return a split's test part."""
    ids = [caption.id for caption in split.queries("test", annotations)]
    coverage = Coverage(split.name, "test", len(split.test), len(split.test))
    return Subject.of(annotations, coverage, ids, split.test, train=split.train)


def show_split(subject: Subject) -> None:
    """Print a split's ceiling, identical captions and shared sources."""
    name = subject.coverage.split
    limits = ceiling(subject.texts, subject.video_of_text)
    highest = ", ".join(f"R@{at} {recall:.1f}" for at, recall in limits.recall.items())
    second = int((np.bincount(subject.right_by_text.texts) > 1).sum())
    print(f"{name}: {limits.share:.1f} % of {len(subject.texts):,} queries are another video's query too: {highest}")
    print(f"{name}: {second:,} queries have a second video that carries their words")
    print(f"{name}: {leaks(subject.videos, subject.train)}")


def figures(found: BothWays) -> str:
    """Return R@1, R@10, MedR and MeanR of both directions."""
    ways = (found.text_to_video, found.video_to_text)
    return "; ".join(
        f"{way.recall[1]:g}, {way.recall[10]:g}, {way.median_rank:,.1f}, {way.mean_rank:,.1f}" for way in ways
    )


def show_constant_scores(subject: Subject) -> None:
    """Print what constant scores and a random order get on a split."""
    print("R@1, R@10, MedR, MeanR, text to video; video to text")
    constant = np.broadcast_to(np.float32(0), (len(subject.texts), len(subject.videos)))
    for ties in TIE_RULES:
        print(f"constant scores, {ties}: {figures(evaluate_scores(constant, subject.right, ties=ties))}")
    for rule in VIDEO_TO_TEXT:
        print(f"a random order, {rule}: {figures(chance(*count(constant, constant, subject.right, rule)))}")


def show_arithmetic() -> None:
    """Print standard errors of R@1."""
    for recall, queries in ((25, 1000), (25, 59_800), (25, 2990)):
        error = sqrt(recall * (100 - recall) / queries)
        print(f"R@1 {recall} % on {queries:,} independent queries: +-{1.96 * error:.2f}")
    best_of_five = np.random.default_rng(0).normal(size=(1_000_000, 5)).max(axis=1).mean()
    print(f"the best of five, R@1 45 % on 1,000 queries: +{best_of_five * sqrt(45 * 55 / 1000):.1f}")


def main() -> None:
    """Read the workspace and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--train-7k", type=Path, help="the list of 7,010 training videos that is used with 1k-A too")
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    annotations = load_annotations(workspace)
    full, first, second = (load_split(workspace, name) for name in ("full", "1k-A", "1k-B"))
    for split in (full, first, second):
        show_split(subject_of(annotations, split))
    if arguments.train_7k is not None:
        videos = annotations.video_by_id
        train = [videos[name] for name in read_ids(arguments.train_7k)]
        print(f"1k-A with {len(train):,} training videos: {leaks([videos[name] for name in first.test], train)}")
    print(f"1k-A: {len(set(first.test) & set(full.test)):,} test videos are test videos of full")
    print(f"1k-B: {len(set(second.train) & set(first.test))} training videos are test videos of 1k-A")
    print(f"1k-B: {len(set(second.test) & set(full.train))} test videos are training videos of full")
    words = np.asarray([len(caption.text.split()) for caption in full.queries("test", annotations)])
    print(
        f"full: {100 * (words > 20).mean():.1f} % of the queries have over 20 words, {100 * (words > 30).mean():.2f} % "
        "over 30"
    )
    show_constant_scores(subject_of(annotations, full))
    show_arithmetic()


if __name__ == "__main__":
    main()
