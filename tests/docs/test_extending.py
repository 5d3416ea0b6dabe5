"""The loss, the model and the data set of docs/extending.md work in a copy of the code that they are added to."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import blocks
from toy import ROOT, make_workspace

from vtr.config import TrainConfig, dump

GUIDE = ROOT / "docs" / "extending.md"
FENCE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)
FILES: dict[str, str] = dict(FENCE.findall(GUIDE.read_text(encoding="utf-8")))
"""The whole files of the page, by their path."""
ADDITIONS = [block for block in blocks(GUIDE) if block.language == "diff"]


def put_in(changes: str, root: Path) -> None:
    """Make a block's changes: the lines of a piece without `+` are in the file once, and become those without `-`."""
    head, *pieces = changes.split("@@\n")
    path = root / head.strip().removeprefix("+++ ")
    text = path.read_text(encoding="utf-8")
    for piece in pieces:
        lines = piece.splitlines(keepends=True)
        before = "".join(line[1:] or "\n" for line in lines if not line.startswith("+"))
        after = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"{path.name} holds {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the page's files and changes in it."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "vtr", root / "vtr", ignore=shutil.ignore_patterns("__pycache__"))
    for path, code in FILES.items():
        if path.startswith("vtr/"):
            (root / path).write_text(code, encoding="utf-8")
    for block in ADDITIONS:
        put_in(block.text, root)
    return root


def python(root: Path, *arguments: object) -> str:
    """Run Python with the code in `root` and return what it prints."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def vtr(root: Path, *commands: list[object]) -> str:
    """Run commands of vtr one after another, in one process: to import torch takes longer than they do."""
    given = json.dumps([list(map(str, command)) for command in commands])
    return python(
        root,
        "-c",
        "import json, sys, vtr.cli\nfor c in json.loads(sys.argv[1]): vtr.cli.app(c, standalone_mode=False)",
        given,
    )


def test_the_page_has_what_it_says() -> None:
    assert {"vtr/losses/sigmoid.py", "vtr/models/linear.py", "prepare_msvd.py"} <= set(FILES)
    assert len(ADDITIONS) == 4


def test_the_loss_is_that_of_plain_loops_and_trains(
    extended: Path, tmp_path: Path, toy_config: Callable[..., TrainConfig]
) -> None:
    script = """
import json, sys, torch
from vtr.losses import build_loss, sigmoid_loss
from vtr.loss_config import SigmoidLossConfig
scores = torch.tensor(json.loads(sys.argv[1]), dtype=torch.float64)
known = torch.tensor(json.loads(sys.argv[2]))
print(json.dumps([
    sigmoid_loss(scores, 7.0, -2.0).item(), sigmoid_loss(scores, 7.0, -2.0, "mean").item(),
    sigmoid_loss(scores, 7.0, -2.0, positives=known).item(),
    build_loss(SigmoidLossConfig(name="sigmoid", gamma=7.0, bias=-2.0))(scores).item(),
]))
"""
    scores = np.random.default_rng(0).uniform(-1, 1, (4, 4))
    known = np.zeros((4, 4), dtype=bool)
    known[0, 0] = known[1, 3] = True
    found = json.loads(python(extended, "-c", script, json.dumps(scores.tolist()), json.dumps(known.tolist())))
    terms = {}
    for i in range(4):
        for j in range(4):
            z = 1 if i == j else -1
            terms[i, j] = -np.log(1 / (1 + np.exp(-z * (7.0 * scores[i, j] - 2.0))))
    total = sum(terms.values())
    np.testing.assert_allclose(found, [total, total / 4, total - terms[1, 3], total / 4], rtol=1e-9)

    workspace = make_workspace(tmp_path / "ws", videos=30)
    (tmp_path / "config.yaml").write_text(dump(toy_config(epochs=1)))
    out = ["--config", tmp_path / "config.yaml", "--out", tmp_path / "run", "--device", "cpu"]
    train = ["train", workspace.root, *out, "--set", "loss.name=sigmoid", "--set", "loss.gamma=10"]
    assert "--set loss.name=sigmoid" in vtr(extended, ["losses"], train)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_the_model_is_that_of_plain_arithmetic(extended: Path) -> None:
    script = """
import json, torch
from vtr.model_config import LinearConfig
from vtr.models import assemble
from vtr.types import ExpertBatch, TextBatch, VideoBatch
torch.manual_seed(0)
model = assemble(LinearConfig(name="linear", dim=8), {"b": 3, "a": 2}, 5).eval()
experts = {}
for name, dim in (("a", 2), ("b", 3)):
    values = torch.randn(4, 6, dim)
    experts[name] = ExpertBatch(values, torch.zeros(4, 6), torch.ones(4, 6, dtype=torch.bool), values.mean(1))
