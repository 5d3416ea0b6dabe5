"""Shards, whatever interrupts their writing and however the collection grows."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from spooled import SPECS, contents, extract, features_of, files, finds_of, spooled, videos

from feature_extraction.ledger import Failure, Ledger
from feature_extraction.plan import Plan, make_groups, read_groups
from feature_extraction.shaping import differences
from feature_extraction.shards import ShardWriter, recorded_config, shaping_settings
from feature_extraction.spool import Spool, Spooled, spec_fingerprint
from vtr.errors import ConfigError, WorkspaceError
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def test_a_collection_that_grows_adds_files_and_rewrites_none(workspace: Workspace) -> None:
    before: dict[str, bytes] = {}
    for count in (10, 11, 19, 30):
        extract(workspace, videos(*range(count)))
        now = files(workspace.features)
        assert before.items() <= now.items()
        assert len(now) > len(before)
        before = now
    store = FeatureStore(workspace.features)
    for expert in SPECS:
        assert store.verify(expert) == []
        found = {f"v{n}": features_of(f"v{n}", expert) for n in range(30)}
        assert set(store.read(expert)) == {video_id for video_id, features in found.items() if features is not None}


def test_groups_follow_the_hash_of_the_ids_and_not_the_order_they_come_in(tmp_path: Path) -> None:
    groups = make_groups(tmp_path / "a", videos(*range(10)), 4)
    assert [len(group.ids) for group in groups] == [4, 4, 2]
    ids = [video_id for group in groups for video_id in group.ids]
    assert ids == sorted(ids, key=lambda video_id: hashlib.sha256(video_id.encode()).hexdigest())
    assert make_groups(tmp_path / "b", videos(*reversed(range(10))), 4) == groups
    assert make_groups(tmp_path / "a", videos(*range(10)), 7) == groups  # what is planned stays
    assert make_groups(tmp_path / "a", videos(3), 4) == groups


def test_a_plan_cut_short_anywhere_is_planned_on_alike(tmp_path: Path) -> None:
    groups = make_groups(tmp_path, videos(*range(20)), 4)
    whole = (tmp_path / "plan.jsonl").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "plan.jsonl").write_bytes(whole[:length])
        assert make_groups(tmp_path, videos(*range(20)), 4) == groups
        assert (tmp_path / "plan.jsonl").read_bytes() == whole


def test_a_plan_damaged_in_its_middle_is_named(tmp_path: Path) -> None:
    make_groups(tmp_path, videos(*range(20)), 4)
    text = (tmp_path / "plan.jsonl").read_text()
    (tmp_path / "plan.jsonl").write_text(text.replace('"v1"', '"v77"'))
    with pytest.raises(WorkspaceError, match=r"plan\.jsonl, line \d is damaged"):
        read_groups(tmp_path)


def test_stores_with_numbered_shards_go_on(workspace: Workspace) -> None:
    workspace.features.mkdir()
    (workspace.features / "plan.json").write_text(json.dumps({"groups": [["v3", "v1"], ["v2"]]}))
    extract(workspace, videos(1, 2, 3), stop_after=9)
    assert "look/part-00000.parquet" in files(workspace.features)
    extract(workspace, videos(*range(7)))
    store = FeatureStore(workspace.features)
    names = [path.name for path in store.shards("look")]
    assert names[:2] == ["part-00000.parquet", "part-00001.parquet"]
    assert pq.read_table(store.shards("look")[0])["video_id"].to_pylist() == ["v3", "v1"]
    assert len(names) == 3
    assert store.examined("look") == {f"v{n}" for n in range(7)}


def test_a_run_stopped_at_any_step_ends_with_the_same_files(tmp_path: Path) -> None:
    whole = Workspace.create(tmp_path / "whole")
    extract(whole, videos(*range(7)))
    expected = files(whole.features)
    for step in range(13):
        workspace = Workspace.create(tmp_path / f"ws{step}")
        with pytest.raises(KeyboardInterrupt):
            extract(workspace, videos(*range(7)), stop_after=step)
        extract(workspace, videos(*range(7)))
        assert files(workspace.features) == expected
        assert not (workspace.features / ".spool").exists()


@pytest.mark.parametrize("failing", range(6))
def test_a_write_that_fails_leaves_what_is_listed_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The group's shards are written again with a video that failed at first; the disk fills up on the way."""
    extract(workspace, videos(*range(4)), fail=["v1"])
    held = contents(workspace.features)
    writes = 0

    def write(*arguments: object) -> None:
        nonlocal writes
        writes += 1
        if writes > failing:
            raise WorkspaceError("cannot write: No space left on device")
        real(*arguments)

    from vtr import files as vtr_files

    real = vtr_files.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr("vtr.store.writer.write_bytes", write)
        patch.setattr("vtr.files.write_bytes", write)  # of the manifest
        if failing < 5:  # look: shard, manifest; words: side table, shard, manifest
            with pytest.raises(WorkspaceError, match="No space"):
                extract(workspace, videos(*range(4)))
        else:
            extract(workspace, videos(*range(4)))
    assert set(FeatureStore(workspace.features).experts) == set(held)
    extract(workspace, videos(*range(4)))
    store = FeatureStore(workspace.features)
    for expert in SPECS:
        assert store.verify(expert) == []
        assert store.examined(expert) == {"v0", "v1", "v2", "v3"}
    found = dict.fromkeys(video_id for video_id, _ in store.found_texts("words"))
    assert {v: tuple(t for w, t in store.found_texts("words") if w == v) for v in found} == {
        v: finds_of(v) for v in ("v1", "v2")
    }


