"""Reading a matrix and its orders: files written by numpy and by hand, broken in every way, and MSR-VTT's own lists."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtr.annotations.ids import read_ids
from vtr.errors import InputError
from vtr.evaluation.orders import check_shape, place_rows, read_scores


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_matrix_keeps_its_values_and_type(tmp_path: Path, dtype: type[Any]) -> None:
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype)
    np.save(tmp_path / "scores.npy", values)
    np.savez(tmp_path / "alone.npz", anything=values)
    np.savez_compressed(tmp_path / "named.npz", sims=values, ids=np.arange(3))
    for name in ("scores.npy", "alone.npz", "named.npz"):
        found = read_scores(tmp_path / name)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)


def test_a_npy_file_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.zeros((2, 2), np.float32))
    found = read_scores(tmp_path / "scores.npy")
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1.0


def test_integers_and_foreign_byte_order_become_ordinary_floats(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.asarray([[1, -2], [1 << 24, 0]]))
    np.save(tmp_path / "big.npy", np.asarray([[1.5, -2.0]], ">f4"))
    whole, big = read_scores(tmp_path / "whole.npy"), read_scores(tmp_path / "big.npy")
    assert whole.dtype == np.float32 and whole.tolist() == [[1.0, -2.0], [16777216.0, 0.0]]
    assert big.dtype == np.dtype("=f4") and big.dtype.isnative and big.tolist() == [[1.5, -2.0]]


def test_nan_is_left_for_the_ranks_to_report(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.full((1, 2), np.nan))
    assert np.isnan(read_scores(tmp_path / "scores.npy")).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), "has shape 3, a matrix"),
        (np.zeros((2, 2, 1)), "has shape 2 x 2 x 1, a matrix"),
        (np.float32(1), r"has shape \(\), a matrix"),
        (np.zeros((0, 4)), "has shape 0 x 4, a matrix that is not empty"),
        (np.zeros((2, 2), np.complex64), "holds complex64, float16"),
        (np.zeros((2, 2), np.longdouble), "holds float128, float16"),
        (np.zeros((2, 2), bool), "holds bool, float16"),
        (np.asarray([["a", "b"]]), "holds <U1, float16"),
        (np.asarray([[1, (1 << 24) + 1]]), "integers beyond 16777216"),
        (np.asarray([[-(1 << 24) - 1, 1]]), "integers beyond 16777216"),
    ],
)
def test_other_arrays_are_an_error(tmp_path: Path, values: Any, message: str) -> None:
    np.save(tmp_path / "scores.npy", values)
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "scores.npy")


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.asarray([[{"a": 1}]], object), allow_pickle=True)
    np.savez(tmp_path / "array.npz", np.asarray([[{"a": 1}]], object))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps({"a": 1}))
    for name in ("array.npy", "array.npz", "raw.npy"):
        with pytest.raises(InputError, match=f"{name} is not a whole NumPy file of numbers"):
            read_scores(tmp_path / name)


def test_broken_and_missing_files_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((40, 40)))
    np.savez(tmp_path / "whole.npz", np.zeros((40, 40)))
    for name in ("whole.npy", "whole.npz"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("whole.npy", "whole.npz", "empty.npy"):
        with pytest.raises(InputError, match="not a whole NumPy file"):
            read_scores(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_scores(tmp_path / "absent.npy")
    with pytest.raises(InputError, match=r"ends in '.mat', a .npy or .npz file"):
        read_scores(tmp_path / "scores.mat")


def test_an_archive_of_several_arrays_must_name_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros((1, 1)), b=np.zeros((1, 1)))
    np.savez(tmp_path / "both.npz", scores=np.zeros((1, 1)), sims=np.zeros((1, 1)))
    np.savez(tmp_path / "none.npz")
    for name, held in (("two.npz", "a, b"), ("both.npz", "scores, sims"), ("none.npz", r"\(none\)")):
        with pytest.raises(InputError, match=f"holds the arrays {held}; a single one"):
            read_scores(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "\ufeffb\n a\t\n\nmy cat\n"),
        ("ids.csv", "\ufeffkey,Video_ID , sentence\nret0,b,one\nret1, a ,two\n\nret2,my cat,three\n"),
        ("quoted.csv", 'sentence,id\r\n"one, two",b\r\n"three\nfour",a\r\nfive,"my cat"\r\n'),
        ("ids.json", '["b", "a", "my cat"]'),
        ("IDS.TXT", "b\r\na\r\nmy cat"),
    ],
)
def test_an_order_is_read_as_it_stands(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_ids(tmp_path / name) == ("b", "a", "my cat")


def test_caption_ids_come_before_video_ids(tmp_path: Path) -> None:
    heads = ["key", "id", "video_id", "query_id", "caption_id"]
    while heads:
        (tmp_path / "ids.csv").write_text(",".join(heads) + "\n" + ",".join(f"a {head}" for head in heads) + "\n")
        assert read_ids(tmp_path / "ids.csv") == (f"a {heads.pop()}",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", b" \n\n", "is empty"),
        ("ids.csv", b"id\n", "is empty"),
        ("ids.json", b"[]", "is empty"),
        ("ids.txt", b"a\n\nb\na\n", r"more than once: 'a' \(lines 1 and 4\)"),
        ("ids.csv", b"id\na\nb\nb\n", r"more than once: 'b' \(lines 3 and 4\)"),
        ("ids.json", b'["a", "b", "a"]', r"more than once: 'a' \(entry numbers 1 and 3\)"),
        ("ids.txt", b"a\n\xff\xfe\n", "is not text"),
        ("ids.csv", b"", r"the columns are \(none\); one of caption_id"),
        ("ids.csv", b"name,text\na,b\n", "the columns are name, text; one of caption_id"),
        ("ids.csv", b"text,id\none,a\ntwo\nthree,\n", "no id in lines 3, 4"),
        ("ids.csv", b"id\n" + b"a" * 200_000, "line 2: not a CSV"),
        ("ids.json", b'["a", ""]', "no id in entry numbers 2"),
        ("ids.json", b'["a"', "not whole JSON"),
        ("ids.json", b'{"a": 1}', "not a JSON list of strings"),
        ("ids.json", b'["a", 1]', "not a JSON list of strings"),
        ("ids.npy", b"a", "ends in '.npy'. A list of ids"),
    ],
)
def test_a_broken_order_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ids(tmp_path / name)


def test_a_missing_order_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.txt cannot be read: No such file"):
        read_ids(tmp_path / "absent.txt")


def test_rows_are_found_by_id_and_by_alias() -> None:
    expected = ["v0#3", "v1#0", "v2#7", "v3#1"]
    aliases = {name.split("#")[0]: name for name in expected}
    order = ["v2", "v0#3", "v3", "v1#0"]
    rows = place_rows(order, expected, aliases, what="queries", source="order.txt")
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, 3, 0, 2]


def test_a_matrix_is_put_into_the_splits_order() -> None:
    generator = np.random.default_rng(0)
    expected = [f"video{number}" for number in range(50)]
    shuffled = generator.permutation(50)
    matrix = generator.normal(size=(50, 50))
    rows = place_rows([expected[i] for i in shuffled], expected, {}, what="videos", source="order.txt")
    np.testing.assert_array_equal(matrix[shuffled][rows], matrix)


def test_an_expected_id_is_not_taken_for_an_alias() -> None:
    assert place_rows(["b", "a"], ["a", "b"], {"a": "b"}, what="videos", source="o").tolist() == [1, 0]


def test_missing_ids_may_be_allowed() -> None:
    rows = place_rows(["c", "a"], ["a", "b", "c"], {}, what="videos", source="o", allow_missing=True)
    assert rows.tolist() == [1, -1, 0]
    with pytest.raises(InputError, match=r"1 unknown \(x\)"):
        place_rows(["c", "x"], ["a", "b", "c"], {}, what="videos", source="o", allow_missing=True)


def test_what_is_not_a_permutation_is_an_error_that_names_the_ids() -> None:
    expected = [f"v{number}" for number in range(9)]
    with pytest.raises(InputError) as caught:
        place_rows(["v0", "v0", "x", "alias"], expected, {"alias": "y"}, what="videos", source="order.txt")
    assert str(caught.value).startswith(
        "order.txt is not a permutation of the split's 9 videos: 8 missing (v1, v2, v3, v4, v5 and 3 more); "
        "2 unknown (x, alias); 1 there twice (v0). "
    )


@pytest.mark.parametrize(("order", "named"), [(["a", "a#0"], "a and a#0"), (["b", "a"], "b and a")])
def test_two_names_of_one_id_are_an_error(order: list[str], named: str) -> None:
    with pytest.raises(InputError, match=rf"1 there twice \(a#0 as {named}\)"):
        place_rows(order, ["a#0"], {"a": "a#0", "b": "a#0"}, what="queries", source="order.txt")


def test_a_shape_that_fits_passes() -> None:
    check_shape((20, 5), 20, 5, source="scores.npy", split="full test")
    check_shape((5, 5), 5, 5, source="scores.npy", split="1k-A test")


@pytest.mark.parametrize("shape", [(19, 5), (20, 6), (20,), (20, 5, 1), ()])
def test_a_shape_that_does_not_fit_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        check_shape(shape, 20, 5, source="scores.npy", split="full test")
    message = str(caught.value)
    assert "20 x 5 was expected: full test has 20 queries and 5 videos" in message
    assert message.startswith("scores.npy has shape ") and "transposed" not in message


def test_a_transposed_shape_is_recognised() -> None:
    with pytest.raises(InputError, match=r"has shape 5 x 20, 20 x 5 .* looks transposed: .* pass --transposed"):
        check_shape((5, 20), 20, 5, source="scores.npy", split="full test")


def test_the_queries_of_1k_a_are_a_permutation_of_its_videos(shared: Path) -> None:
    """The CSV's video_id column, read by hand, against val_list_jsfusion.txt, which has another order."""
    splits = shared / "msrvtt/splits"
    queries, videos = (read_ids(splits / name) for name in ("MSRVTT_JSFUSION_test.csv", "val_list_jsfusion.txt"))
    with (splits / "MSRVTT_JSFUSION_test.csv").open(newline="") as stream:
        by_hand = [row["video_id"] for row in csv.DictReader(stream)]
    assert list(queries) == by_hand and len(set(queries)) == 1000
    assert queries[:2] == ("video9770", "video9771") and queries != videos
    captions = [f"{video}#0" for video in videos]
    aliases = dict(zip(videos, captions, strict=True))
    rows = place_rows(queries, captions, aliases, what="queries", source="MSRVTT_JSFUSION_test.csv")
    assert [by_hand[row] for row in rows] == list(videos)
    with pytest.raises(InputError, match=r"1000 missing .* 1000 unknown"):
        place_rows([f"ret{number}" for number in range(1000)], captions, aliases, what="queries", source="keys")


def test_orders_survive_a_round_trip_through_json(tmp_path: Path) -> None:
    ids = ("日本", "my cat", 'quo"ted', "100%")
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    assert read_ids(tmp_path / "ids.json") == ids
