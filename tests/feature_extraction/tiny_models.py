"""For tests: models of the kinds that experts load, tiny and with random weights, saved as released ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel

LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = {"image_size": 32, "patch_size": 8}
TEXT = {
    **LAYERS,
    "vocab_size": 50,
    "max_position_embeddings": 16,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
CUT = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.48, 0.45, 0.40],
    "image_std": [0.26, 0.25, 0.27],
}
SQUEEZED = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def _clip() -> Any:
    return tf.CLIPModel(tf.CLIPConfig(vision_config={**LAYERS, **PICTURES}, text_config=TEXT, projection_dim=24)), {
        **CUT,
        "image_processor_type": "CLIPImageProcessor",
    }


def _siglip() -> Any:
    return tf.SiglipModel(tf.SiglipConfig(vision_config={**LAYERS, **PICTURES}, text_config=TEXT)), {
        **SQUEEZED,
        "image_processor_type": "SiglipImageProcessor",
    }


def _dinov2() -> Any:
    config = tf.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, **PICTURES)
    return tf.Dinov2Model(config), {**CUT, "image_processor_type": "BitImageProcessor"}


def _registers() -> Any:
    config = tf.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_register_tokens=3, **PICTURES
    )
    return tf.Dinov2WithRegistersModel(config), {**CUT, "image_processor_type": "BitImageProcessor"}


def _deit() -> Any:
    return tf.DeiTModel(tf.DeiTConfig(**LAYERS, **PICTURES)), {**CUT, "image_processor_type": "DeiTImageProcessor"}


def _vit() -> Any:
    model = tf.ViTForImageClassification(tf.ViTConfig(**LAYERS, **PICTURES, num_labels=365))
    return model, {**SQUEEZED, "image_processor_type": "ViTImageProcessor"}


def _videomae() -> Any:
    config = tf.VideoMAEConfig(**LAYERS, **PICTURES, num_frames=4, tubelet_size=2, num_labels=5)
    model = tf.VideoMAEForVideoClassification(config)
    torch.nn.init.normal_(model.fc_norm.weight)  # as if learnt: 1 everywhere otherwise
    return model, {**CUT, "image_processor_type": "VideoMAEImageProcessor"}


def _timesformer() -> Any:
    model = tf.TimesformerForVideoClassification(tf.TimesformerConfig(**LAYERS, **PICTURES, num_frames=4, num_labels=5))
    return model, {**CUT, "image_processor_type": "VideoMAEImageProcessor"}


def _xclip() -> Any:
    vision = {**LAYERS, **PICTURES, "num_frames": 4, "mit_hidden_size": 24, "mit_intermediate_size": 32}
    vision |= {"mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    config = tf.XCLIPConfig(vision_config=vision, text_config={**TEXT}, projection_dim=24)
    return tf.XCLIPModel(config), {**CUT, "image_processor_type": "CLIPImageProcessor"}


def _ast() -> Any:
    config = tf.ASTConfig(**LAYERS, max_length=104, num_mel_bins=32, num_labels=5)
    sound = tf.ASTFeatureExtractor(max_length=104, num_mel_bins=32).to_dict()
    return tf.ASTForAudioClassification(config), sound


SAID = " hello world"
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]


def _tokenizer() -> Any:
    """Return a tokeniser of single bytes with Whisper's special tokens and its 1501 time tokens."""
    tokenizer = tf.WhisperTokenizer(vocab={char: at for at, char in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    tokenizer.add_special_tokens({"extra_special_tokens": SPECIAL[1:]})
    tokenizer.add_tokens([AddedToken(f"<|{step * 0.02:.2f}|>", special=False) for step in range(1501)])
    return tokenizer


def _whisper() -> Any:
    """Return a model that says SAID from 0 to 1.2 s whatever it hears: its position embeddings are the next tokens'."""
    tokenizer = _tokenizer()
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    sizes = {"d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_target_positions": 40}
    end = ids["<|endoftext|>"]
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    start = ids["<|startoftranscript|>"]
    model = tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(vocab_size=len(tokenizer), num_mel_bins=80, decoder_start_token_id=start, **sizes, **ends)
    )
    said = tokenizer(SAID, add_special_tokens=False)["input_ids"]
    said = [*tokenizer.convert_tokens_to_ids(["<|0.00|>"]), *said, *tokenizer.convert_tokens_to_ids(["<|1.20|>"]), end]
    decoder = model.model.decoder
    with torch.no_grad():
        torch.nn.init.normal_(decoder.embed_tokens.weight)
        for place, token in enumerate(said, start=2):  # after start, language and task
            decoder.embed_positions.weight[place] = 100 * decoder.embed_tokens.weight[token]
    model.generation_config = tf.GenerationConfig(
        **ends,
        decoder_start_token_id=start,
        max_length=40,
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        alignment_heads=[[0, 0], [0, 1]],
        max_initial_timestamp_index=50,
        suppress_tokens=[],
        begin_suppress_tokens=[end],
    )
    return model, tf.WhisperFeatureExtractor().to_dict()


READ = "CAFE"


def _trocr() -> Any:
    """Return a model that reads READ whatever it sees, as the one above says what it says."""
    tokenizer = _tokenizer()
    end, start = tokenizer.convert_tokens_to_ids(SPECIAL[:2])
    said = [*tokenizer(READ, add_special_tokens=False)["input_ids"], end]
    sizes = {"d_model": 48, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    decoder = tf.TrOCRConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes)
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tf.ViTConfig(**LAYERS, **PICTURES), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = start, end, end
    model = tf.VisionEncoderDecoderModel(config)
    body = model.decoder.model.decoder
    with torch.no_grad():
        torch.nn.init.normal_(body.embed_tokens.weight)
        model.decoder.output_projection.weight = body.embed_tokens.weight
        for place, token in enumerate(said, start=body.embed_positions.offset):
            body.embed_positions.weight[place] = 100 * body.embed_tokens.weight[token]
    model.generation_config = tf.GenerationConfig(
        decoder_start_token_id=start, pad_token_id=end, eos_token_id=end, max_length=30
    )
    return model, {**SQUEEZED, "image_processor_type": "ViTImageProcessor"}


MAKERS: dict[str, Callable[[], Any]] = {
    "clip": _clip,
    "siglip": _siglip,
    "dinov2": _dinov2,
    "dinov2_with_registers": _registers,
    "deit": _deit,
    "vit": _vit,
    "videomae": _videomae,
    "timesformer": _timesformer,
    "xclip": _xclip,
    "ast": _ast,
    "whisper": _whisper,
    "trocr": _trocr,
}


def save_tiny(kind: str, folder: Path) -> Path:
    """Save a tiny model of a kind, with its preprocessing, and return its folder; the same weights every time."""
    path = folder / kind
    if not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model, preprocessing = MAKERS[kind]()
        model.save_pretrained(path)
        if kind in ("whisper", "trocr"):
            _tokenizer().save_pretrained(path)
        (path / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    return path
