"""The configuration of `vtr extract`: which experts read the videos, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vtr.config_base import Config
from vtr.experts import DEFAULT_EXPERTS

SamplingName = Literal["fps", "uniform", "all", "shots"]
Precision = Literal["float32", "bfloat16", "float16"]


class ExpertConfig(Config):
    """How one expert reads; what is left out comes from the table of experts or from `vtr extract`'s settings."""

    kind: Literal["image", "video", "audio", "speech"] | None = None
    """Makes an expert of your own name: image (CLIP, SigLIP, DINOv2, ViT), video (VideoMAE, TimeSformer, X-CLIP),
    audio (AST) or speech (Whisper), with the weights `model` names."""

    model: str | None = None
    """A local folder, a hub name such as "openai/clip-vit-base-patch32", or a weight file (s3d, vggish, densenet)."""

    pooling: Literal["default", "cls", "mean", "projection"] = "default"
    """The model's own image or clip feature, its class token, its tokens' mean, or its projection (CLIP, SigLIP)."""

    sampling: SamplingName | None = None
    """Which frames: see `ExtractConfig.sampling`."""

    frames_per_second: float | None = Field(default=None, gt=0, le=240)
    """Frames per second for sampling fps; of windows of frames, the rate within a window."""

    max_frames: int | None = Field(default=None, ge=1)
    """At most so many frames a video."""

    window: int | None = Field(default=None, ge=1)
    """Frames of one feature, for experts that read windows of frames."""

    stride: int | None = Field(default=None, ge=1)
    """Frames from one window to the next; by default windows do not overlap."""

    window_seconds: float | None = Field(default=None, gt=0)
    """Seconds of sound of one feature."""

    stride_seconds: float | None = Field(default=None, gt=0)
    """Seconds from one window of sound to the next."""

    precision: Precision = "float32"
    """Arithmetic of the model on a GPU or CPU; features are stored as `dtype` says."""

    batch: int | None = Field(default=None, ge=1)
    """Items given to the model at a time; changes speed, not features."""

    language: str | None = None
    """For speech: the language spoken, "en"; by default Whisper finds out."""


class ExtractConfig(Config):
    """`vtr extract`: which experts read the videos, and how the videos are decoded."""

    experts: tuple[str, ...] = Field(default=DEFAULT_EXPERTS, strict=False)
    """The experts to run; one that is not installed is reported and the others go on."""

    settings: dict[str, ExpertConfig] = Field(default_factory=dict)
    """What differs for single experts, by name: `settings: {clip: {model: /models/clip, sampling: uniform}}`."""

    sampling: SamplingName = "fps"
    """Which frames the frame experts see: fps, a grid of `frames_per_second` thinned to `max_frames`; uniform,
    `max_frames` frames evenly; all, every frame, thinned to nothing; shots, `frames_per_shot` frames a shot."""

    frames_per_second: float = Field(default=2.0, gt=0, le=60)
    """Frames given to the frame experts (appearance, objects, face, ocr) per second of video."""

    max_frames: int = Field(default=64, ge=1)
    """At most so many frames a video; longer videos are sampled evenly over their whole length."""

    frames_per_shot: int = Field(default=1, ge=1)
    """For sampling shots: frames taken evenly from each shot that TransNetV2 finds."""

    frame_side: int = Field(default=480, ge=64)
    """Frames are scaled so that their shorter side is at most this many pixels."""

    text_frames_per_second: float = Field(default=1.0, gt=0)
    """Frames per second that ocr reads, taken from those above: text stays on screen longer than things move."""

    max_seconds: float = Field(default=600.0, gt=0)
    """Longer videos are read up to here."""

    timeout_seconds: float = Field(default=120.0, gt=0)
    """A video that takes longer to decode is given up and recorded in the failure ledger."""

    reader: Literal["auto", "decord", "pyav"] = "auto"
    """The decoder: the faster of decord and PyAV, the other one where that fails ("auto"); or only one of them."""

    strict: bool = False
    """Refuse a video that is damaged or cut short; otherwise its readable part is used, and flagged in the ledger."""

    workers: int = Field(default=0, ge=0)
    """Processes that decode in parallel; 0 means one per core. With engine ray: per actor."""

    devices: tuple[Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")], ...] = Field(
        default=("auto",), strict=False
    )
    """Where models run that experts of several videos can share: one batching process a device, for example
    [cuda:0, cuda:1]. "auto": every GPU; without one, each worker runs its own models. "cpu": one process on the CPU."""

    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine. ray: the same on the actors of a Ray cluster."""

    ray_actors: int = Field(default=0, ge=0)
    """With engine ray: how many actors; 0 means one per GPU of the cluster, or one per `workers` cores."""

    shard_videos: int = Field(default=256, ge=1)
    """Videos per Parquet shard."""

    dtype: Literal["float16", "float32"] = "float16"
    """How feature values are stored."""

    sentence_model: str = "packaged:all-minilm-l6-v2"
    """Embeds the text that ocr and speech find: "packaged:all-minilm-l6-v2", a folder, or a hub name."""

    def of(self, expert: str) -> ExpertConfig:
        """Return what is set for one expert."""
        return self.settings.get(expert, ExpertConfig())
