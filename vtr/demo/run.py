"""`vtr demo`: render the small world and take it through every stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import Field

from feature_extraction.pipeline import extract
from vtr.annotations.prepare import prepare_annotations
from vtr.annotations.splits import one_caption_a_video
from vtr.config import TrainConfig, load
from vtr.config_base import Config
from vtr.demo.render import clip_path, render_all
from vtr.demo.sound import has_speech
from vtr.demo.world import CAPTIONS, KINDS, Kind, Scene, make_scenes, write_captions
from vtr.embeddings import load_part
from vtr.errors import WorkspaceError
from vtr.evaluation.ranks import text_to_video
from vtr.evaluation.table import align
from vtr.extract_config import ExtractConfig
from vtr.files import read_json, write_json
from vtr.progress import say
from vtr.similarity import exact_scores
from vtr.stages.evaluate import EvaluateSummary, evaluate
from vtr.stages.report import report
from vtr.training.train import train
from vtr.types import Annotations, Caption, Part, Split, Video
from vtr.workspace import Run


class WorldConfig(Config):
    """The small world."""

    seed: int = 0
    train: int = Field(default=220, ge=2)
    validation: int = Field(default=30, ge=1)
    test: int = Field(default=80, ge=2)


class DemoConfig(Config):
    """`vtr demo`, complete: the world, how it is extracted, how the model is trained."""

    world: WorldConfig = WorldConfig()
    extract: ExtractConfig = ExtractConfig(
        experts=("appearance", "audio", "motion", "ocr", "speech"),  # nobody's face is in this world
        frames_per_second=1.0,
        text_frames_per_second=0.5,
        frame_side=240,
        shard_videos=32,
    )
    train: TrainConfig = TrainConfig.model_validate(
        {
            "split": "demo",
            "epochs": 25,
            "model": {"dim": 256, "layers": 2, "heads": 4, "feed_forward": 512, "dropout": 0.2},
            "data": {"batch_size": 55, "passes": 5, "max_features": 8},
            "optimiser": {
                "learning_rate": 5e-4,
                "decay": 0.9,
                "decay_steps": 60,
                "warmup_steps": 20,
                "gradient_clip": 5.0,
            },
        }
    )


def demo(out: Path, config_path: Path | None, overrides: Sequence[str]) -> None:
    """Render the world into `out`, and prepare, extract, train, evaluate and report. What is done stays.

    Raises:
        ConfigError: the settings are wrong.
        WorkspaceError: `out` holds something else, or another world.
        UnavailableError: none of the experts is installed.
    """
    started = time.monotonic()

    def heading(text: str) -> None:
        say(f"[{time.monotonic() - started:4.0f} s] {text}")

    config = load(DemoConfig, config_path, overrides, base=DemoConfig())
    scenes = _script(out, config.world)
    heading(f"render: {len(scenes)} clips into {out / 'clips'}")
    rendered = render_all(scenes, out / "clips")
    say(f"{rendered} clips rendered, {len(scenes) - rendered} were there")

    heading("prepare")
    annotations, split = _annotations(out, scenes)
    splits = [split, one_caption_a_video(split, annotations)]
    prepared = prepare_annotations(annotations, splits, out / "workspace")
    say(str(prepared))

    heading("extract: one process a core")
    extracted = extract(prepared.workspace, config.extract)
    say(str(extracted))

    heading("train")
    partly = bool(extracted.failures)
    trained = train(prepared.workspace, config.train, out / "run", available_only=partly)
    say(str(trained))

    heading("embed, index, evaluate")
    run = trained.run
    results = [evaluate(run, name, "test", available_only=partly) for name in ("demo", "demo-single")]

    heading("report")
    say(report(run))
    heading("done")
    _show(run, results, _recall_by_kind(run, out))


def _script(out: Path, world: WorldConfig) -> list[Scene]:
    """Return the script, and write it down; what is in `out` must be of the same world."""
    counts: dict[Part, int] = {"train": world.train, "validation": world.validation, "test": world.test}
    speech = has_speech()
    if not speech:
        say("the speech synthesiser (espeakng-loader) is not installed: nobody speaks in this world")
    scenes = make_scenes(world.seed, counts, speech=speech)
    content = {
        "world": world.model_dump(),
        "scenes": [asdict(scene) for scene in scenes],
        "captions": {scene.id: [asdict(caption) for caption in write_captions(scene)] for scene in scenes},
    }
    path = out / "world.json"
    plain = _plain(content)
    if path.exists() and read_json(path) != plain:
        raise WorkspaceError(f"{out} holds another world than these settings make. Choose another --out, or delete it.")
    if not path.exists():
        if out.exists() and (out.is_file() or any(out.iterdir())):
            raise WorkspaceError(f"{out} holds other files, an empty or new folder was expected. Choose another --out.")
        write_json(path, plain)
    return scenes


def _plain(value: object) -> object:
    """Return a value as JSON gives it back: tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _annotations(out: Path, scenes: Sequence[Scene]) -> tuple[Annotations, Split]:
    videos = tuple(Video(scene.id, str(clip_path(out / "clips", scene).resolve())) for scene in scenes)
    captions = tuple(
        Caption(f"{scene.id}#{place}", scene.id, caption.text)
        for scene in scenes
        for place, caption in enumerate(write_captions(scene))
    )
    ids: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for scene in scenes:
        ids[scene.part].append(scene.id)
    note = f"the rendered world, {CAPTIONS} captions a clip"
    split = Split("demo", tuple(ids["train"]), tuple(ids["validation"]), tuple(ids["test"]), note=note)
    return Annotations(videos, captions), split


def _recall_by_kind(run: Run, out: Path) -> dict[Kind, tuple[int, float, float]]:
    """Return for each kind of caption how many test queries there are, R@1 and R@10 in percent."""
    written = read_json(out / "world.json")["captions"]
    part = load_part(run.embeddings / "demo-test")
    ranks = text_to_video(exact_scores(part.texts, part.videos), part.video_of_text)
    kinds = []
    for caption_id in part.texts.ids:
        clip, place = caption_id.split("#")
        kinds.append(written[clip][int(place)]["kind"])
    found: dict[Kind, tuple[int, float, float]] = {}
    for kind in KINDS:
        of_kind = ranks[np.array(kinds) == kind]
        if len(of_kind):
            found[kind] = (len(of_kind), float((of_kind < 2).mean() * 100), float((of_kind < 11).mean() * 100))
    return found


def _show(run: Run, results: list[EvaluateSummary], kinds: dict[Kind, tuple[int, float, float]]) -> None:
    for title, result in zip(("20 captions a clip", "one caption a clip"), results, strict=True):
        print(f"\n=== {title} ===\n{result}")
    print("\n=== text -> video by what the caption tells (20 captions a clip) ===")
    rows = [("caption tells", "queries", "R@1", "R@10")]
    rows += [(kind, str(count), f"{first:.1f}", f"{ten:.1f}") for kind, (count, first, ten) in kinds.items()]
    print("\n".join(align(rows)))
    print(f"\nreport:       {run.report}")
    vtr = sys.argv[0] if sys.argv[0].endswith("vtr") else "vtr"  # as this very command was called
    print(f'first search: {vtr} search {run.root} "a red fish bounces on a beach"')
    print(f"in a browser: {vtr} serve {run.root}")
