"""One job of benchmarks/training.py in a process of its own: reads it as JSON from its argument, prints JSON."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from losses_worker import machine
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from models_data import SIZES, caption_lengths, make_videos
from toy import ROOT, WORDS, make_workspace

from vtr.config import TrainConfig, dump, load
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.sampling import Pair
from vtr.data.texts import CaptionTable
from vtr.models import build_model
from vtr.models.text import TextInput
from vtr.training.data import TrainingData
from vtr.training.loop import Trainer
from vtr.types import Batch, Caption
from vtr.workspace import Workspace

RECIPE = ROOT / "configs" / "train" / "mmt_1ka_unified.yaml"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
CAPTIONS_OF_A_VIDEO = 20
PROCESSES, STEPS_OF_PROCESSES = 2, 11
"""Each of two epochs has so many steps; the last logged speed is that of the second epoch."""


@dataclass
class Job:
    """What to do.

    Attributes:
        kind: "machine", "recipe" or "processes".
        device: "cpu" or "cuda".
        quick: small sizes, to see whether it runs.
    """

    kind: str
    device: str = "cpu"
    quick: bool = False


@dataclass(frozen=True)
class Amounts:
    """How much is done.

    Attributes:
        sizes: a key of `SIZES`, of the model and the features.
        train, validation: videos.
        batches: batch sizes.
        warm, steps: steps that are not counted, and that are.
        matrix: rows of the square matrices whose product shows the device's rate.
    """

    sizes: str
    train: int
    validation: int
    batches: tuple[int, ...]
    warm: int
    steps: dict[int, int]
    matrix: int


AMOUNTS = {
    ("cpu", False): Amounts("full", 256, 1_000, (32, 128), 1, {32: 4, 128: 2}, 2048),
    ("cuda", False): Amounts("full", 3_000, 1_000, (32, 128), 30, {32: 300, 128: 100}, 8192),
    ("cpu", True): Amounts("small", 64, 40, (8, 32), 1, {8: 3, 32: 2}, 512),
    ("cuda", True): Amounts("small", 300, 100, (32, 128), 5, {32: 20, 128: 10}, 2048),
}


class Timed(Trainer):
    """A trainer that notes when it asked for each batch and when it had it."""

    def _loaded(self, batches: Iterable[list[Pair]]) -> Iterator[tuple[list[Pair], Batch]]:
        self.asked, self.had = [], []
        loaded = super()._loaded(batches)
        while True:
            self.asked.append(time.perf_counter())
            found = next(loaded, None)
            if found is None:
                return
            self.had.append(time.perf_counter())
            yield found

    def run(self, warm: int) -> dict[str, float]:
        """Do an epoch's steps without validation and checkpoints; return seconds of a step, waiting for its batch too.

        Args:
            warm: steps at the start that are not counted.
        """
        steps = self._steps()
        for _ in range(warm):
            next(steps)
        synchronise(self.device)
        first, started = len(self.asked), time.perf_counter()
        done = sum(1 for _ in steps)
        synchronise(self.device)
        seconds = time.perf_counter() - started
        waited = sum(had - asked for asked, had in zip(self.asked[first:], self.had[first:], strict=False))
        return {"step": seconds / done, "waited": waited / seconds, "steps": done}


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def save_bert(folder: Path, sizes: dict[str, Any], words: list[str]) -> None:
    """Save a BERT with random weights and a vocabulary of whole words, as the hub saves its models."""
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *words])}
    BertTokenizer(vocab=vocabulary, do_lower_case=True).save_pretrained(folder)
    known = {key: value for key, value in sizes.items() if key != "model_type"}
    torch.manual_seed(0)
    BertModel(BertConfig(**known | {"vocab_size": len(vocabulary)})).save_pretrained(folder)


def make_captions(videos: list[str], captions_of: int, words: list[str]) -> list[Caption]:
    """Return captions of random words, of MSR-VTT's lengths."""
    draw = np.random.default_rng(0)
    lengths = caption_lengths(len(videos) * captions_of)
    captions = []
    for place, length in enumerate(lengths):
        video = videos[place // captions_of]
        text = " ".join(words[at] for at in draw.integers(0, len(words), length - 3))  # beside [CLS], "." and [SEP]
        captions.append(Caption(f"{video}#{place % captions_of}", video, text))
    return captions


def make_training_data(config: TrainConfig, amounts: Amounts, words: list[str], folder: Path) -> TrainingData:
    """Return random features and captions in memory: a training part, and a validation part of one caption a video."""
    dims = SIZES[amounts.sizes].dims
    videos = make_videos(amounts.train + amounts.validation, dims)
    by_expert = {name: {i: video[name] for i, video in videos.items() if name in video} for name in dims}
    ids = list(videos)
    captions = make_captions(ids[: amounts.train], CAPTIONS_OF_A_VIDEO, words)
    queries = make_captions(ids[amounts.train :], 1, words)
    table = CaptionTable([*captions, *queries], TextInput(config.text), Workspace(folder))
    train = {
        row: list(range(row * CAPTIONS_OF_A_VIDEO, (row + 1) * CAPTIONS_OF_A_VIDEO)) for row in range(amounts.train)
    }
    validation = list(range(amounts.train, len(ids)))
    texts = list(range(len(captions), len(captions) + len(queries)))
    features = FeatureTable(ids, by_expert, dims, FeatureChoice.of(config))
    return TrainingData(features, table, train, validation, texts, list(range(len(validation))))


def recipe(amounts: Amounts, bert: Path, device: str, **changes: Any) -> TrainConfig:
    """Return the recipe's configuration, on local weights and with a number of batches that are an epoch."""
    sizes = SIZES[amounts.sizes]
    model = {**sizes.model, "heads": sizes.heads}
    settings = {"text.model": bert, "epochs": 1, "precision": "bfloat16" if device == "cuda" else "float32"}
    settings |= {f"model.{key}": value for key, value in model.items()} | changes
    return load(TrainConfig, RECIPE, [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()])


def measure_recipe(job: Job, folder: Path) -> dict[str, Any]:
    """Time the loop's steps on batches of each size, and a validation; count a step's operations."""
    amounts, device = AMOUNTS[job.device, job.quick], torch.device(job.device)
    bert_sizes = dict(SIZES[amounts.sizes].text_bert)
    words = [f"w{number}" for number in range(int(bert_sizes["vocab_size"]) - len(SPECIAL))]
    save_bert(folder / "bert", bert_sizes, words)
    data = make_training_data(recipe(amounts, folder / "bert", job.device), amounts, words, folder)
    found: dict[str, Any] = {"rate": matrix_rate(device, amounts.matrix), "steps": [], "videos": amounts.validation}
    for size in amounts.batches:
        for place, compiled in _variants(job.device):
            changes = {"data.batch_size": size, "data.steps_per_epoch": amounts.warm + amounts.steps[size]}
            config = recipe(amounts, folder / "bert", job.device, **changes, **({"compile": True} if compiled else {}))
            _deterministic(config, device)
            model = build_model(config, data.table.dims, data.captions.dim).to(device)
            there = data.to(device) if place == "GPU" else data
            trainer = Timed(config, model, there, folder / "run", device)
            operations = count_operations(trainer, size) if place == _variants(job.device)[0][0] else None
            timed = trainer.run(amounts.warm)
            found["steps"].append(
                {"batch": size, "place": place, "compiled": compiled, "operations": operations, **timed}
            )
            if size == min(amounts.batches):
                found["validation"] = validation_seconds(trainer)
            del model, trainer, there
    return found


def _variants(device: str) -> list[tuple[str, bool]]:
    """Return where features are, and whether the model is compiled; the first without."""
    if device == "cpu":
        return [("host", False)]
    can_compile = "compile" in TrainConfig.model_fields
    return [("host", False), ("GPU", False), *([("GPU", True)] if can_compile else [])]


def _deterministic(config: TrainConfig, device: torch.device) -> None:
    """Choose kernels as `vtr train` does."""
    if importlib.util.find_spec("vtr.training.device") is not None:
        from vtr.training.device import set_determinism

        set_determinism(config.deterministic, device)


def count_operations(trainer: Trainer, size: int) -> int:
    """Return the floating-point operations of the matrix products of one step, forward and backward."""
    pairs = [(row, trainer.data.train[row][0]) for row in list(trainer.data.train)[:size]]
    batch = trainer.objective.load(pairs, np.random.default_rng(0))
    trainer.model.train()
    with FlopCounterMode(display=False) as counter:
        trainer.objective.value(trainer.model, batch, pairs).backward()
    trainer.model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, rows: int) -> float:
    """Return the operations a second of a large matrix product, in the precision the model computes in."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        synchronise(device)
        started = time.perf_counter()
        _ = left @ right
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2 * rows**3 / min(seconds)


def validation_seconds(trainer: Trainer) -> float:
    """Return the seconds of one validation: embedding, scores and ranks."""
    if trainer.device.type == "cuda":
        trainer.validate()  # the first one chooses kernels
    synchronise(trainer.device)
    started = time.perf_counter()
    trainer.validate()
    return time.perf_counter() - started


def measure_processes(job: Job, folder: Path) -> dict[str, Any]:
    """Time `vtr train` as one process and as two, and compare their losses; a core each."""
    if importlib.util.find_spec("vtr.training.distributed") is None:
        return {"skipped": "this vtr does not train on several processes"}
    videos, hidden, batch = (60, 32, 32) if job.quick else (300, 256, 64)
    workspace = make_workspace(folder / "ws", videos=videos)
    bert = {"hidden_size": hidden, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 4 * hidden}
    bert |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # what drops out differs by process
    save_bert(folder / "bert", bert, list(WORDS))
    model = {"name": "mmt", "dim": hidden, "layers": 2, "heads": 4, "feed_forward": 2 * hidden, "dropout": 0.0}
    config = TrainConfig.model_validate(
        {
            "split": "toy",
            "epochs": 2,
            "model": model,
            "text": {"model": str(folder / "bert"), "mode": "fine_tuned"},
            "data": {"batch_size": batch, "steps_per_epoch": STEPS_OF_PROCESSES},
            "optimiser": {"learning_rate": 1e-4},
        }
    )
    (folder / "config.yaml").write_text(dump(config))
    runs = {}
    for count in (1, PROCESSES):
        runs[count] = _train(workspace.root, folder, count)
    losses = [runs[count]["losses"] for count in runs]
    return {
        "pairs_per_second": {str(count): run["speed"] for count, run in runs.items()},
        "difference": max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)),
        "batch": batch,
        "steps": 2 * STEPS_OF_PROCESSES,
    }


def _train(workspace: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Train and return the losses in the log and the last speed."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(several if processes > 1 else []), "-m", "vtr.cli", "train", str(workspace)]
    out = folder / f"run{processes}"
    command += ["--config", str(folder / "config.yaml"), "--out", str(out), "--device", "cpu"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr, check=True)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    return {"losses": [line["loss"] for line in steps], "speed": steps[-1]["pairs_per_second"]}


def main() -> None:
    """Do the job in the first argument."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    jobs = {"recipe": measure_recipe, "processes": measure_processes}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        answer = machine() if job.kind == "machine" else jobs[job.kind](job, Path(folder))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
