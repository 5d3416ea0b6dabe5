"""Putting videos in: what is new or changed is read and embedded once, ids last, and everything is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in_extraction import StandInExtraction, features_of, make_clip

from vtr.data.features import FeatureChoice, FeatureTable
from vtr.errors import InputError, WorkspaceError
from vtr.models import text_input
from vtr.models.saved import load_model
from vtr.retrieval import Retriever
from vtr.retrieval import ingest as ingest_module
from vtr.retrieval.ingest import Ingestion, IngestSummary, Request
from vtr.retrieval.library import LibraryFolder
from vtr.retrieval.watch import watch
from vtr.workspace import Run

GALLERY = [f"v{number:03d}" for number in range(50, 60)]


def ingest(run: Run, *folders: Path, extract: StandInExtraction | None = None, **options: object) -> IngestSummary:
    return Ingestion(run, extract or StandInExtraction(), device="cpu").ingest(Request(folders, **options))  # type: ignore[arg-type]


def rows(run: Run) -> dict[str, np.ndarray]:
    """Return row id -> its vectors, as searched."""
    part = Retriever.load(run).part
    return dict(zip(part.videos.ids, part.videos.vectors.numpy(), strict=True))


def embedded(run: Run, clip: Path, between: tuple[float, float] = (0, np.inf)) -> np.ndarray:
    """Return what the model makes of the features of a clip that begin in a stretch of time."""
    model, config = load_model(run.checkpoints / "best", "cpu")
    found = {}
    for name, held in features_of(clip).items():
        kept = (held.start_seconds >= between[0]) & (held.start_seconds < between[1])
        found[name] = type(held)(held.values[kept], held.start_seconds[kept], held.end_seconds[kept])
    of_one = {name: {"it": held} for name, held in found.items()}
    table = FeatureTable(["it"], of_one, model.expert_dims, FeatureChoice.of(config))
    with torch.inference_mode():
        vectors: np.ndarray = model.embed_videos(table.batch([0])).vectors[0].numpy()
    return vectors


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips, one of them in a folder of the folder."""
    for seed, name in enumerate(("beach.mp4", "snow.mp4", "trip/beach.mp4")):
        make_clip(tmp_path / "clips" / name, seed)
    return tmp_path / "clips"


def test_the_first_time_the_gallery_comes_along(toy_run: Run, clips: Path) -> None:
    before = rows(toy_run)
    assert sorted(before) == GALLERY
    summary = ingest(toy_run, clips)
    assert (summary.new, len(summary.taken), summary.videos) == (3, 10, 13)
    after = rows(toy_run)
    assert all(np.array_equal(after[video_id], before[video_id]) for video_id in GALLERY)
    assert sorted(after.keys() - before.keys()) == ["clips/beach", "clips/snow", "clips/trip/beach"]
    assert np.allclose(after["clips/trip/beach"], embedded(toy_run, clips / "trip" / "beach.mp4"), atol=1e-6)


