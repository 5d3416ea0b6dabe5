"""From a folder of clips to answers without training: words on screen by meaning, pictures with a CLIP, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from click.testing import Result
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from vtr.cli import app
from vtr.retrieval import Retriever

LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGNS = {"one": "FRESH BREAD AND CAKES", "two": "TRAIN DEPARTURES", "three": "DENTAL CLINIC"}


def write_clip(path: Path, words: str | None, colour: tuple[int, int, int] = (255, 255, 255)) -> None:
    """Write two seconds of a plain picture, with words on it."""
    import av

    image = Image.new("RGB", (640, 360), colour)
    if words is not None:
        ImageDraw.Draw(image).text((40, 150), words, fill=(0, 0, 0), font=ImageFont.load_default(44))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 4_000_000
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run that `vtr ingest --model text` made of five clips, one blank and one broken, and what it said."""
    folder = tmp_path_factory.mktemp("signs")
    for name, words in SIGNS.items():
        write_clip(folder / "clips" / f"{name}.mp4", words)
    write_clip(folder / "clips" / "blank.mp4", None)
    (folder / "clips" / "broken.mp4").write_bytes(b"no video at all")
    run = folder / "shelf"
    return run, CliRunner().invoke(
        app, ["ingest", str(run), str(folder / "clips"), "--model", "text", "--set", "workers=1"]
    )


def test_words_on_screen_are_found_by_meaning(shelf: tuple[Path, Result]) -> None:
    run, done = shelf
    assert done.exit_code == 3, done.output
    assert "3 new" in done.output
    assert "broken: " in done.output
    assert "nothing to find in 1 video: blank" in done.output
    retriever = Retriever.load(run)
    asked = ["a bakery", "railway station", "somebody to look after my teeth"]
    assert [hits[0].video_id for hits in retriever.search(asked, 3)] == ["one", "two", "three"]
    assert retriever.finds.startswith("Finds words on screen")
    assert "Not what pictures show" in retriever.finds


def test_a_run_without_training_goes_on_with_its_own_model_alone(shelf: tuple[Path, Result]) -> None:
    """Nothing is read again, and other weights are refused."""
    run, _ = shelf
    again = CliRunner().invoke(app, ["ingest", str(run), str(run.parent / "clips")])
    assert again.exit_code == 3
    assert "0 new, 0 changed, 3 unchanged" in again.output
    other = CliRunner().invoke(app, ["ingest", str(run), "--model", "text", "--weights", "ocr=2"])
    assert "made with another model" in str(other.exception)


def test_pictures_are_compared_with_the_clip_that_is_named(tmp_path: Path) -> None:
    colours = {"red": (220, 20, 20), "blue": (20, 20, 220), "grey": (120, 120, 120)}
    for name, colour in colours.items():
        write_clip(tmp_path / "clips" / f"{name}.mp4", None, colour)
    folder, run = _save_clip(tmp_path / "clip"), tmp_path / "shelf"
    command = ["ingest", str(run), str(tmp_path / "clips"), "--model", str(folder), "--set", "workers=1"]
    done = CliRunner().invoke(app, [*command, "--weights", "clip=2,ocr=1,speech=1"])
    assert done.exit_code == 0, done.output
    clip, tokenizer = tf.CLIPModel.from_pretrained(folder).eval(), tf.CLIPTokenizer.from_pretrained(folder)
    processor = tf.CLIPImageProcessor.from_pretrained(folder)
    retriever = Retriever.load(run)
    with torch.inference_mode():
        for name, colour in colours.items():
            pixels = processor(Image.new("RGB", (640, 360), colour), return_tensors="pt")["pixel_values"]
            own = clip(pixel_values=pixels, **tokenizer(["a dog"], return_tensors="pt"))
            expected = float(own.logits_per_text[0, 0] / clip.logit_scale.exp()) * 0.5
            hits = {hit.video_id: hit.score for hit in retriever.search(["a dog"], 3)[0]}
            assert hits[name] == pytest.approx(expected, abs=0.02)  # colours pass through a codec


def test_missing_weights_are_named_before_anything_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "a.mp4", None)
    run = tmp_path / "shelf"
    done = CliRunner().invoke(app, ["ingest", str(run), str(tmp_path / "clips"), "--model", str(tmp_path / "nowhere")])
    assert "--model text" in str(done.exception)
    assert not run.exists()


def test_a_model_of_pictures_alone_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    tf.Dinov2Model(tf.Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(folder)
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "shelf"), str(tmp_path), "--model", str(folder)])
    assert "which reads pictures only" in str(done.exception)
    assert not (tmp_path / "shelf").exists()


@pytest.mark.parametrize(("weights", "told"), [("clip", "NAME=NUMBER"), ("clip=2", "goes with --model")])
def test_weights_are_checked(tmp_path: Path, weights: str, told: str) -> None:
    model = ["--model", "text"] if weights == "clip" else []
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "shelf"), str(tmp_path), "--weights", weights, *model])
    assert done.exit_code == 2
    assert told in done.output


def _save_clip(folder: Path) -> Path:
    """Save a tiny CLIP with random weights, as the hub saves its models."""
    letters = sorted(set("adogct"))
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tf.CLIPTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    text = {**LAYERS, "vocab_size": len(tokens), "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    torch.manual_seed(3)
    tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 32},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.48, 0.45, 0.40],
        "image_std": [0.26, 0.25, 0.27],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_what_is_told_of_a_run_without_training(shelf: tuple[Path, Result]) -> None:
    """`vtr status` knows such a run and its library, `vtr report` says that there is nothing to report."""
    run, _ = shelf
    lines = CliRunner().invoke(app, ["status", str(run)]).output.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["made", "done"], ["library", "done"]]
    assert "3 videos, 0 captions; 1 failed" in lines[2]
    told = CliRunner().invoke(app, ["report", str(run)])
    assert told.exit_code == 1
    assert "made without training" in str(told.exception)
    assert not (run / "report.html").exists()


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    clips, run = tmp_path / "clips", tmp_path / "shelf"
    clips.mkdir()

    def told(*arguments: str) -> str:
        return str(CliRunner().invoke(app, ["ingest", str(run), str(clips), *arguments]).exception)

    assert "without training: add --model clip" in told()
    assert "Did you mean 'max_seconds'?" in told("--model", "text", "--set", "max_second=9")
    watched = CliRunner().invoke(app, ["ingest", str(run), "--model", "text", "--watch"])
    assert (watched.exit_code, run.exists()) == (2, False)
    assert "name the folders to watch" in watched.output
    assert "NAME=NUMBER" in CliRunner().invoke(app, ["ingest", str(run), "--model", "text", "--weights", "ocr"]).output
    assert not run.exists()


def test_settings_of_a_run_without_training_stay(tmp_path: Path) -> None:
    """An empty folder is named; other settings than those that videos were read with are refused."""
    clips, run = tmp_path / "clips", tmp_path / "shelf"
    clips.mkdir()
    arguments = ["ingest", str(run), str(clips), "--set", "workers=1"]
    assert f"no video in {clips}" in CliRunner().invoke(app, [*arguments, "--model", "text"]).output
    write_clip(clips / "one.mp4", SIGNS["one"])
    assert "1 new" in CliRunner().invoke(app, arguments).output
    write_clip(clips / "two.mp4", SIGNS["two"])
    told = CliRunner().invoke(app, [*arguments, "--set", "max_seconds=5"])
    assert "was made with max_seconds=600.0" in str(told.exception)
