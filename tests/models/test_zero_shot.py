"""Search without training: scores are CLIP's own, and words that are spoken or shown are found by meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from vtr.config import TrainConfig, build
from vtr.errors import ConfigError, UnavailableError
from vtr.model_config import TextSideConfig, ZeroShotConfig
from vtr.models import ZeroShot, build_model, text_input
from vtr.models.saved import load_model, save_model
from vtr.models.zero_shot import ZeroShotTexts
from vtr.packaged import MINILM
from vtr.similarity import score_matrix
from vtr.types import ExpertBatch, VideoBatch

WORDS = ("a", "dog", "cat", "runs", "sleeps")
LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights and a vocabulary of some words, as the hub saves its models."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    letters = sorted({letter for word in WORDS for letter in word})
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {token: number for number, token in enumerate(tokens)}
    tf.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    torch.manual_seed(3)
    tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    return folder


def batch_of(values: dict[str, list[np.ndarray | None]]) -> VideoBatch:
    """Return videos of features [T, D], None where a video lacks the expert."""
    experts, present = {}, []
    for name, videos in sorted(values.items()):
        dim = next(v for v in videos if v is not None).shape[1]
        most = max(len(v) for v in videos if v is not None)
        padded = torch.zeros((len(videos), most, dim))
        mask = torch.zeros((len(videos), most), dtype=torch.bool)
        for row, video in enumerate(videos):
            if video is not None:
                padded[row, : len(video)], mask[row, : len(video)] = torch.tensor(video), True
        experts[name] = ExpertBatch(padded, torch.zeros(mask.shape), mask, torch.zeros((len(videos), dim)))
        present.append(mask.any(1))
    ids = tuple(str(n) for n in range(len(next(iter(values.values())))))
    return VideoBatch(ids, experts, torch.stack(present, 1))


def test_one_frame_scores_as_clip_itself_does(tiny_clip: Path) -> None:
    clip = tf.CLIPModel.from_pretrained(tiny_clip).eval()
    tokenizer = tf.CLIPTokenizer.from_pretrained(tiny_clip)
    pictures = torch.randn((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    queries = ["a dog runs", "cat sleeps", "dog"]
    with torch.inference_mode():
        tokens = tokenizer(queries, padding=True, return_tensors="pt")
        own = clip(pixel_values=pictures, **tokens)
        features = 3 * own.image_embeds.numpy()  # of any length
        expected = (own.logits_per_text / clip.logit_scale.exp()).numpy()
    config = ZeroShotConfig(name="zero_shot", texts={"clip": TextSideConfig(kind="clip", model=str(tiny_clip), dim=24)})
    texts = ZeroShotTexts(config)
    model = ZeroShot(config, {"clip": 24}, texts.dim)
    videos = model.embed_videos(batch_of({"clip": [one[None] for one in features]}))
    scores = score_matrix(model.embed_texts(texts.batch(queries, queries)), videos).numpy()
    assert np.allclose(scores, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-2


@pytest.fixture(scope="module")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights and a fast tokenizer of some words, which also makes attention masks."""
    folder = tmp_path_factory.mktemp("tiny-siglip")
    vocab = {token: number for number, token in enumerate(("</s>", "<unk>", *WORDS))}
    words = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )
    tokenizer.save_pretrained(folder)
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": 16, "pad_token_id": 0, "eos_token_id": 0}
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    torch.manual_seed(5)
    model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision))
    for values in model.parameters():
        values.data.add_(0.1 * torch.randn_like(values))  # as they begin, all texts are nearly the same
    model.save_pretrained(folder)
    return folder


