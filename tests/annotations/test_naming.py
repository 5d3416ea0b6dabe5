"""Ids of a folder's videos: unique, and those that are known stay, whatever files come and go."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtr.annotations.locators import Locator
from vtr.annotations.naming import Candidate, choose_ids
from vtr.errors import InputError
from vtr.types import Video

FILES = st.frozensets(
    st.sampled_from([f"{stem}.{suffix}" for stem in ("a", "s/a", "b") for suffix in ("avi", "mkv", "mp4")])
)


def ids_of(files: frozenset[str], known: dict[str, str]) -> dict[str, str]:
    """Return id -> file."""
    ordered = sorted(files)
    found = [Candidate((str(PurePosixPath(file).with_suffix("")), file), Locator(f"/v/{file}")) for file in ordered]
    chosen = choose_ids(found, [Video(video_id, f"/elsewhere/{file}") for video_id, file in known.items()])
    return dict(zip(chosen, ordered, strict=True))


@given(st.lists(FILES, min_size=1, max_size=6))
def test_a_file_that_stays_keeps_its_id(steps: list[frozenset[str]]) -> None:
    known: dict[str, str] = {}
    for files in steps:
        now = ids_of(files, known)
        assert sorted(now.values()) == sorted(files)  # none has the id of another
        assert all(now[video_id] == file for video_id, file in known.items() if file in files)
        known = now


@given(FILES)
def test_in_a_new_workspace_only_those_that_clash_have_a_suffix(files: frozenset[str]) -> None:
    for video_id, file in ids_of(files, {}).items():
        alone = sum(other.rpartition(".")[0] == file.rpartition(".")[0] for other in files) == 1
        assert video_id == (file.rpartition(".")[0] if alone else file)


def test_what_comes_beside_files_with_suffixes_has_one_too() -> None:
    known = ids_of(frozenset({"a.avi", "a.mp4"}), {})
    assert ids_of(frozenset({"a.avi", "a.mp4", "a.mkv"}), known) == {name: name for name in ("a.avi", "a.mp4", "a.mkv")}


def test_the_id_of_a_video_that_has_left_is_no_other_ones() -> None:
    def chosen(*suffixes: str) -> list[str]:
        found = [Candidate(("a", f"a.{suffix}"), Locator(f"/v/a.{suffix}")) for suffix in suffixes]
        return choose_ids(found, [Video("a.avi", "/v/a.avi")], [Video("a", "/v/a.mp4")])

    assert chosen("mkv") == ["a.mkv"]
    assert chosen("mkv", "mp4", "avi") == ["a.mkv", "a", "a.avi"]


def test_what_cannot_be_told_apart_is_refused_with_all_names() -> None:
    with pytest.raises(InputError, match=r"/v/a\.mp4 and /v/a\.mp4\.avi would both be the video 'a\.mp4'\. Rename"):
        ids_of(frozenset({"a.mp4", "a.mkv", "a.mp4.avi"}), {"a.mp4": "a.mp4.avi"})


def test_links_to_files_of_one_name_are_told_apart_by_where_they_lead() -> None:
    found = [Candidate(("a", f"a.{suffix}"), Locator(f"/{suffix}/data")) for suffix in ("avi", "mp4")]
    assert choose_ids(found, [Video("a", "/mp4/data")]) == ["a.avi", "a"]
    assert choose_ids(found, [Video("a", "/avi/data")]) == ["a", "a.mp4"]
