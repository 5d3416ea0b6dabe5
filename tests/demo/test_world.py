"""The demo's world: the same from the same seed, captions true, no clip in two parts, clips that decode."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest

from feature_extraction.sound import hear
from vtr.demo.render import clip_path, render_all
from vtr.demo.run import DemoConfig
from vtr.demo.sound import has_speech, speak, track
from vtr.demo.world import CAPTIONS, COLOURS, MOTIONS, OBJECTS, SCENES, SOUNDS, Scene, make_scenes, write_captions
from vtr.types import Part

COUNTS: dict[Part, int] = {"train": 220, "validation": 30, "test": 80}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return make_scenes(0, COUNTS, speech=True)


def test_the_script_depends_on_the_seed_alone(scenes: list[Scene]) -> None:
    assert scenes == make_scenes(0, COUNTS, speech=True)
    assert scenes != make_scenes(1, COUNTS, speech=True)
    assert [write_captions(scene) for scene in scenes[:5]] == [write_captions(scene) for scene in scenes[:5]]
    assert all(scene.hearing != "speech" for scene in make_scenes(0, COUNTS, speech=False))


def test_no_content_is_in_two_clips(scenes: list[Scene]) -> None:
    contents = [(s.scene, s.colour, s.object, s.motion, s.word, s.phrase, s.sound) for s in scenes]
    assert len(set(contents)) == len(contents) == sum(COUNTS.values())


def test_captions_tell_the_truth_and_each_kind_only_its_part(scenes: list[Scene]) -> None:
    for scene in scenes:
        captions = write_captions(scene)
        assert len(captions) == CAPTIONS
        for caption in captions:
            looks = any(re.search(rf"\b{word}\b", caption.text) for word in OBJECTS[scene.object])
            assert looks == (caption.kind in ("full", "look"))
            moves = any(phrase in caption.text for phrase in MOTIONS[scene.motion])
            assert moves == (caption.kind in ("full", "motion"))
            if caption.kind == "reading":
                assert scene.word is not None
                assert scene.word in caption.text
            if caption.kind == "listening":
                heard = [scene.phrase] if scene.phrase else list(SOUNDS[str(scene.sound)])
                assert any(str(words) in caption.text for words in heard)
            for other, phrases in MOTIONS.items():
                if other != scene.motion:
                    assert not any(phrase in caption.text for phrase in phrases)


def test_no_look_word_or_sound_is_enough(scenes: list[Scene]) -> None:
    test = [scene for scene in scenes if scene.part == "test"]
    looks = {(s.scene, s.colour, s.object) for s in test}
    assert len(test) / len(looks) >= 4, "several test clips share each look"
    texts = [caption.text for scene in test for caption in write_captions(scene)]
    repeated = 1 - len(set(texts)) / len(texts)
    assert 0.1 < repeated < 0.5
    assert len({s.scene for s in scenes}) == len(SCENES)
    assert len({s.colour for s in scenes}) == len(COLOURS)


def test_clips_are_what_the_script_says_and_rendering_resumes(tmp_path: Path, scenes: list[Scene]) -> None:
    kinds = {scene.hearing: scene for scene in scenes if has_speech() or scene.hearing != "speech"}
    chosen = list(kinds.values())
    assert render_all(chosen, tmp_path) == len(chosen)
    for scene in chosen:
        with av.open(str(clip_path(tmp_path, scene))) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == scene.size
            assert float(stream.average_rate or 0) == pytest.approx(scene.rate[0] / scene.rate[1], rel=1e-3)
            assert float(stream.duration * stream.time_base) == pytest.approx(scene.seconds, abs=0.15)  # type: ignore[operator]
            assert stream.codec_context.name == "h264"
            assert bool(container.streams.audio) == (scene.hearing != "none")
        if scene.hearing in ("speech", "sound"):
            assert np.abs(hear(str(clip_path(tmp_path, scene)), 60, 60).samples).max() > 0.05
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    clip_path(tmp_path, chosen[0]).unlink()
    assert render_all(chosen, tmp_path) == 1
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert sum(before[path] != after[path] for path in after) == 1


@pytest.mark.skipif(not has_speech(), reason="espeakng-loader is not installed, so nobody speaks")
def test_speech_lasts_as_long_as_words_do() -> None:
    short, long = speak("hello"), speak("the president gave a speech about the weather in winter")
    assert 0.2 < len(short) / 22_050 < 1.5
    assert len(long) > 2.5 * len(short)


def test_silence_and_absence_differ(scenes: list[Scene]) -> None:
    silent = next(scene for scene in scenes if scene.hearing == "silence")
    mute = next(scene for scene in scenes if scene.hearing == "none")
    found = track(silent)
    assert found is not None
    assert not found.any()
    assert track(mute) is None


def test_the_committed_config_is_the_default() -> None:
    from toy import ROOT

    from vtr.config import load

    assert load(DemoConfig, ROOT / "configs" / "demo.yaml") == DemoConfig()
