"""OCR through `transformers`: lines that PP-OCR's detector finds, read by TrOCR (Li et al. 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.damage import UNREADABLE, first_sentence
from feature_extraction.experts.ocr import MIN_CONFIDENCE, MIN_LETTERS, Line, OCRExtractor
from feature_extraction.hub import expert_folder, model_of, weights_sha256
from feature_extraction.pictures import read_scaler
from feature_extraction.quiet import quiet_transformers
from feature_extraction.transformers_expert import DTYPES, load_model, worker_device
from vtr.errors import UnavailableError
from vtr.experts import find_expert
from vtr.extract_config import ExtractConfig

MAX_TOKENS = 64
"""Of one line; a longer line is cut."""
BATCH = 16


class TrOCRExpert(OCRExtractor):
    """As expert ocr, but the lines that the detector finds are read by a TrOCR model; every worker has its own.

    Args:
        config: the settings; `settings.NAME` says model and precision.
        name: the expert's name.

    Raises:
        ConfigError: the model does not turn pictures into text.
        UnavailableError: weights are missing or cannot be read.
    """

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        own, model = config.of(name), model_of(config, name)
        folder = expert_folder(config, name)
        self._device, self._dtype = torch.device(worker_device(config)), DTYPES[own.precision]
        self._batch, self._scaler = own.batch or BATCH, read_scaler(folder, name)
        self._load(folder, name)
        self.scaler = f"{self.scaler}; lines {self._scaler}"
        self.spec = replace(
            self.spec,
            model_id=f"PP-OCR's detector + {model} ({own.precision}) + {self.encoder.model_id}",
            weights_sha256=weights_sha256(folder),
            pretrained_on=find_expert(name, config.settings).pretrained_on,
        )

    def read(self, image: NDArray[np.uint8]) -> list[Line]:
        """Return the text lines of a picture [H, W, 3], from top to bottom."""
        found: Any = self._reader(np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=False, use_rec=False)
        if found.boxes is None:
            return []
        boxes = [box for box in (_upright(corners, image) for corners in found.boxes) if box is not None]
        pictures = [self._scaler.scale(image[top:bottom, left:right]) for left, top, right, bottom in boxes]
        lines = []
        for at in range(0, len(pictures), self._batch):
            lines += self._read_lines(np.stack(pictures[at : at + self._batch]))
        height, width = image.shape[:2]
        return [
            Line(text, sure, (left / width, top / height, right / width, bottom / height))
            for (left, top, right, bottom), (text, sure) in sorted(
                zip(boxes, lines, strict=True), key=lambda line: (line[0][1], line[0][0])
            )
            if sure >= MIN_CONFIDENCE and sum(character.isalnum() for character in text) >= MIN_LETTERS
        ]

    def _load(self, folder: Any, name: str) -> None:
        from transformers import AutoTokenizer, VisionEncoderDecoderModel

        quiet_transformers()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except UNREADABLE as error:
            raise UnavailableError(
                f"expert {name}: {folder} holds no tokeniser ({first_sentence(error)}). Download the model completely."
            ) from error
        model, _ = load_model(VisionEncoderDecoderModel, folder, name, optional=("encoder.pooler.",))
        self._trocr: Any = model.to(self._device, self._dtype)

    @torch.inference_mode()
    def _read_lines(self, pictures: NDArray[np.uint8]) -> list[tuple[str, float]]:
        """Return the text of each picture [n, height, width, 3], and how sure the model is of its tokens on average."""
        pixels = self._scaler.normalise(torch.from_numpy(pictures).to(self._device)).to(self._dtype)
        out = self._trocr.generate(
            pixels,
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            output_scores=True,
        )
        scores = torch.stack([score.float() for score in out["scores"]], dim=1).log_softmax(dim=-1)
        tokens = out["sequences"][:, -scores.shape[1] :]
        log_probabilities = scores.gather(2, tokens[..., None])[..., 0].cpu().numpy()
        lines = []
        for ids, chances in zip(tokens.tolist(), log_probabilities, strict=True):
            ends = [place for place, token in enumerate(ids) if token == self._tokenizer.eos_token_id]
            length = ends[0] + 1 if ends else len(ids)
            text = str(self._tokenizer.decode(ids[:length], skip_special_tokens=True)).strip()
            lines.append((text, float(np.exp(chances[:length].mean()))))
        return lines


def _upright(corners: NDArray[Any], image: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return (left, top, right, bottom) in pixels of the upright box around four corners; None of an empty one."""
    height, width = image.shape[:2]
    left, top = (max(0, int(np.floor(edge))) for edge in corners.min(axis=0))
    right, bottom = (int(np.ceil(edge)) for edge in corners.max(axis=0))
    right, bottom = min(right, width), min(bottom, height)
    return (left, top, right, bottom) if right > left and bottom > top else None
