"""What is known of videos: durations, speech, and the words that fit a moment and a query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vtr.retrieval import Filters, Moment, Snippet
from vtr.retrieval.facts import Facts, RowFacts, telling_words
from vtr.retrieval.finds import describe
from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.types import Annotations, ExpertFeatures, ExpertSpec, Modality, Video

NO_TIME = float("nan")
SAID = {"a": ("a man cooks soup", "now the dog barks", "bye"), "b": ("  ",), "c": ("hello",)}
SHOWN = {"a": ("DOG SHOW 2019", "the end"), "d": ("EXIT",)}
TIMES = {
    ("speech", "a"): [(0.0, 2.0), (3.0, 5.0), (9.0, 12.5)],
    ("speech", "b"): [(0.0, 1.0)],
    ("speech", "c"): [(NO_TIME, NO_TIME)],
    ("ocr", "a"): [(6.0, 8.0), (11.0, 14.0)],
    ("ocr", "d"): [(1.0, 2.0)],
}


def put(
    root: Path, name: str, modality: Modality, texts: dict[str, tuple[str, ...]] | None, own: str | None = None
) -> None:
    """Write one expert's features, of three numbers each."""
    spec = ExpertSpec(name, 3, modality, None, "made-up")
    rows = []
    for video_id in texts or ("a", "d"):
        kept = "ocr" if texts is SHOWN else "speech" if texts is SAID else ""
        spans = TIMES.get((kept, video_id), [(0.0, 1.0), (1.0, 3.5)])
        starts, ends = (np.array(edge, np.float32) for edge in zip(*spans, strict=True))
        values = np.ones((len(spans), 3), np.float32)
        rows.append(encode_row(video_id, ExpertFeatures(values, starts, ends), texts and texts[video_id], "float32"))
    checksum = write_shard(root / name / "part-0.parquet", spec, rows, ["a", "b", "c", "d", "e"], {})
    config = {"own": {"kind": own}}
    counts = {"examined": 5, "present": len(rows)}
    by_shard = {"part-0.parquet": [5, len(rows)]}
    folder, shards = root / name, {"part-0.parquet": checksum}
    write_expert_manifest(folder, spec, shards, inputs={}, config=config, counts=counts, counts_by_shard=by_shard)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    put(tmp_path, "speech", "text", SAID)
    put(tmp_path, "ocr", "text", SHOWN)
    put(tmp_path, "appearance", "image", None)
    return FeatureStore(tmp_path)


@pytest.fixture
def annotations() -> Annotations:
    bounds = {"e": (5.0, 12.0)}
    return Annotations(tuple(Video(name, None, *bounds.get(name, (None, None)), None, "x") for name in "abcdef"), ())


def test_durations_and_speech(store: FeatureStore, annotations: Annotations) -> None:
    facts = Facts(annotations, store)
    durations = {name: facts.duration_seconds(name) for name in "abcdef"}
    assert durations == {"a": 14.0, "b": 1.0, "c": None, "d": 3.5, "e": 7.0, "f": None}
    assert [facts.has_speech(name) for name in "abcdef"] == [True, True, True, False, False, False]
    rows = RowFacts(facts, tuple("fedcba"))
    assert rows.categories == {"x": 6}
    assert rows.has_durations and rows.has_speech
    assert rows.mask(Filters(min_seconds=3.5)).tolist() == [False, True, True, False, False, True]
    assert rows.mask(Filters(max_seconds=7, has_speech=False)).tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("video_id", "moment", "query", "snippet"),
    [
        ("a", Moment(0, 2), "", ("a man cooks soup", "speech", 0.0)),
        ("a", Moment(4, 6), "", ("now the dog barks", "speech", 3.0)),
        ("a", Moment(6.5, 7), "", ("DOG SHOW 2019", "ocr", 6.0)),
        ("a", Moment(6.5, 7), "a man and the soup", ("a man cooks soup", "speech", 0.0)),  # words before nearness
        ("a", Moment(9, 10), "where is the DOG?", ("DOG SHOW 2019", "ocr", 6.0)),  # of two with the word, the nearest
        ("a", Moment(9, 10), "the", ("bye", "speech", 9.0)),  # a word that says nothing
        ("a", None, "", ("a man cooks soup", "speech", 0.0)),
        ("b", Moment(0, 1), "", None),  # nothing but spaces
        ("c", Moment(0, 1), "hello", ("hello", "speech", None)),
        ("d", None, "", ("EXIT", "ocr", 1.0)),
        ("e", None, "", None),
    ],
)
def test_the_snippet_shares_words_with_the_query_or_is_near(
    store: FeatureStore,
    annotations: Annotations,
    video_id: str,
    moment: Moment | None,
    query: str,
    snippet: tuple[str, str, float | None] | None,
) -> None:
    found = Facts(annotations, store).snippet(video_id, moment, query)
    assert found == (None if snippet is None else Snippet(*snippet))


