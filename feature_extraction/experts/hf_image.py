"""Image models through `transformers`: CLIP, SigLIP, DINOv2 and ViT features of single frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feature_extraction.extractor import Preparation, VideoInfo
from feature_extraction.needs import frame_need
from feature_extraction.pictures import read_scaler
from feature_extraction.preparations import FramePreparation
from feature_extraction.transformers_expert import TransformersExpert, load_model
from vtr.extract_config import ExtractConfig


@dataclass(frozen=True, slots=True)
class ImageModel:
    """How one type of model is read.

    Attributes:
        model_class: its class in `transformers`.
        pooling: its own image feature.
        leading: tokens before those of the picture's patches (class token, distillation token), without registers.
    """

    model_class: str
    pooling: str
    leading: int = 1


CLIP = ImageModel("CLIPVisionModelWithProjection", "projection")
SIGLIP = ImageModel("SiglipVisionModel", "projection", leading=0)
IMAGE_MODELS = {
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "dinov2": ImageModel("Dinov2Model", "cls"),
    "dinov2_with_registers": ImageModel("Dinov2WithRegistersModel", "cls"),
    "vit": ImageModel("ViTModel", "cls"),
    "deit": ImageModel("DeiTModel", "cls", leading=2),
}
"""By the model type in config.json."""
POOLINGS = {CLIP: ("projection", "cls", "mean"), SIGLIP: ("projection", "mean")}


class ImageModelExpert(TransformersExpert):
    """One feature a frame; each frame covers the time to the next.

    The feature is the model's own for an image (CLIP: the projection that captions are compared with; SigLIP: the
    attention-pooled one; the others: the class token after the last norm), or as `settings.NAME.pooling` says. The body
    of a classifier, such as one trained on Places365, is read the same way; its head is left out.
    """

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self._image_model: ImageModel = IMAGE_MODELS[self.model_config.model_type]
        self._vision: Any = getattr(self.model_config, "vision_config", self.model_config)
        if self._image_model is CLIP:
            self._vision.projection_dim = self.model_config.projection_dim
        self._pooled = self._pooling(self._image_model.pooling, POOLINGS.get(self._image_model, ("cls", "mean")))
        self._scaler = read_scaler(self.folder, name)
        self.frames = frame_need(config, name)
        self.scaler = str(self._scaler)
        projected = self._image_model is CLIP and self._pooled == "projection"
        dim = self._vision.projection_dim if projected else self._vision.hidden_size
        self.spec = self._spec(int(dim), "image", None, self._pooled)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return FramePreparation(info, self._scaler.scale_all)

    def _load(self) -> Any:
        import transformers

        model_class = getattr(transformers, self._image_model.model_class)
        unused = ("pooler.",) if self._pooled == "projection" else ("pooler.", "visual_projection.")
        model, _ = load_model(model_class, self.folder, self.name, self._vision, optional=unused)
        return model

    def _embed(self, items: Tensor) -> Tensor:
        out = self._loaded(pixel_values=self._scaler.normalise(items).to(self._dtype))
        if self._pooled == "mean":
            first = self._image_model.leading + int(getattr(self._vision, "num_register_tokens", None) or 0)
            return torch.as_tensor(out.last_hidden_state[:, first:].float().mean(dim=1))
        if self._image_model is SIGLIP:
            return torch.as_tensor(out.pooler_output)
        if self._pooled == "projection":
            return torch.as_tensor(out.image_embeds)
        cls = out.last_hidden_state[:, 0]
        return torch.as_tensor(self._loaded.vision_model.post_layernorm(cls) if self._image_model is CLIP else cls)
