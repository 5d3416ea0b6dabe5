"""Our MMT with released weights answers as the released code does (reference outputs of the public implementation)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vtr.errors import InputError
from vtr.interop.mmt_checkpoint import load_mmt_checkpoint
from vtr.models.mmt import MMT
from vtr.similarity import score_matrix
from vtr.types import ExpertBatch, TextBatch, VideoBatch

CASES = ("drop_missing_0", "drop_missing_1", "keep_missing_0", "keep_missing_1")


def load_case(shared: Path, case: str) -> tuple[MMT, VideoBatch, TextBatch, dict[str, np.ndarray]]:
    folder = shared / "reference" / "mmt" / case
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "batch.npz") as content:
        batch = dict(content)
    model = load_mmt_checkpoint(
        folder / "checkpoint.pth",
        meta["text_bert"],
        heads=meta["video_bert"]["num_attention_heads"],
        keep_missing=meta["keep_missing_modalities"],
        expert_ids=meta["expert_type_ids"],
    )
    experts, present = {}, []
    for name in meta["expert_order"]:
        mask = torch.from_numpy(batch[f"mask/{name}"]) > 0
        # the released code writes the position itself: 0 for no token, 1 for a feature without time
        position = torch.from_numpy(batch[f"times/{name}"]).float()
        seconds = torch.where(position == 1, torch.nan, position - 2)
        values = torch.from_numpy(batch[f"features/{name}"])
        aggregate = torch.from_numpy(batch[f"maxpool/{name}"])
        experts[name] = ExpertBatch(values, seconds, mask, aggregate)
        present.append(mask.any(1))
    count = len(present[0])
    videos = VideoBatch(tuple(map(str, range(count))), experts, torch.stack(present, 1))
    tokens = torch.from_numpy(batch["token_ids"]).flatten(0, 1)
    texts = TextBatch(tuple(map(str, range(len(tokens)))), input_ids=tokens[..., 0], attention_mask=tokens[..., 1])
    return model, videos, texts, batch


@pytest.mark.parametrize("case", CASES)
def test_embeddings_weights_and_scores_equal_the_released_code(shared: Path, case: str) -> None:
    model, videos, texts, batch = load_case(shared, case)
    with torch.inference_mode():
        video_embeddings, text_embeddings = model.embed_videos(videos), model.embed_texts(texts)
        scores = score_matrix(text_embeddings, video_embeddings)
    expected_texts = batch["text_embds"].transpose(0, 2, 1, 3).reshape(len(texts.ids), len(model.experts), -1)
    np.testing.assert_allclose(video_embeddings.vectors.numpy(), batch["vid_embds"], atol=1e-5)
    np.testing.assert_allclose(text_embeddings.vectors.numpy(), expected_texts, atol=1e-5)
    np.testing.assert_allclose(
        text_embeddings.weights.numpy(), batch["text_weights"].reshape(-1, len(model.experts)), atol=1e-5
    )
    np.testing.assert_allclose(scores.numpy(), batch["similarities"], atol=1e-5)


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_a_checkpoint_that_wants_to_run_code_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"state_dict": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(InputError, match=r"refused.*posix\.system"):
        load_mmt_checkpoint(tmp_path / "harm.pth", {}, heads=4, keep_missing=True)


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_mmt_checkpoint(tmp_path / "none.pth", {}, heads=4, keep_missing=True)
    torch.save({"weights": 1}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no state_dict"):
        load_mmt_checkpoint(tmp_path / "other.pth", {}, heads=4, keep_missing=True)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match="not a checkpoint of MMT"):
        load_mmt_checkpoint(tmp_path / "foreign.pth", {}, heads=4, keep_missing=True)
