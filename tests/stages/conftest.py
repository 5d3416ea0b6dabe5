"""A small trained run: 36 tiny videos of real files, two experts, captions about what the features hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from captioned_clips import COLOURS, THINGS

from vtr.annotations.prepare import prepare_annotations
from vtr.config import TrainConfig, build
from vtr.store.schema import encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.training.train import train
from vtr.types import Annotations, Caption, ExpertFeatures, ExpertSpec, Split, Video
from vtr.workspace import Run, Workspace, fingerprint

DIMS = {"appearance": 12, "motion": 10}


def write_clip(path: Path, shade: int) -> None:
    """Write six frames of one shade, 64 x 48."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        image = np.full((48, 64, 3), shade, np.uint8)
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def features_of(colour: int, thing: int, seed: int) -> dict[str, ExpertFeatures]:
    """Return features that tell colour (appearance) and thing (motion), with noise."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, place in (("appearance", colour), ("motion", thing)):
        values = generator.normal(0, 0.3, (3, DIMS[name])).astype(np.float32)
        values[:, place] += 3
        seconds = np.arange(3, dtype=np.float32)
        found[name] = ExpertFeatures(values, seconds, seconds + 1)
    return found


def write_store(workspace: Workspace, features: dict[str, dict[str, ExpertFeatures]], examined: list[str]) -> None:
    """Write expert -> video id -> features as the extract stage would."""
    for name, by_video in features.items():
        spec = ExpertSpec(name, DIMS[name], "image", None, "made-up")
        rows = [encode_row(video_id, found, None, "float32") for video_id, found in by_video.items()]
        folder = workspace.features / name
        checksum = write_shard(folder / "part-00000.parquet", spec, rows, examined, {})
        counts = {"examined": len(examined), "present": len(rows)}
        write_expert_manifest(
            folder,
            spec,
            {"part-00000.parquet": checksum},
            inputs={"prepare": fingerprint(asdict(spec))},
            config={},
            counts=counts,
            counts_by_shard={"part-00000.parquet": [len(examined), len(rows)]},
        )


def make_text_model(folder: Path) -> Path:
    """Write a BERT of two tiny layers with a vocabulary of the captions' words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "the", "is", "seen", *COLOURS, *THINGS]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(str(folder))
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(str(folder))
    return folder


def make_workspace(root: Path, captions_a_video: int = 2, without_features: int = 0) -> Workspace:
    """Make a workspace: 36 videos, 24 to train on, 6 to validate, 6 to test; some test videos without features."""
    pairs = [(colour, thing) for colour in range(6) for thing in range(6)]
    order = np.random.default_rng(0).permutation(36)
    (root.parent / f"{root.name}-clips").mkdir(parents=True)
    videos, captions, features = [], [], {name: {} for name in DIMS}  # type: ignore[var-annotated]
    ids = [f"clips/{THINGS[thing]}-{COLOURS[colour]}" for colour, thing in pairs]
    test = [ids[row] for row in order[30:]]
    for row, (colour, thing) in enumerate(pairs):
        path = root.parent / f"{root.name}-clips" / f"{row}.mp4"
        write_clip(path, 7 * row)
        videos.append(Video(ids[row], str(path)))
        texts = (f"a {COLOURS[colour]} {THINGS[thing]}", f"the {THINGS[thing]} is {COLOURS[colour]}")
        captions += [Caption(f"{ids[row]}#{n}", ids[row], text) for n, text in enumerate(texts[:captions_a_video])]
        if ids[row] in test[:without_features]:
            continue
        for name, found in features_of(colour, thing, row).items():
            if not (name == "motion" and row % 5 == 0):  # some videos lack an expert
                features[name][ids[row]] = found
    parts = (ids[row] for row in order[:24]), (ids[row] for row in order[24:30]), test
    split = Split("full", *(tuple(part) for part in parts))
    prepare_annotations(Annotations(tuple(videos), tuple(captions)), [split], root)
    workspace = Workspace.open(root)
    write_store(workspace, features, ids)
    return workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds ws/, ws-clips/ and run/; read-only, use `run` to change things."""
    folder = tmp_path_factory.mktemp("trained")
    workspace = make_workspace(folder / "ws")
    values = {
        "epochs": 6,
        "model": {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 16, "dropout": 0.0},
        "text": {"model": str(make_text_model(folder / "text"))},
        "data": {"batch_size": 8, "passes": 8},
        "optimiser": {"learning_rate": 5e-3},
    }
    train(workspace, build(TrainConfig, values, "the test"), folder / "run", device="cpu")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the trained run and its workspace, to do as one likes with."""
    for name in ("ws", "ws-clips", "run"):
        shutil.copytree(trained / name, tmp_path / name, copy_function=os.link if name == "ws-clips" else shutil.copy2)
    return Run.open(tmp_path / "run")


@pytest.fixture
def other_workspace(tmp_path: Path) -> Callable[..., Workspace]:
    """Return a maker of further workspaces: `other_workspace(name, captions_a_video, without_features)`."""

    def make(name: str, captions_a_video: int = 2, without_features: int = 0) -> Workspace:
        return make_workspace(tmp_path / name, captions_a_video, without_features)

    return make