def test_one_frame_scores_as_siglip_itself_does(tiny_siglip: Path) -> None:
    """Texts are padded to the full length and all of it counts, as SigLIP was trained."""
    siglip = tf.SiglipModel.from_pretrained(tiny_siglip).eval()
    tokenizer = tf.AutoTokenizer.from_pretrained(tiny_siglip)
    pictures = torch.randn((6, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    queries = ["a dog runs", "cat sleeps", "dog", "a cat runs " * 9]  # the last is cut

    def ask(padding: str | bool, *taken: str) -> tf.modeling_outputs.ModelOutput:
        tokens = tokenizer(queries, padding=padding, truncation=True, max_length=16, return_tensors="pt")
        with torch.inference_mode():
            return siglip(pixel_values=pictures, **{name: tokens[name] for name in taken})

    own = ask("max_length", "input_ids")
    expected = (own.logits_per_text - siglip.logit_bias) / siglip.logit_scale.exp()
    side = TextSideConfig(kind="siglip", model=str(tiny_siglip), dim=32)
    config = ZeroShotConfig(name="zero_shot", texts={"siglip": side})
    texts = ZeroShotTexts(config)
    videos = [3 * one[None] for one in own.image_embeds.numpy()]
    model = ZeroShot(config, {"siglip": 32}, texts.dim)
    scores = score_matrix(
        model.embed_texts(texts.batch(queries, queries)), model.embed_videos(batch_of({"siglip": videos}))
    )
    assert torch.allclose(scores, expected.detach(), atol=1e-5)
    assert torch.equal(scores.argsort(1), own.logits_per_text.argsort(1))
    masked = ask("max_length", "input_ids", "attention_mask")
    assert not torch.allclose(masked.logits_per_text, own.logits_per_text, atol=1e-3)  # what must not be done


def test_the_score_is_the_weighted_sum_of_cosines(tiny_clip: Path) -> None:
    sides = {
        "clip": TextSideConfig(kind="clip", model=str(tiny_clip), dim=24),
        "speech": TextSideConfig(kind="sentence", model=MINILM, dim=384),
        "ocr": TextSideConfig(kind="sentence", model=MINILM, dim=384),
    }
    config = ZeroShotConfig(name="zero_shot", texts=sides, weights={"clip": 2.0, "speech": 0.5})
    texts = ZeroShotTexts(config)
    assert texts.dim == 24 + 384  # experts share an encoder
    model = ZeroShot(config, {name: side.dim for name, side in sides.items()}, texts.dim)
    draw = np.random.default_rng(0)
    features = {
        "clip": [draw.normal(size=(3, 24)), draw.normal(size=(1, 24))],
        "speech": [None, draw.normal(size=(2, 384))],
        "ocr": [draw.normal(size=(4, 384)), None],
    }
    state = texts.states(["a dog runs"])[0].numpy()
    asked = {"clip": state[:24], "speech": state[24:], "ocr": state[24:]}
    weights = {"clip": 2.0, "speech": 0.5, "ocr": 1.0}

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    expected = []
    for video in range(2):
        total = 0.0
        for name, weight in weights.items():
            if (held := features[name][video]) is not None:
                mean = sum(unit(frame) for frame in held) / len(held)
                total += weight * float(unit(mean) @ unit(asked[name]))
        expected.append(total / sum(weights.values()))
    found = score_matrix(model.embed_texts(texts.batch(["q"], ["a dog runs"])), model.embed_videos(batch_of(features)))
    assert np.allclose(found[0].numpy(), expected, atol=1e-5)


def test_it_is_saved_and_loaded(tiny_clip: Path, tmp_path: Path) -> None:
    config = _config(tiny_clip, weights={"clip": 3})
    model = ZeroShot(config.model, {"clip": 24, "ocr": 384}, text_input(config).dim)
    save_model(tmp_path, model, config)
    loaded, again = load_model(tmp_path)
    assert again == config
    assert isinstance(loaded, ZeroShot)
    assert loaded.weights.tolist() == [0.75, 0.25]
    batch = text_input(again).batch(["a"], ["a cat"])
    assert torch.equal(loaded.embed_texts(batch).vectors, model.embed_texts(batch).vectors)


def test_meaning_is_found_not_only_words() -> None:
    config = ZeroShotConfig(name="zero_shot", texts={"speech": TextSideConfig(kind="sentence", model=MINILM, dim=384)})
    texts = ZeroShotTexts(config)
    model = ZeroShot(config, {"speech": 384}, 384)
    said = ["we drive our automobile to the seaside", "bake the cake for forty minutes", "the senate voted on taxes"]
    videos = model.embed_videos(batch_of({"speech": [texts.states([words]).numpy() for words in said]}))
    queries = ["a car trip to the beach", "a recipe for dessert", "politics"]
    scores = score_matrix(model.embed_texts(texts.batch(queries, queries)), videos)
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_it_says_what_it_finds(tiny_clip: Path) -> None:
    config = _config(tiny_clip)
    told = ZeroShot(config.model, {"clip": 24, "ocr": 384}, text_input(config).dim).finds
    assert told == (
        "Finds what pictures show and words on screen, by meaning, without having been trained. Not what is spoken."
    )
    words = ZeroShotConfig(name="zero_shot", texts={"ocr": TextSideConfig(kind="sentence", model=MINILM, dim=384)})
    assert "Not what pictures show" in ZeroShot(words, {"ocr": 384}, 384).finds


def test_mistakes_are_named(tiny_clip: Path) -> None:
    with pytest.raises(ConfigError, match="not trained"):
        build_model(_config(tiny_clip), {"clip": 24}, 24)
    with pytest.raises(ConfigError, match="no encoder of dim 7 for clip"):
        ZeroShot(_config(tiny_clip).model, {"clip": 7}, 24)
    for weights in ({"clip": -1.0}, {"sound": 1.0}):
        with pytest.raises(ConfigError, match="positive numbers of clip, ocr"):
            ZeroShot(_config(tiny_clip, weights=weights).model, {"clip": 24, "ocr": 384}, 24 + 384)
    wrong = {"clip": TextSideConfig(kind="clip", model=str(tiny_clip), dim=25)}
    with pytest.raises(ConfigError, match="makes vectors of 24, 25 were expected"):
        ZeroShotTexts(ZeroShotConfig(name="zero_shot", texts=wrong))
    gone = {"clip": TextSideConfig(kind="clip", model="/nowhere/clip", dim=25)}
    with pytest.raises(UnavailableError, match="no such folder"):
        ZeroShotTexts(ZeroShotConfig(name="zero_shot", texts=gone))


def _config(tiny_clip: Path, weights: dict[str, float] | None = None) -> TrainConfig:
    texts = {
        "clip": {"kind": "clip", "model": str(tiny_clip), "dim": 24},
        "ocr": {"kind": "sentence", "model": MINILM, "dim": 384},
    }
    return build(TrainConfig, {"model": {"name": "zero_shot", "texts": texts, "weights": weights or {}}}, "the test")