def test_single_finds_are_kept_beside_the_shard_in_its_order(workspace: Workspace) -> None:
    extract(workspace, videos(*range(4)))
    store = FeatureStore(workspace.features)
    assert not store.side_tables("look")
    (path,) = store.side_tables("words")
    rows = pq.read_table(path).to_pylist()
    assert list(dict.fromkeys(row["video_id"] for row in rows)) == list(store.video_ids("words"))
    assert rows[0]["box"] == [0.125, 0.25, 0.5, 1.0]
    assert rows[0]["words"] is None
    assert rows[1]["box"] is None
    assert rows[1]["words"][1] == {"text": "day", "start_seconds": 0.5, "end_seconds": 1.5, "confidence": 0.25}


@pytest.mark.parametrize(
    ("damage", "told"),
    [("gone", "is missing"), ("flipped", "checksum differs"), ("feature", "v[12] has no feature 9")],
)
def test_verify_reads_side_tables_too(workspace: Workspace, damage: str, told: str) -> None:
    extract(workspace, videos(1, 2))
    store = FeatureStore(workspace.features)
    (path,) = store.side_tables("words")
    assert isinstance(path, Path)
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        path.write_bytes(path.read_bytes()[:-9] + b"?" + path.read_bytes()[-8:])
    else:
        rows = [row | {"feature": 9} for row in pq.read_table(path).to_pylist()]
        table = pq.read_table(path)
        pq.write_table(table.from_pylist(rows, schema=table.schema), path)
        manifest = workspace.features / "words" / "manifest.json"
        content = json.loads(manifest.read_text())
        content["texts"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(content))
    (problem,) = store.verify("words")
    assert re.search(told, problem)
    assert str(path) in problem


def test_the_plan_counts_what_is_spooled_as_read(workspace: Workspace) -> None:
    spool = Spool(workspace.features / ".spool", {"look": "a", "words": "b"})
    groups = make_groups(workspace.features, videos(*range(6)), 4)
    spool.put(spooled("v1"))
    spool.put(spooled("v2", ["look"]))
    ledger = Ledger(workspace.ledger)
    nothing = dict.fromkeys(SPECS, frozenset[str]())
    plan = Plan(groups, videos(*range(6)), nothing, spool, ledger)
    lacking = {task.video_id: task.experts for task in plan.tasks(("look", "words"), retry_failed=False)}
    assert lacking == {f"v{n}": ("look", "words") for n in (0, 3, 4, 5)} | {"v2": ("words",)}
    assert (plan.done(["look", "words"]), plan.done(["look"])) == (1, 2)
    assert [groups[n].ids for n in plan.spooled_groups(SPECS)] == [g.ids for g in groups if {"v1", "v2"} & set(g.ids)]
    changed = Spool(workspace.features / ".spool", {"look": "a", "words": "other settings"})
    assert changed.examined() == {"v1": {"look"}, "v2": {"look"}}


def test_what_another_model_spooled_is_not_used(workspace: Workspace) -> None:
    spool = Spool(workspace.features / ".spool", {})
    look, words = SPECS["look"][0], SPECS["words"][0]
    specs = {spec.name: spec_fingerprint(spec) for spec in (look, words)}
    done = replace(spooled("v1"), specs=specs)
    spool.put(done)
    spool.expect({"look": look, "words": words})
    assert spool.get("v1") == done
    spool.expect({"look": replace(look, weights_sha256="new"), "words": words})
    left = spool.get("v1")
    assert left is not None
    assert (left.examined, left.rows.keys(), left.specs.keys()) == (("words",), {"words"}, {"words"})
    assert spool.examined() == {"v1": {"words"}}


def test_an_expert_that_now_finds_nothing_leaves_no_row_in_the_spool(workspace: Workspace) -> None:
    spool = Spool(workspace.features / ".spool", {})
    spool.put(spooled("v1"))
    spool.put(Spooled("v1", {}, ("words",), ()))
    now = spool.get("v1")
    assert now is not None
    assert (now.examined, now.rows.keys(), now.found) == (("look", "words"), {"look"}, {})