def test_answers_are_those_of_plain_scores(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    retriever = Retriever.load(toy_run)
    assert retriever.gallery == f"the library: {len({hit.video_id for hit in retriever.search(['a'], 99)[0]})} videos"
    hits = retriever.search(["a red dog runs in the park"], 13)[0]
    batch = text_input(retriever.config).batch(["q"], ["a red dog runs in the park"])
    texts = retriever.model.embed_texts(batch)
    weights, vectors = texts.weights[0].detach().numpy(), texts.vectors[0].detach().numpy()
    held = retriever.part.videos
    scores = {}
    for row, video_id in enumerate(held.ids):
        present = held.present[row].numpy()
        cosines = (held.vectors[row].numpy() * vectors).sum(1)
        scores[video_id] = float((weights * present * cosines).sum() / (weights * present).sum())
    assert [hit.video_id for hit in hits] == sorted(scores, key=lambda video_id: -scores[video_id])
    assert np.allclose([hit.score for hit in hits], sorted(scores.values(), reverse=True), atol=1e-5)


def test_what_is_in_is_not_read_again(toy_run: Run, clips: Path) -> None:
    extract = StandInExtraction()
    ingest(toy_run, clips, extract=extract)
    first, output = list(extract.read), LibraryFolder(toy_run.library).output()
    summary = ingest(toy_run, clips, extract=extract)
    assert (summary.new, summary.changed, summary.unchanged) == (0, 0, 13)
    assert extract.read == first
    assert LibraryFolder(toy_run.library).output() == output


def test_a_changed_file_is_read_again_and_only_it(toy_run: Run, clips: Path) -> None:
    extract = StandInExtraction()
    ingest(toy_run, clips, extract=extract)
    before = rows(toy_run)
    make_clip(clips / "snow.mp4", 77, 9)
    summary = ingest(toy_run, clips, extract=extract)
    assert (summary.new, summary.changed, summary.unchanged) == (0, 1, 12)
    assert extract.read[3:] == ["clips/snow"]
    after = rows(toy_run)
    assert np.allclose(after["clips/snow"], embedded(toy_run, clips / "snow.mp4"), atol=1e-6)
    assert all(np.array_equal(after[key], before[key]) for key in before if key != "clips/snow")


def test_only_these_begins_with_none(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips, only_these=True)
    assert sorted(rows(toy_run)) == ["beach", "snow", "trip/beach"]


def test_ids_of_a_second_folder_begin_with_its_name(toy_run: Run, clips: Path, tmp_path: Path) -> None:
    ingest(toy_run, clips, only_these=True)
    for number, parent in enumerate(("a", "b")):
        make_clip(tmp_path / parent / "trip" / "beach.mp4", 50 + number)
    ingest(toy_run, tmp_path / "a" / "trip", tmp_path / "b" / "trip", clips)
    ids = sorted(rows(toy_run))
    assert ids == ["beach", "snow", "trip-2/beach", "trip-3/beach", "trip/beach"]
    paths = {video_id: Retriever.load(toy_run).video_path(video_id) for video_id in ids}
    assert paths["trip-2/beach"] == str(tmp_path / "a" / "trip" / "beach.mp4")
    assert paths["trip-3/beach"] == str(tmp_path / "b" / "trip" / "beach.mp4")
    make_clip(clips / "trip-2" / "beach.mp4", 99)
    ingest(toy_run, clips)
    assert Retriever.load(toy_run).video_path("trip-2/beach") == paths["trip-2/beach"]
    assert sorted(rows(toy_run).keys() - set(ids)) == ["trip-2/beach.mp4"]


def test_a_folder_in_a_folder_brings_no_video_twice(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips, only_these=True)
    summary = ingest(toy_run, clips / "trip")
    assert (summary.new, summary.videos) == (0, 3)


def test_no_id_of_the_runs_videos_is_given_to_another(toy_run: Run, tmp_path: Path) -> None:
    make_clip(tmp_path / "clips" / "v003.mp4", 3)
    ingest(toy_run, tmp_path / "clips", only_these=True)
    assert sorted(rows(toy_run)) == ["v003.mp4"]


def test_files_that_are_gone_stay_until_pruned(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    (clips / "snow.mp4").unlink()
    summary = ingest(toy_run, clips)
    assert summary.gone == ["clips/snow"]
    assert "--prune" in str(summary)
    assert "clips/snow" in rows(toy_run)
    summary = ingest(toy_run, clips, prune=True)
    assert (summary.removed, summary.gone) == (1, [])
    assert "clips/snow" not in rows(toy_run)
    assert "clips/snow" not in Retriever.load(toy_run).annotations.video_by_id
    make_clip(clips / "snow.mp4", 1)
    assert ingest(toy_run, clips).new == 1
    assert "clips/snow" in rows(toy_run)


def test_all_gone_is_an_empty_folder(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    for path in clips.rglob("*.mp4"):
        path.unlink()
    assert ingest(toy_run, clips, prune=True).removed == 3
    assert sorted(rows(toy_run)) == GALLERY


def test_a_folder_that_is_not_there_is_an_error_and_prunes_nothing(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    clips.rename(clips.with_name("moved"))
    with pytest.raises(InputError, match="does not exist"):
        ingest(toy_run, clips, prune=True)
    ingest(toy_run, prune=True)
    assert "clips/snow" in rows(toy_run)


def test_failures_are_told_and_the_others_are_in(toy_run: Run, clips: Path) -> None:
    make_clip(clips / "broken.mp4", 5, fails=True)
    extract = StandInExtraction()
    summary = ingest(toy_run, clips, extract=extract)
    assert summary.new == 3
    assert summary.failed == ["clips/broken: is no video"]
    assert "clips/broken: is no video" in str(summary)
    read = len(extract.read)
    assert ingest(toy_run, clips, extract=extract).failed == summary.failed
    assert len(extract.read) == read
    ingest(toy_run, clips, extract=extract, retry_failed=True)
    assert extract.read[read:] == ["clips/broken"]
    make_clip(clips / "broken.mp4", 5)
    summary = ingest(toy_run, clips, extract=extract)
    assert (summary.new, summary.failed) == (1, [])


def test_a_video_in_which_nothing_was_found_is_told(toy_run: Run, clips: Path) -> None:
    make_clip(clips / "dark.mp4", 5, lacks=["appearance", "motion"])
    summary = ingest(toy_run, clips)
    assert summary.silent == ["clips/dark"]
    assert "nothing to find in 1 video: clips/dark" in str(summary)


def test_captions_answer_videos(toy_run: Run, clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("video,caption\nsnow,a red dog runs\nsnow,the cat sleeps\ntrip/beach,a blue bird eats\n")
    ingest(toy_run, clips, captions=table, only_these=True)
    retriever = Retriever.load(toy_run)
    assert retriever.num_captions == 3
    hits = retriever.captions_for(features_of(clips / "snow.mp4"), 3)
    assert {(hit.video_id, hit.caption) for hit in hits} == {
        ("snow", "a red dog runs"),
        ("snow", "the cat sleeps"),
        ("trip/beach", "a blue bird eats"),
    }
    table.write_text("video,caption\nsnow,the cat runs\n")
    summary = ingest(toy_run, clips, captions=table)
    assert (summary.changed, summary.captions) == (1, 2)
    with pytest.raises(InputError, match="is none of the videos"):
        table.write_text("video,caption\nnowhere,the cat runs\n")
        ingest(toy_run, clips, captions=table)


def test_long_videos_are_found_by_the_stretch_that_matches(toy_run: Run, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "clips" / "long.mp4", 1, 75)
    make_clip(tmp_path / "clips" / "short.mp4", 2, 60)
    summary = ingest(toy_run, tmp_path / "clips", only_these=True, window_seconds=30)
    assert (summary.cut, summary.videos, summary.rows) == (1, 2, 4)
    held = rows(toy_run)
    stretches = {"long@0-30": (0, 30), "long@30-60": (30, 60), "long@60-75": (60, 75)}
    assert held.keys() == {*stretches, "short"}
    for row_id, between in stretches.items():
        assert np.allclose(held[row_id], embedded(toy_run, long, between), atol=1e-6), row_id
    retriever = Retriever.load(toy_run)
    hits = retriever.search(["a red dog"], 5)[0]
    assert sorted(hit.video_id for hit in hits) == ["long", "short"]
    assert retriever.num_videos == 2
    ingest(toy_run, tmp_path / "clips", window_seconds=40)
    assert rows(toy_run).keys() == {"long", "short"}


def test_without_a_folder_all_of_the_runs_videos_come_in(toy_run: Run) -> None:
    summary = ingest(toy_run)
    assert summary.videos == 60
    retriever = Retriever.load(toy_run)
    assert retriever.num_videos == 60
    assert {hit.video_id for hit in retriever.search(["a red dog"], 60)[0]} == {f"v{n:03d}" for n in range(60)}
    assert ingest(toy_run).unchanged == 60


def test_a_run_that_was_trained_anew_embeds_all_again(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    manifest = toy_run.root / "manifest.json"
    text = manifest.read_text()
    output = LibraryFolder(toy_run.library).state().train  # type: ignore[union-attr]
    manifest.write_text(text.replace(output, "feedfeedfeedfeed"))
    with pytest.raises(WorkspaceError, match="was embedded by model"):
        Retriever.load(toy_run)
    extract = StandInExtraction()
    summary = ingest(toy_run, clips, extract=extract)
    assert (summary.videos, extract.read) == (13, [])
    assert len(rows(toy_run)) == 13


def test_it_goes_on_where_it_was_cut_off(toy_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "BATCH", 2)
    for seed in range(5):
        make_clip(tmp_path / "clips" / f"{seed}.mp4", seed)

    def interrupt(video_id: str) -> None:
        if video_id == "clips/3":
            raise KeyboardInterrupt

    cut_off = StandInExtraction(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        ingest(toy_run, tmp_path / "clips", extract=cut_off)
    assert {"clips/0", "clips/1"} <= rows(toy_run).keys()
    rest = StandInExtraction()
    ingest(toy_run, tmp_path / "clips", extract=rest)
    assert sorted(cut_off.read + rest.read) == [f"clips/{seed}" for seed in range(5)]
    assert len(rows(toy_run)) == 15


def test_a_replaced_file_is_read_again_though_the_second_reading_was_cut_off(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    make_clip(clips / "snow.mp4", 77, 9)

    def interrupt(video_id: str) -> None:
        raise KeyboardInterrupt(video_id)

    with pytest.raises(KeyboardInterrupt):
        ingest(toy_run, clips, extract=StandInExtraction(before=interrupt))
    assert "clips/snow" in rows(toy_run)
    ingest(toy_run, clips)
    assert np.allclose(rows(toy_run)["clips/snow"], embedded(toy_run, clips / "snow.mp4"), atol=1e-6)


def test_a_retriever_follows_the_library(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    retriever = Retriever.load(toy_run)
    generation = retriever.generation
    assert not retriever.refresh()
    make_clip(clips / "new.mp4", 9)
    ingest(toy_run, clips)
    assert retriever.refresh()
    assert retriever.generation != generation
    assert retriever.num_videos == 14


class Script:
    """Stands for waiting: does one thing after the other, and interrupts at the end."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)

    def __call__(self, _: float) -> None:
        if not self._steps:
            raise KeyboardInterrupt
        self._steps.pop(0)()


def test_watching_waits_until_a_file_rests(toy_run: Run, clips: Path) -> None:
    extract = StandInExtraction()
    seen: list[int] = []
    path = clips / "late.mp4"

    def nothing() -> None:
        seen.append(sum(video_id == "clips/late" for video_id in extract.read))

    def grow() -> None:
        nothing()
        make_clip(path, 4, 5 + len(seen))

    def break_in() -> None:
        nothing()
        make_clip(clips / "bad.mp4", 8, fails=True)
        os.utime(clips / "snow.mp4")

    script = Script(nothing, grow, grow, nothing, nothing, break_in, nothing, nothing)
    told: list[IngestSummary] = []
    with pytest.raises(KeyboardInterrupt):
        watch(Ingestion(toy_run, extract, device="cpu"), Request((clips,)), wait=script, tell=told.append)
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [summary.new for summary in told][:2] == [3, 1]
    assert told[-1].failed == ["clips/bad: is no video"]
    assert "clips/late" in rows(toy_run)


def test_what_goes_wrong_does_not_end_the_watch(toy_run: Run, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = LibraryFolder(toy_run.library)
    held = library.locked()

    def free() -> None:
        held.__exit__(None, None, None)

    held.__enter__()
    with pytest.raises(KeyboardInterrupt):
        watch(
            Ingestion(toy_run, StandInExtraction(), device="cpu"),
            Request((clips,)),
            wait=Script(lambda: None, lambda: None, free, lambda: None),
        )
    assert capsys.readouterr().err.count("is already at it") == 1
    assert "clips/snow" in rows(toy_run)