present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
states = torch.randn(3, 5)
with torch.inference_mode():
    videos = model.embed_videos(VideoBatch(("p", "q", "r", "s"), experts, present))
    texts = model.embed_texts(TextBatch(("x", "y", "z"), states=states))
print(json.dumps({
    "weights": {name: value.tolist() for name, value in model.state_dict().items()},
    "means": [held.aggregate.tolist() for held in experts.values()], "states": states.tolist(),
    "videos": videos.vectors.tolist(), "present": videos.present.tolist(),
    "texts": texts.vectors.tolist(), "mixture": texts.weights.tolist(),
}))
"""
    found = json.loads(python(extended, "-c", script))
    weights = {name: np.array(value) for name, value in found["weights"].items()}
    for video in range(4):
        for expert in range(2):
            vector = (
                weights[f"videos.{expert}.weight"] @ found["means"][expert][video] + weights[f"videos.{expert}.bias"]
            )
            np.testing.assert_allclose(found["videos"][video][expert], vector / np.linalg.norm(vector), atol=1e-6)
    for text, state in enumerate(found["states"]):
        vectors = (weights["texts.weight"] @ state + weights["texts.bias"]).reshape(2, 8)
        np.testing.assert_allclose(found["texts"][text], [v / np.linalg.norm(v) for v in vectors], atol=1e-6)
        shares = np.exp(weights["mixture.linear.weight"] @ state + weights["mixture.linear.bias"])
        np.testing.assert_allclose(found["mixture"][text], shares / shares.sum(), atol=1e-6)
    assert found["present"] == [[True, True], [True, False], [False, True], [True, True]]


def test_the_model_trains_is_evaluated_and_searched(
    extended: Path, tmp_path: Path, toy_config: Callable[..., TrainConfig]
) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=30)
    config = toy_config(epochs=20, optimiser={"learning_rate": 1e-2})
    (tmp_path / "config.yaml").write_text(dump(config))
    out = ["--config", tmp_path / "config.yaml", "--out", tmp_path / "run", "--device", "cpu"]
    train = ["train", workspace.root, *out, "--set", "model.name=linear", "--set", "model.dim=16"]
    vtr(extended, train, ["evaluate", tmp_path / "run"], ["search", tmp_path / "run", "a red dog"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line.get("kind") == "epoch"]
    assert len(losses) == 20
    assert losses[-1] < 0.9 * losses[0]


def test_the_data_set_becomes_a_workspace(tmp_path: Path) -> None:
    clips = {
        part: [f"{part}_a_b{number}_{3 * number}_{3 * number + 9}" for number in range(3)]
        for part in ("tr", "va", "te")
    }
    folder = tmp_path / "msvd"
    (folder / "YouTubeClips").mkdir(parents=True)
    for name, part in (("train_list.txt", "tr"), ("val_list.txt", "va"), ("test_list.txt", "te")):
        (folder / name).write_text("\n".join(clips[part]) + "\n")
    lines = [f"{clip} a person number {n} does it" for ids in clips.values() for clip in ids for n in range(2)]
    (folder / "AllVideoDescriptions.txt").write_text("# comments\n# of the authors\n\n" + "\n".join(lines) + "\n")
    (folder / "YouTubeClips" / f"{clips['tr'][1]}.avi").write_bytes(b"")
    (tmp_path / "prepare_msvd.py").write_text(FILES["prepare_msvd.py"], encoding="utf-8")

    script = """
import json, sys
from pathlib import Path
from prepare_msvd import prepare_msvd, read_msvd
from vtr.errors import InputError
folder = Path(sys.argv[1])
try:
    read_msvd(folder)
except InputError as error:
    refused = str(error)
annotations, split = read_msvd(folder, check_counts=False)
report = prepare_msvd(folder, Path(sys.argv[2]), check_counts=False)
video = annotations.videos[1]
print(json.dumps([refused, [split.train, split.validation, split.test], [c.text for c in annotations.captions],
                  [video.source_id, video.start_seconds, video.end_seconds, Path(video.path).name],
                  report.num_videos, report.num_files, report.num_captions]))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "ws")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, parts, captions, video, *counts = json.loads(done.stdout)
    assert "3 found, 1200 are published" in refused
    assert parts == [clips["tr"], clips["va"], clips["te"]]
    assert captions == [line.partition(" ")[2] for line in lines]
    assert video == ["tr_a_b1", 3.0, 12.0, f"{clips['tr'][1]}.avi"]
    assert counts == [9, 1, 18]


@pytest.mark.parametrize("path", FILES)
def test_its_code_is_typed_and_fits_the_line(path: str) -> None:
    code = FILES[path]
    assert max(map(len, code.splitlines())) <= 120
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, node.name
