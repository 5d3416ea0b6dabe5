"""The plain MMT answers as the released code did, and vtr's answers as the plain one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_cases import TEXT_BERT, as_batch, random_captions, random_videos, vtr_model
from plain_loader import caption_tokens, read_captions, read_videos, video_path
from plain_mmt import EXPERT_IDS, PlainMMT, PlainVideos, plain_max_margin
from plain_weights import random_weights
from stacked_mmt import StackedMMT, stacked_max_margin
from torch import Tensor

from vtr.similarity import score_matrix

STORED = ("drop_missing_0", "drop_missing_1", "keep_missing_0", "keep_missing_1")
KEEP = pytest.mark.parametrize("keep_missing", [False, True], ids=["drop missing", "keep missing"])


def checkpoint(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("case", STORED)
def test_the_plain_model_answers_as_the_released_code_did(shared: Path, case: str) -> None:
    folder = shared / "reference" / "mmt" / case
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "batch.npz") as content:
        stored = {name: torch.from_numpy(value) for name, value in content.items()}
    model = PlainMMT(
        checkpoint(folder / "checkpoint.pth"),
        meta["text_bert"],
        heads=meta["video_bert"]["num_attention_heads"],
        keep_missing=meta["keep_missing_modalities"],
        expert_ids=meta["expert_type_ids"],
    )
    assert model.experts == meta["expert_order"]
    parts = ({n: stored[f"{part}/{n}"] for n in model.experts} for part in ("features", "times", "mask", "maxpool"))
    videos, tokens = PlainVideos(*parts), stored["token_ids"].flatten(0, 1)
    with torch.no_grad():
        vectors = model.embed_videos(videos)
        texts, weights = model.embed_texts(tokens[..., 0], tokens[..., 1])
        scores = model.similarities(texts, weights, vectors, videos)
    torch.testing.assert_close(vectors, stored["vid_embds"], atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, stored["text_embds"].transpose(1, 2).flatten(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights, stored["text_weights"].flatten(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores, stored["similarities"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("release", ["mmt_release_1ka", "mmt_release_full"])
def test_the_plain_loader_and_model_answer_as_the_released_ones_did(shared: Path, release: str) -> None:
    from transformers import BertTokenizer

    folder = shared / "reference" / release
    meta = json.loads((folder / "meta.json").read_text())
    text_bert = json.loads((folder / "text_model" / "config.json").read_text())
    weights = checkpoint(folder / "checkpoint.pth")
    with np.load(folder / "expected.npz") as content:
        stored = {name: torch.from_numpy(value) for name, value in content.items()}
    model = PlainMMT(weights, text_bert, heads=4, keep_missing=True)
    dims = {name: weights[f"video_dim_reduce.{name}.fc.weight"].shape[1] for name in model.experts}
    paths = [video_path(folder / "MSRVTT" / "vid_feat_files" / "mult_h5", name) for name in meta["video_order"]]
    videos = read_videos(paths, dims)
    for name in model.experts:
        torch.testing.assert_close(videos.times[name].clamp(0, 31), stored[f"times/{name}"])  # the model clamps them
        torch.testing.assert_close(videos.mask[name], stored[f"mask/{name}"])
    expected = stored["token_ids"].flatten(0, 1).long()
    if meta["captions_per_video"] > 1:
        tokenizer = BertTokenizer.from_pretrained(folder / "text_model")
        made = [caption_tokens(words, tokenizer) for path in paths for words in read_captions(path)]
        assert torch.equal(torch.tensor(made).transpose(1, 2), expected[stored["query_masks"].flatten() > 0])
    with torch.no_grad():
        scores = model.scores(videos, expected[..., 0], expected[..., 1])
    torch.testing.assert_close(scores, stored["similarities"], atol=1e-5, rtol=0)


def random_case(seed: int) -> tuple[dict[str, Tensor], int, PlainVideos, tuple[Tensor, Tensor]]:
    """Return weights, heads, videos and captions of random sizes: the first video has no expert, the second has one."""
    draw = np.random.default_rng(seed)
    names = sorted(draw.choice(sorted(EXPERT_IDS), draw.integers(1, 8), replace=False).tolist())
    dims = {name: int(draw.integers(2, 9)) for name in names}
    heads = int(draw.integers(1, 4))
    sizes: dict[str, Any] = {
        "dim": heads * int(draw.integers(8, 12)),
        "layers": int(draw.integers(1, 4)),
        "feed_forward": int(draw.integers(8, 24)),
    }
    present = draw.random((int(draw.integers(3, 8)), len(dims))) < 0.6
    present[0] = False
    present[1] = np.arange(len(dims)) == draw.integers(len(dims))
    slots = 1 if seed % 4 == 0 else int(draw.integers(2, 31))
    videos = random_videos(draw, dims, present, slots, int(draw.integers(1, slots + 1)))
    captions = random_captions(draw.integers(2, 31, len(present)).tolist(), draw, TEXT_BERT["vocab_size"])
    return random_weights(dims, TEXT_BERT, **sizes, seed=seed), heads, videos, captions


@KEEP
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["32 bit", "64 bit"])
@pytest.mark.parametrize("seed", range(8))
def test_vtr_answers_as_the_plain_model(
    tmp_path: Path, seed: int, dtype: torch.dtype, close: float, keep_missing: bool
) -> None:
    weights, heads, videos, captions = random_case(seed)
    plain = PlainMMT(weights, TEXT_BERT, heads=heads, keep_missing=keep_missing, dtype=dtype)
    ours = vtr_model(weights, tmp_path, heads=heads, keep_missing=keep_missing, dtype=dtype)
    videos = videos.to(dtype)
    batch = as_batch(videos, *captions)
    with torch.inference_mode():
        expected = plain.embed_videos(videos)
        texts, mixture = plain.embed_texts(*captions)
        scores = plain.similarities(texts, mixture, expected, videos)
        embedded, worded = ours.embed_videos(batch.videos), ours.embed_texts(batch.texts)
        found = {"batch": ours(batch), "matrix": score_matrix(worded, embedded)}
    torch.testing.assert_close(embedded.vectors, expected, atol=close, rtol=0)
    torch.testing.assert_close(worded.vectors, texts, atol=close, rtol=0)
    torch.testing.assert_close(worded.weights, mixture, atol=close, rtol=0)
    for name, ours_scored in found.items():
        torch.testing.assert_close(ours_scored, scores, atol=close, rtol=0, msg=lambda words, n=name: f"{n}: {words}")
    assert keep_missing or not scores[:, 0].any()  # the video without any expert


@KEEP
@pytest.mark.parametrize("seed", range(4))
def test_the_stacked_form_is_the_plain_one_in_training_too(seed: int, keep_missing: bool) -> None:
    weights, heads, videos, captions = random_case(seed)
    videos, results = videos.to(torch.float64), []
    for kind, loss in ((PlainMMT, plain_max_margin), (StackedMMT, stacked_max_margin)):
        model = kind(weights, TEXT_BERT, heads=heads, keep_missing=keep_missing, dtype=torch.float64)
        model.train()
        scores = model.scores(videos, *captions)
        loss(scores, 0.05).backward()
        gradients = {name: value.grad for name, value in model.parameters().items() if value.grad is not None}
        results.append({"scores": scores.detach(), **model.state_dict(), **{f"d {n}": g for n, g in gradients.items()}})
    torch.testing.assert_close(results[1], results[0], atol=1e-12, rtol=1e-9)