def test_a_spooled_file_that_is_damaged_or_old_is_read_again(workspace: Workspace) -> None:
    spool = Spool(workspace.features / ".spool", {})
    failure = Failure("v1", "look", "extract", "crash", "it died")
    done = spooled("v1", ["words"])
    spool.put(done.__class__("v1", done.rows, done.examined, (failure,), done.found, "pyav"))
    again = spool.get("v1")
    assert again is not None
    assert (again.failures, again.found, again.decoder) == ((failure,), {"words": finds_of("v1")}, "pyav")
    (path,) = (workspace.features / ".spool").glob("*.parquet")
    table = pq.read_table(path)
    head = json.loads(table.schema.metadata[b"vtr.spool"])
    head["failures"] = [{"video_id": "v1", "expert": "look", "stage": "extract", "reason": "of an earlier version"}]
    pq.write_table(table.replace_schema_metadata({"vtr.spool": json.dumps(head)}), path)
    assert spool.examined() == {}
    assert spool.get("v1") is None


def test_decoders_settings_and_versions_are_recorded(workspace: Workspace) -> None:
    extract(workspace, videos(*range(4)), fail=["v1", "v3"])
    (path,) = FeatureStore(workspace.features).shards("look")
    made_with = json.loads(pq.read_schema(path).metadata[b"vtr.made_with"])
    assert made_with["decoders"] == ["decord"]
    assert made_with["scaler"] == "none"
    assert made_with["settings"]["sampling"] == "fps"
    assert "libswscale bilinear" in made_with["decoding"]["scaler"]
    assert "libavcodec" in made_with["decoding"]["pyav"]
    assert made_with["decoding"]["ffmpeg"].startswith("ffmpeg version ")
    assert {"decord", "av", "imageio-ffmpeg", "pillow"} <= made_with["versions"].keys()
    for name in ("rapidocr", "faster-whisper", "dlib-bin"):
        with contextlib.suppress(PackageNotFoundError):
            assert made_with["versions"][name] == version(name)
    extract(workspace, videos(*range(4)))
    assert json.loads(pq.read_schema(path).metadata[b"vtr.made_with"])["decoders"] == ["decord", "pyav"]


def writer_with(workspace: Workspace, **values: object) -> ShardWriter:
    config = ExtractConfig.model_validate({"experts": tuple(SPECS), **values})
    return ShardWriter(FeatureStore(workspace.features), config, "annotations")


def record(workspace: Workspace, settings: object) -> None:
    """Replace the settings that the store says `look` was made with."""
    manifest = workspace.features / "look" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"config": settings}))


def test_stores_made_before_a_setting_existed_had_its_default(workspace: Workspace) -> None:
    extract(workspace, videos(1, 2))
    old = {"frames_per_second": 2.0, "max_frames": 64, "frame_side": 480, "max_seconds": 600.0, "reader": "auto"}
    record(workspace, old | {"dtype": "float16"})
    writer_with(workspace).check_settings(["look"])
    writer_with(workspace, settings={"look": {"batch": 2}}).check_settings(["look"])  # shapes nothing
    with pytest.raises(WorkspaceError, match=r"made with sampling=fps, now sampling=uniform .* --set sampling=fps"):
        writer_with(workspace, sampling="uniform").check_settings(["look"])
    own = {"look": {"stride": 3}}
    with pytest.raises(
        WorkspaceError, match=r"settings\.look\.stride=None, now .*=3 .*--set settings\.look\.stride=null"
    ):
        writer_with(workspace, settings=own).check_settings(["look"])
    writer_with(workspace, settings=own).check_settings(["words"])


def test_what_holds_for_all_shapes_nothing_where_the_expert_has_its_own(workspace: Workspace) -> None:
    extract(workspace, videos(1, 2))
    own = {"look": {"sampling": "all"}}
    record(workspace, shaping_settings(ExtractConfig.model_validate({"settings": own}), "look"))
    writer_with(workspace, sampling="uniform", settings=own).check_settings(["look"])
    with pytest.raises(WorkspaceError, match=r"sampling=fps, now sampling=uniform"):
        writer_with(workspace, sampling="uniform").check_settings(["look"])


def test_a_setting_that_an_earlier_version_recorded_and_the_expert_does_not_read_shapes_nothing() -> None:
    unread = ExtractConfig.model_validate({"settings": {"audio": {"precision": "bfloat16"}}})
    recorded, now = shaping_settings(unread, "audio"), shaping_settings(ExtractConfig(), "audio")
    assert recorded != now and list(differences("audio", recorded, now)) == []
    assert recorded_config({"audio": recorded}).of("audio") == ExpertConfig()


def test_recorded_settings_give_the_configuration_back() -> None:
    values = {"frame_side": 300, "settings": {"look": {"sampling": "uniform", "precision": "bfloat16"}}}
    config = ExtractConfig.model_validate(values)
    recorded = {expert: shaping_settings(config, expert) for expert in ("look", "ocr", "speech")}
    again = recorded_config(json.loads(json.dumps(recorded)))
    for expert in recorded:
        assert shaping_settings(again, expert) == recorded[expert]
    recorded["ocr"]["frame_side"] = 200
    with pytest.raises(ConfigError, match="differing frame_side: 300, 200"):
        recorded_config(recorded)
    with pytest.raises(ConfigError, match="were imported"):
        recorded_config({"face": {"release": "mmt", "dtype": "float32"}})
