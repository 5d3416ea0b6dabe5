"""Hashed parts, one query a video, held-out validation: against plain statements of what they promise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtr.annotations.splits import (
    check_disjoint,
    hashed_split,
    hold_out,
    one_caption_a_video,
    place,
    read_list,
    words,
)
from vtr.errors import InputError
from vtr.types import PARTS, Annotations, Caption, Split, Video


def collection(count: int, captions: int = 2, clips: int = 1) -> Annotations:
    """`clips` videos share each source."""
    videos = tuple(Video(f"v{n}", source_id=f"s{n // clips}" if clips > 1 else None) for n in range(count))
    texts = tuple(Caption(f"{v.id}#{k}", v.id, f"{v.id} {k}") for v in videos for k in range(captions))
    return Annotations(videos, texts)


def test_place_is_the_sha256_of_salt_and_key() -> None:
    digest = hashlib.sha256(b"part:video7").hexdigest()
    assert place("video7", "part") == int(digest[:16], 16) / 2**64


def test_parts_are_about_80_10_10_and_hold_every_video_once() -> None:
    split = hashed_split("folder", collection(5000))
    assert sorted(v for part in PARTS for v in split.part(part)) == sorted(f"v{n}" for n in range(5000))
    assert len(split.test) / 5000 == pytest.approx(0.1, abs=0.02)
    assert len(split.validation) / 5000 == pytest.approx(0.1, abs=0.02)
    assert split.query_caption_ids is None


def test_a_video_keeps_its_part_when_others_are_added() -> None:
    few, many = hashed_split("folder", collection(300)), hashed_split("folder", collection(1000))
    for part in PARTS:
        assert set(few.part(part)) <= set(many.part(part))


def test_clips_of_one_source_stay_together() -> None:
    split = hashed_split("folder", collection(400, clips=4))
    part_of = {video_id: part for part in PARTS for video_id in split.part(part)}
    for source in range(100):
        assert len({part_of[f"v{4 * source + clip}"] for clip in range(4)}) == 1


@given(st.sets(st.text(min_size=1), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_small_collections_have_all_parts(ids: set[str]) -> None:
    split = hashed_split("folder", Annotations(tuple(Video(video_id) for video_id in sorted(ids)), ()))
    sizes = [len(split.part(part)) for part in PARTS]
    assert sum(sizes) == len(ids)
    if len(ids) >= 3:
        assert min(sizes) >= 1


def test_one_query_a_video_is_fixed_spread_and_skips_videos_without_captions() -> None:
    annotations = Annotations((*collection(200, 5).videos, Video("bare")), collection(200, 5).captions)
    ids = tuple(f"v{n}" for n in range(200))
    single = one_caption_a_video(Split("x", (), ids[:100], (*ids[100:], "bare")), annotations)
    assert single.name == "x-single"
    queries = single.queries("validation", annotations) + single.queries("test", annotations)
    assert [caption.video_id for caption in queries] == list(ids)
    places = [int(caption.id.split("#")[1]) for caption in queries]
    digests = [hashlib.sha256(f"query:{video_id}".encode()).digest() for video_id in ids]
    assert places == [int.from_bytes(d[:8], "big") * 5 // 2**64 for d in digests]
    assert set(places) == set(range(5))


def test_hold_out_takes_the_lowest_hashes_from_train_only() -> None:
    split = Split("x", tuple(f"v{n}" for n in range(100)), (), ("t",))
    held = hold_out(split, 10)
    by_hash = sorted(split.train, key=lambda v: hashlib.sha256(f"holdout:{v}".encode()).digest())
    assert set(held.validation) == set(by_hash[:10])
    assert held.train == tuple(v for v in split.train if v not in by_hash[:10])
    assert (held.name, held.test) == ("x-holdout", ("t",))


def test_words_ignores_spacing_punctuation_and_case_only() -> None:
    assert words("A  t-shirted man's hat.") == words("a t shirted mans hat")
    assert words("a man") != words("a men")


def test_lists_tolerate_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\n\r\n b \r\n")
    assert read_list(path, {"a", "b"}) == ("a", "b")


def test_unreadable_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt cannot be read: No such file"):
        read_list(tmp_path / "none.txt", {"a"})
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_list(tmp_path, {"a"})
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"list\.txt is not text"):
        read_list(path, {"a"})


def test_overlap_names_both_files() -> None:
    with pytest.raises(InputError, match=r"one and three overlap in 2 videos: b, a\."):
        check_disjoint({Path("one"): ["a", "b"], Path("two"): ["c"], Path("three"): ["b", "d", "a"]})