def test_of_snippets_as_near_the_expert_that_counted_most_speaks(store: FeatureStore, annotations: Annotations) -> None:
    facts = Facts(annotations, store)
    near = Moment(0, 10)
    for shares, expert in (({"ocr": 0.3, "speech": 0.1}, "ocr"), ({"ocr": -0.1, "speech": 0.1}, "speech")):
        assert (found := facts.snippet("a", near, "", shares)) is not None
        assert found.expert == expert
    words_first = facts.snippet("a", near, "a man and the soup", {"ocr": 0.3})
    assert words_first is not None
    assert words_first.expert == "speech"


def test_words_that_tell() -> None:
    assert telling_words("A man is Cooking the SOUP, señor!") == {"man", "cooking", "soup", "señor"}


def test_without_a_store_only_annotations_speak(annotations: Annotations) -> None:
    facts = Facts(annotations)
    assert (facts.duration_seconds("e"), facts.duration_seconds("a")) == (7.0, None)
    assert facts.snippet("a", None, "x") is None
    assert not facts.hears


def test_an_expert_of_ones_own_that_hears_words(tmp_path: Path, annotations: Annotations) -> None:
    put(tmp_path, "my_ears", "text", SAID, own="speech")
    assert Facts(annotations, FeatureStore(tmp_path)).has_speech("a")
    put(tmp_path / "other", "my_eyes", "text", SHOWN, own=None)
    assert not Facts(annotations, FeatureStore(tmp_path / "other")).hears


def test_what_can_be_found_is_said(store: FeatureStore) -> None:
    everything = describe(("appearance", "ocr", "speech"), store)
    assert everything == (
        "Words find videos by what is seen (appearance), words spoken (speech) and words on screen (ocr). "
        "They cannot find what is heard."
    )
    assert describe(("speech",), None) == (
        "Words find videos by words spoken (speech). They cannot find what is seen, what is heard or words on screen."
    )
    assert (
        describe(("rgb", "ocr"), None)
        == "Words find videos by words on screen (ocr) and what else experts found (rgb)."
    )


def test_times_equal_the_features_that_are_read(store: FeatureStore) -> None:
    for expert in store.experts:
        times, features = store.times(expert), store.read(expert)
        assert set(times.row_of) == set(features)
        for video_id, held in features.items():
            starts, ends = times.of_video(video_id) or (None, None)
            np.testing.assert_array_equal(starts, held.start_seconds)
            np.testing.assert_array_equal(ends, held.end_seconds)
        known = {name: np.nanmax(f.end_seconds) for name, f in features.items() if not np.isnan(f.end_seconds).all()}
        assert times.last_seconds() == known
        assert times.of_video("nobody") is None
    assert json.dumps(store.times("ocr").last_seconds())  # plain numbers


def test_no_rows_have_no_times(tmp_path: Path) -> None:
    spec = ExpertSpec("face", 3, "image", None, "made-up")
    checksum = write_shard(tmp_path / "face" / "part-0.parquet", spec, [], ["a"], {})
    counts = {"examined": 1, "present": 0}
    by_shard = {"part-0.parquet": [1, 0]}
    shards = {"part-0.parquet": checksum}
    write_expert_manifest(
        tmp_path / "face", spec, shards, inputs={}, config={}, counts=counts, counts_by_shard=by_shard
    )
    store = FeatureStore(tmp_path)
    assert store.times("face").last_seconds() == {}
    assert store.read("face", ["a"]) == {}
