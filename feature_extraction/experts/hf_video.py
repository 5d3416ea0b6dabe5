"""Video models through `transformers`: VideoMAE, TimeSformer and X-CLIP features of windows of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feature_extraction.clips import ClipPreparation
from feature_extraction.extractor import Preparation, VideoInfo
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.pictures import read_scaler
from feature_extraction.transformers_expert import TransformersExpert, load_model
from vtr.errors import ConfigError
from vtr.extract_config import ExtractConfig


@dataclass(frozen=True, slots=True)
class VideoModel:
    """How one type of model is read.

    Attributes:
        model_class: its class in `transformers`.
        pooling: its own feature of a clip.
        poolings: all it has.
        frames_per_second: the rate within a window that it was trained at, about.
    """

    model_class: str
    pooling: str
    poolings: tuple[str, ...]
    frames_per_second: float


VIDEOMAE = VideoModel("VideoMAEForVideoClassification", "mean", ("mean",), 7.5)  # every 4th frame of 30 a second
TIMESFORMER = VideoModel("TimesformerModel", "cls", ("cls", "mean"), 1.0)  # every 32nd frame
XCLIP = VideoModel("XCLIPModel", "projection", ("projection",), 1.0)  # 8 frames over clips of 10 s
VIDEO_MODELS = {"videomae": VIDEOMAE, "timesformer": TIMESFORMER, "xclip": XCLIP}
"""By the model type in config.json."""


class VideoModelExpert(TransformersExpert):
    """One feature a window of as many frames as the model reads at once, one window every `stride` frames.

    The feature is the model's own for a clip. VideoMAE: the mean of its tokens, then the norm that its classifier
    learnt, where the weights have one. TimeSformer: its class token. X-CLIP: the projection that
    captions are compared with.
    """

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self._video_model: VideoModel = VIDEO_MODELS[self.model_config.model_type]
        self._vision: Any = getattr(self.model_config, "vision_config", self.model_config)
        pooled = self._pooling(self._video_model.pooling, self._video_model.poolings)
        self._mean = pooled == "mean"
        self._window = int(self._vision.num_frames)
        if self.own.window not in (None, self._window):
            raise ConfigError(
                f"settings.{name}.window is {self.own.window}, but {self.model} reads windows of {self._window} "
                "frames. Leave it out, or name a model that reads others."
            )
        rate = self.own.frames_per_second or self._video_model.frames_per_second
        self._scaler = read_scaler(self.folder, name)
        self.frames = FrameNeed(self._sampling(rate), side=config.frame_side)
        self.scaler = str(self._scaler)
        dim = self.model_config.projection_dim if self._video_model is XCLIP else self._vision.hidden_size
        seconds = self._window / rate if self.frames.sampling.kind == "fps" else None
        self.spec = self._spec(int(dim), "video", seconds, pooled)
        self._has_norm = False

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return ClipPreparation(info, self._scaler.scale_all, self._window, self.own.stride or self._window)

    def _sampling(self, rate: float) -> Sampling:
        kind = self.own.sampling or "fps"
        if kind == "shots":
            raise ConfigError(
                f"settings.{self.name}.sampling is shots, but a window of frames would reach across shots. "
                "fps, uniform or all was expected."
            )
        if kind == "uniform" and self.own.max_frames is None:
            raise ConfigError(
                f"settings.{self.name}.sampling is uniform without max_frames. Set how many frames, for example "
                f"{self._window}: one window over the whole video."
            )
        return Sampling(kind, per_second=rate, most=self.own.max_frames)

    def _load(self) -> Any:
        import transformers

        model_class = getattr(transformers, self._video_model.model_class)
        optional = ("fc_norm.", "classifier.") if self._video_model is VIDEOMAE else ()
        model, missing = load_model(model_class, self.folder, self.name, self.model_config, optional)
        self._has_norm = getattr(model, "fc_norm", None) is not None and not any("fc_norm" in key for key in missing)
        return model

    def _embed(self, items: Tensor) -> Tensor:
        clips = self._scaler.normalise(items).to(self._dtype)
        if self._video_model is XCLIP:
            return torch.as_tensor(self._loaded.get_video_features(pixel_values=clips).pooler_output)
        if self._video_model is VIDEOMAE:
            mean = self._loaded.videomae(pixel_values=clips).last_hidden_state.mean(dim=1)
            return torch.as_tensor(self._loaded.fc_norm(mean) if self._has_norm else mean)
        tokens = self._loaded(pixel_values=clips).last_hidden_state
        return torch.as_tensor(tokens[:, 1:].float().mean(dim=1) if self._mean else tokens[:, 0])
