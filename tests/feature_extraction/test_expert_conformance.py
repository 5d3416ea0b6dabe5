"""What holds for every expert, whatever it does: shapes, times, determinism, absence, independence of how it is fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from expert_cases import CASES, DURATION, HEARING, MODELS, TINY, Case, media_for

from feature_extraction.experts import make_extractor, missing_packages
from feature_extraction.extractor import Expert, Extracted, Frames, Media, ModelExpert
from vtr.experts import EXPERTS, find_expert

SEEING = [case for case in CASES if case.name not in HEARING]
PRECISE = [case for case in TINY if not case.settings.get("stride")]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

Load = Callable[[Case], tuple[Expert, Media, Extracted]]


@pytest.fixture(scope="session")
def load(model_files: Path, request: pytest.FixtureRequest) -> Load:
    """Return a function that gives an expert, loaded once for all tests, a video for it, and what it finds there."""

    @cache
    def loaded(name: str, number: int) -> tuple[Expert, Media, Extracted]:
        case = CASES[number]
        shared = request.getfixturevalue("shared") if name == "face" else Path()
        expert = case.make(model_files)
        media = media_for(case, expert, shared)
        return expert, media, found_in(expert, media)

    def of(case: Case) -> tuple[Expert, Media, Extracted]:
        if case.name in EXPERTS and (missing := missing_packages(case.name)):
            pytest.skip(f"the expert {case.name} needs {', '.join(missing)}: pip install 'vtr[experts]'")
        return loaded(case.name, CASES.index(case))

    return of


def test_every_expert_of_the_table_has_a_case() -> None:
    assert {case.name for case in CASES} >= set(EXPERTS)


def found_in(expert: Expert, media: Media) -> Extracted:
    found = expert.extract(media)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_spec_fits_the_table_and_the_features(load: Load, case: Case, model_files: Path) -> None:
    expert, _, found = load(case)
    line = find_expert(case.name, case.config(model_files).settings)
    assert (expert.spec.name, expert.spec.modality) == (case.name, line.modality)
    assert expert.scaler
    assert (expert.frames is not None) != expert.sound
    assert (expert.spec.weights_sha256 == "") == (expert.spec.pretrained_on == "nothing") == (case.name == "motion")
    assert found.features.values.shape == (len(found.features.start_seconds), expert.spec.dim)
    assert found.features.values.dtype == np.float32
    assert np.isfinite(found.features.values).all()
    if case.tiny is None and "model" not in line.dim:
        assert line.dim.startswith(str(expert.spec.dim))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_times_are_seconds_of_the_video_in_order(load: Load, case: Case) -> None:
    _, _, found = load(case)
    features = found.features
    assert (np.diff(features.start_seconds) >= 0).all()
    assert (features.end_seconds >= features.start_seconds).all()
    assert features.start_seconds[0] >= 0
    assert features.end_seconds[-1] <= DURATION + 1e-3
    assert features.end_seconds.max() > 1  # seconds, not shares of the video; the last frame is at 2 s


@pytest.mark.parametrize("case", CASES, ids=str)
def test_text_experts_keep_their_text_and_others_have_none(load: Load, case: Case) -> None:
    expert, _, found = load(case)
    if expert.spec.modality != "text":
        assert found.texts is None
        assert found.found == ()
        return
    assert found.texts is not None
    assert len(found.texts) == len(found.features.values)
    assert found.found
    for one in found.found:
        assert one.text.casefold() == found.texts[one.feature].casefold()
        assert 0 <= one.confidence <= 1
        assert 0 <= one.start_seconds <= one.end_seconds <= DURATION + 1e-3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_video_gives_the_same_features(load: Load, case: Case, model_files: Path) -> None:
    expert, media, first = load(case)
    np.testing.assert_array_equal(found_in(expert, media).features.values, first.features.values)
    np.testing.assert_array_equal(found_in(case.make(model_files), media).features.values, first.features.values)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_to_see_or_hear_is_absent(load: Load, case: Case) -> None:
    expert, media, _ = load(case)
    assert expert.begin(media.info).finish(None) is None
    assert expert.extract(replace(media, frames=None, sound=None)) is None
    if expert.sound:
        assert expert.extract(replace(media, sound=np.zeros(32000, np.float32))) is None
        assert expert.extract(replace(media, sound=np.zeros(0, np.float32))) is None


@pytest.mark.parametrize("case", SEEING, ids=str)
@pytest.mark.parametrize("length", [1, 3, 17])
def test_frames_may_come_in_any_pieces(load: Load, case: Case, length: int) -> None:
    expert, media, whole = load(case)
    assert media.frames is not None
    before = media.frames.images.copy()
    reading = expert.begin(media.info)
    for at in range(0, len(before), length):
        reading.add(Frames(media.frames.images[at : at + length], media.frames.seconds[at : at + length]))
    found = reading.finish(None)
    assert found is not None
    np.testing.assert_allclose(found.features.values, whole.features.values, **CLOSE)
    np.testing.assert_array_equal(found.features.start_seconds, whole.features.start_seconds)
    np.testing.assert_array_equal(found.features.end_seconds, whole.features.end_seconds)
    np.testing.assert_array_equal(media.frames.images, before)  # other experts see the same pictures


@pytest.mark.parametrize("case", MODELS, ids=str)
def test_a_feature_does_not_depend_on_its_batch(load: Load, case: Case) -> None:
    expert, media, found = load(case)
    assert isinstance(expert, ModelExpert)
    whole, batch = found.features.values, expert.batch
    try:
        for size in (1, 7):
            expert.batch = size
            np.testing.assert_allclose(found_in(expert, media).features.values, whole, **CLOSE)
    finally:
        expert.batch = batch


@pytest.mark.parametrize("case", MODELS, ids=str)
def test_a_worker_prepares_what_another_process_embeds(load: Load, case: Case, model_files: Path) -> None:
    expert, media, whole = load(case)
    assert isinstance(expert, ModelExpert)
    worker = make_extractor(case.name, case.config(model_files))  # never loaded
    assert isinstance(worker, ModelExpert)
    sent = []

    def embed(items: np.ndarray) -> np.ndarray:
        sent.append(items)
        assert media.frames is None or not np.shares_memory(items, media.frames.images)
        return expert.embed_all(items)

    worker.embed_with = embed
    found = found_in(worker, media)
    assert worker.spec == expert.spec
    assert sent
    if case.name != "shots":  # it finds shots in its model's answers
        assert sum(map(len, sent)) == len(whole.features.values)
    np.testing.assert_array_equal(found.features.values, whole.features.values)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", PRECISE, ids=str)
def test_half_precision_gives_nearly_the_same_features(
    load: Load, case: Case, model_files: Path, precision: str
) -> None:
    _, media, whole = load(case)
    found = found_in(case.make(model_files, precision=precision), media)
    assert found.texts == whole.texts
    assert found.features.values.dtype == np.float32
    one, other = found.features.values, whole.features.values
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.99
    if whole.texts is None:
        assert not np.array_equal(one, other)  # it did run in another precision


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_reads_those_settings_of_its_own_that_the_table_says(case: Case, load: Load, model_files: Path) -> None:
    load(case)
    assert case.read - {"kind"} == set(find_expert(case.name, case.config(model_files).settings).takes)
