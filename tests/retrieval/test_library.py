"""The library on disk: its index is always whole, holds exactly what was put in, and outlives killed changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.files import write_json
from vtr.retrieval import library as module
from vtr.retrieval.library import Item, LibraryFolder
from vtr.retrieval.taken import chosen_rows
from vtr.similarity import score_matrix

MakePart = Callable[..., EmbeddedPart]


def items_of(part: EmbeddedPart, made_from: str = "a") -> list[Item]:
    return [Item(row_id, row_id, None, None, made_from) for row_id in part.videos.ids]


def some(part: EmbeddedPart, rows: Sequence[int]) -> EmbeddedPart:
    return chosen_rows(part, [part.videos.ids[row] for row in rows])


def held(library: LibraryFolder) -> dict[str, np.ndarray]:
    """Return row id -> vectors, and caption id -> vectors, of what a reader sees."""
    part = library.open("model").indexed.index.part
    found = dict(zip(part.videos.ids, part.videos.vectors.numpy(), strict=True))
    assert len(found) == len(part.videos.ids)
    return found | dict(zip(part.texts.ids, part.texts.vectors.numpy(), strict=True))


def wanted(part: EmbeddedPart) -> dict[str, np.ndarray]:
    found = dict(zip(part.videos.ids, part.videos.vectors.numpy(), strict=True))
    return found | dict(zip(part.texts.ids, part.texts.vectors.numpy(), strict=True))


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found)


def test_batches_make_what_one_part_would(tmp_path: Path, make_part: MakePart) -> None:
    whole, library = make_part(30, 2, missing=0.2), LibraryFolder(tmp_path / "library")
    for at in range(0, 30, 10):
        part = some(whole, range(at, at + 10))
        library.add(part, items_of(part), "model")
    opened = library.open("model").indexed
    assert opened.index.part.videos.ids == whole.videos.ids
    assert opened.index.part.video_of_text.tolist() == whole.video_of_text.tolist()
    assert opened.index.part.texts_plain == whole.texts_plain
    scores = score_matrix(whole.texts, whole.videos).numpy()
    found = opened.index.videos_for(whole.texts, 5)
    assert np.allclose(found.scores, -np.sort(-scores, axis=1)[:, :5], atol=1e-6)
    assert np.allclose(np.take_along_axis(scores, found.rows, 1), found.scores, atol=1e-6)


def test_a_video_that_comes_again_is_replaced_with_its_captions(tmp_path: Path, make_part: MakePart) -> None:
    old, new, library = make_part(6, 2, seed=1), make_part(6, 1, seed=2), LibraryFolder(tmp_path / "library")
    library.add(old, items_of(old), "model")
    library.add(some(new, [1, 4]), items_of(some(new, [1, 4]), "b"), "model")
    assert same(held(library), wanted(some(old, [0, 2, 3, 5])) | wanted(some(new, [1, 4])))
    made_from = {item.row_id: item.made_from for item in library.items(library.state()).values()}
    assert made_from == {f"video{n}": "b" if n in (1, 4) else "a" for n in range(6)}


def test_what_is_dropped_is_never_found(tmp_path: Path, make_part: MakePart) -> None:
    part, library = make_part(8, 2), LibraryFolder(tmp_path / "library")
    library.add(part, items_of(part), "model")
    library.drop(["video2", "video5"])
    assert same(held(library), wanted(some(part, [0, 1, 3, 4, 6, 7])))
    library.drop(list(part.videos.ids))
    assert library.counts()["videos"] == 0
    library.add(part, items_of(part), "model")
    assert same(held(library), wanted(part))


def test_many_small_parts_become_one(tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 4)
    whole, library = make_part(12, 1), LibraryFolder(tmp_path / "library")
    for row in range(12):
        library.add(some(whole, [row]), items_of(some(whole, [row])), "model")
    assert same(held(library), wanted(whole))
    state = library.state()
    assert state is not None
    assert len(state.parts) <= 4
    assert len(list((tmp_path / "library" / "embeddings").iterdir())) <= 4 + module.STATES_KEPT


def test_rows_of_another_model_give_way(tmp_path: Path, make_part: MakePart) -> None:
    old, new, library = make_part(4, seed=1), make_part(3, seed=2), LibraryFolder(tmp_path / "library")
    library.add(old, items_of(old), "before")
    with pytest.raises(WorkspaceError, match=r"embedded by model before.*vtr ingest"):
        library.open("model")
    library.add(new, items_of(new), "model")
    assert same(held(library), wanted(new))


def test_a_change_that_was_killed_is_not_seen_and_is_tidied(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, library = make_part(4, seed=1), make_part(9, seed=2), LibraryFolder(tmp_path / "library")
    library.add(first, items_of(first), "model")
    before = sorted((tmp_path / "library" / "embeddings").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(module, "add_videos", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            library.add(second, items_of(second), "model")
    assert same(held(library), wanted(first))
    assert sorted((tmp_path / "library" / "embeddings").iterdir()) != before
    library.mend()
    assert sorted((tmp_path / "library" / "embeddings").iterdir()) == before
    assert same(held(library), wanted(first))


def test_an_index_that_is_gone_is_made_again(tmp_path: Path, make_part: MakePart) -> None:
    part, library = make_part(5), LibraryFolder(tmp_path / "library")
    library.add(part, items_of(part), "model")
    for file in library.index.rglob("*"):
        if file.is_file():
            file.unlink()
    assert library.output() is None
    library.mend()
    assert same(held(library), wanted(part))


def test_a_reader_begins_anew_when_the_library_changes_under_it(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, library = make_part(4, seed=1), make_part(9, seed=2), LibraryFolder(tmp_path / "library")
    library.add(first, items_of(first), "model")
    real, changed = LibraryFolder._read_state, []

    def read(self: LibraryFolder, path: Path) -> module.State:
        state = real(self, path)
        if not changed:
            changed.append(True)
            library.add(second, items_of(second), "model")
        return state

    monkeypatch.setattr(LibraryFolder, "_read_state", read)
    assert same(held(library), wanted(second))


def test_a_damaged_state_is_named(tmp_path: Path, make_part: MakePart) -> None:
    part, library = make_part(4), LibraryFolder(tmp_path / "library")
    library.add(part, items_of(part), "model")
    write_json(tmp_path / "library" / "states" / f"{library.output()}.json", {"format": 1})
    with pytest.raises(WorkspaceError, match="is damaged"):
        library.open("model")


def test_windows_are_told(tmp_path: Path, make_part: MakePart) -> None:
    part, library = make_part(3, 0), LibraryFolder(tmp_path / "library")
    renamed = replace(part.videos, ids=("a", "b@0-30", "b@30-61"), vectors=torch.clone(part.videos.vectors))
    stretches = [(None, None), (0.0, 30.0), (30.0, 61.0)]
    items = [Item(i, i[0], start, end, "x") for i, (start, end) in zip(renamed.ids, stretches, strict=True)]
    library.add(replace(part, videos=renamed), items, "model")
    opened = library.open("model").items
    assert {key: (s.video_id, s.start_seconds, s.end_seconds) for key, s in opened.items()} == {
        "b@0-30": ("b", 0.0, 30.0),
        "b@30-61": ("b", 30.0, 61.0),
    }
