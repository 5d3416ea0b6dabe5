"""What noisy correspondence training is worth where captions are filed under wrong videos; writes a page beside itself.

    .venv/bin/python benchmarks/noisy_correspondence.py --workspace vtr-demo/workspace --split demo

A share of the training captions is moved to other videos. The same model is trained on them as if nothing had happened,
and with two peers that judge the pairs (NCR); both are evaluated on the untouched test part, seed by seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from vtr.config import TrainConfig, load
from vtr.data.corpus import Corpus, load_corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.texts import CaptionTable
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.files import write_text
from vtr.models import RetrievalModel, build_model
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.similarity import score_matrix
from vtr.training.data import TrainingData, make_data
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.loop import Trainer
from vtr.training.noisy import JUDGED, PEER_SEED, NoisyTrainer
from vtr.types import Part
from vtr.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".md")
CONFIG = ROOT / "configs" / "train" / "small.yaml"
PARTS: tuple[Part, ...] = ("train", "validation")
CPU = torch.device("cpu")

SETTINGS = ("loss.name=adaptive_margin_unified", "data.batch_size=55", "data.max_features=8")
WAYS = {"as usual": (), "with NCR": ("noisy_correspondence.warmup_epochs=5",)}
"""How the model is trained -> further settings."""


@dataclass(frozen=True)
class Result:
    """What one run came to on the test part.

    Attributes:
        text_to_video, video_to_text: R@1.
        area: of the ROC curve of telling clean training pairs from moved ones; None where nobody judged them.
    """

    seed: int
    how: str
    text_to_video: float
    video_to_text: float
    rsum: float
    area: float | None

    def __str__(self) -> str:
        told = "" if self.area is None else f"{self.area:.3f}"
        numbers = f"{self.text_to_video:.1f} | {self.video_to_text:.1f} | {self.rsum:.1f} | {told}"
        return f"| {self.seed} | {self.how} | {numbers} |"


def main() -> None:
    """Train, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT / "vtr-demo" / "workspace", help="with features")
    parser.add_argument("--split", default="demo", help="of the workspace; it needs all three parts")
    parser.add_argument("--noise", type=float, default=0.4, help="share of training captions moved to other videos")
    parser.add_argument("--epochs", type=int, default=20, help="of both")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    arguments = parser.parse_args()
    corpus = _corpus(Workspace.open(arguments.workspace), arguments.split)
    results = []
    for seed in range(arguments.seeds):
        for how, more in WAYS.items():
            settings = [*SETTINGS, f"split={arguments.split}", f"epochs={arguments.epochs}", f"seed={seed}", *more]
            config = load(TrainConfig, CONFIG, settings)
            results.append(_run(corpus, arguments.workspace, config, arguments.noise, how))
            print(results[-1], flush=True)
    write_text(RESULT, _page(arguments, len(corpus.split.test), results))
    print(f"written to {RESULT}")


def _page(arguments: argparse.Namespace, num_test: int, results: list[Result]) -> str:
    options = " ".join(f"--{name} {getattr(arguments, name)}" for name in ("split", "noise", "epochs", "seeds"))
    lines = [
        "# Noisy correspondence",
        "",
        f"`.venv/bin/python benchmarks/noisy_correspondence.py {options}` made it, with the demo's workspace.",
        "",
        f"{100 * arguments.noise:.0f} % of the training captions were moved to other videos; the {num_test} test",
        f"videos are untouched. {arguments.epochs} epochs of `{CONFIG.relative_to(ROOT)}`, the best by validation.",
        "",
        "| seed | trained | R@1 t2v | R@1 v2t | RSUM | clean told from moved (AUC) |",
        "|---:|---|---:|---:|---:|---:|",
        *map(str, results),
        "",
    ]
    for how in WAYS:
        rsums = [result.rsum for result in results if result.how == how]
        lines.append(f"Mean RSUM {how}: {statistics.mean(rsums):.1f}, from {min(rsums):.1f} to {max(rsums):.1f}.")
    return "\n".join(lines) + "\n"


def _corpus(workspace: Workspace, split: str) -> Corpus:
    return load_corpus(workspace, split, parts=(*PARTS, "test"), available_only=False)


def _run(corpus: Corpus, workspace: Path, config: TrainConfig, noise: float, how: str) -> Result:
    """Train once, with some captions moved, and evaluate on the test part."""
    captions = [caption for part in PARTS for caption in corpus.captions(part)]
    table = CaptionTable(captions, TextInput(config.text), Workspace.open(workspace))
    data = make_data(corpus, table, FeatureChoice.of(config))
    moved = _move(data, noise, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = build_model(config, data.table.dims, table.dim)
        trainer: Trainer
        if config.noisy_correspondence is None:
            trainer = Trainer(config, model, data, root, CPU)
        else:
            peer = build_model(config.model_copy(update={"seed": config.seed + PEER_SEED}), data.table.dims, table.dim)
            trainer = NoisyTrainer(config, model, peer, data, root, CPU)
        trainer.train()
        area = _area(root / JUDGED, moved) if isinstance(trainer, NoisyTrainer) else None
        best, _ = load_model(root / "checkpoints" / "best")
    found = _evaluate(best, corpus, config, workspace)
    t2v, v2t = found.text_to_video.recall[1], found.video_to_text.recall[1]
    return Result(config.seed, how, t2v, v2t, found.rsum, area)


def _move(data: TrainingData, noise: float, seed: int) -> set[str]:
    """Deal a share of the training captions out anew among their places; return the ids of those that moved."""
    draw = np.random.default_rng((seed, 7))
    rows = np.array([row for captions in data.train.values() for row in captions])
    chosen = draw.choice(rows, int(noise * len(rows)), replace=False)
    to = dict(zip(chosen.tolist(), draw.permutation(chosen).tolist(), strict=True))
    before = {row: video for video, captions in data.train.items() for row in captions}
    after = {video: [to.get(row, row) for row in captions] for video, captions in data.train.items()}
    data.train.update(after)
    now = {row: video for video, captions in after.items() for row in captions}
    return {data.captions.captions[row].id for row in rows.tolist() if now[row] != before[row]}


def _area(path: Path, moved: set[str]) -> float:
    """Return the area under the ROC curve of the peers' mean probability that a pair is clean."""
    from sklearn.metrics import roc_auc_score

    table = pq.read_table(path)
    clean = [caption not in moved for caption in table["caption_id"].to_pylist()]
    mean = (table["clean_probability_a"].to_numpy() + table["clean_probability_b"].to_numpy()) / 2
    return float(roc_auc_score(clean, mean))


def _evaluate(model: RetrievalModel, corpus: Corpus, config: TrainConfig, workspace: Path) -> BothWays:
    video_ids, queries = corpus.video_ids("test"), corpus.queries("test")
    table = FeatureTable.load(corpus.store, video_ids, corpus.experts, FeatureChoice.of(config))
    captions = CaptionTable(queries, TextInput(config.text), Workspace.open(workspace))
    videos = embed_videos(model, table, range(len(video_ids)), CPU)
    texts = embed_texts(model, captions, range(len(queries)), CPU)
    place = {video_id: at for at, video_id in enumerate(video_ids)}
    return evaluate_scores(score_matrix(texts, videos), np.array([place[query.video_id] for query in queries]))


if __name__ == "__main__":
    main()
