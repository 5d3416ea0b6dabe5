"""One job of benchmarks/losses.py in a process of its own: reads it as JSON from its argument, prints JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vtr.losses import UnifiedLoss, unified_loss

DIM = 512
SUBSPACE = 44
"""Embeddings lie in so many dimensions, which gives similarities of strangers a deviation of 0.15."""

MARGIN, GAMMA = 0.2, 50.0
WARM_UP = 32
"""A step with so few pairs loads the libraries."""

LEAST, TURNS_SECONDS = 3, 60.0
"""Candidates run in turn at least so often, and are not started again after so many seconds."""

Step = Callable[[Tensor, Tensor], Tensor]
"""Texts [B, D] and videos [B, D] to a loss."""


@dataclass
class Job:
    """What to do.

    Attributes:
        kind: "machine", "facts", "memory" (of one candidate), "time" (candidates in turn), or "leaf" (the same, of
            given scores and to their gradient).
        device: "cpu" or "cuda".
        size: B.
        names: of candidates.
        repeats: of each.
    """

    kind: str
    device: str = "cpu"
    size: int = 0
    names: list[str] = field(default_factory=list)
    repeats: int = 1


@dataclass(frozen=True)
class Candidate:
    """A way to compute a loss.

    Attributes:
        make: imports what it needs and returns the loss.
        largest: the largest B that is tried.
        compiles: the first step at a B compiles it.
    """

    make: Callable[[], Step]
    largest: int | None
    compiles: bool = False


def naive(scores: Tensor, gamma: float = GAMMA) -> Tensor:
    """The unified loss as its equation is written."""
    own = scores.diagonal()
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    of_texts = torch.exp(gamma * (scores - own.unsqueeze(1) + MARGIN)) * others
    of_videos = torch.exp(gamma * (scores.T - own.unsqueeze(1) + MARGIN)) * others
    return (torch.log(1 + of_texts.sum(dim=1)) + torch.log(1 + of_videos.sum(dim=1))).sum() / gamma


def ours(scores: Tensor) -> Tensor:
    """`unified_loss` with the paper's settings."""
    return unified_loss(scores, MARGIN, GAMMA)


def cross_entropy(scores: Tensor) -> Tensor:
    """The contrastive loss, with PyTorch's own function."""
    logits, own = GAMMA * scores, torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)


def _of_scores(loss: Callable[[Tensor], Tensor]) -> Step:
    return lambda text, video: loss(text @ video.T)


def _compiled() -> Step:
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(_of_scores(ours), fullgraph=True, dynamic=False)


def _metric_learning(name: str, **settings: float) -> Step:
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise LookupError("pytorch-metric-learning is not installed") from error
    loss = getattr(losses, name)(**settings)

    def step(text: Tensor, video: Tensor) -> Tensor:
        labels = torch.arange(len(text), device=text.device)
        found: Tensor = loss(torch.cat((text, video)), torch.cat((labels, labels)))
        return found

    return step


NAIVE, SCORES, EMBEDDINGS = "naive exp form", "ours from scores", "ours from embeddings"
CROSS_ENTROPY, COMPILED = "F.cross_entropy both ways", "ours, torch.compile"
CIRCLE, MULTI = "CircleLoss(m=0.25, gamma=80)", "MultiSimilarityLoss()"
OTHER_LOSSES = (CIRCLE, MULTI)
CANDIDATES = {
    NAIVE: Candidate(lambda: _of_scores(naive), 16384),
    SCORES: Candidate(lambda: _of_scores(ours), 16384),
    EMBEDDINGS: Candidate(lambda: UnifiedLoss(MARGIN, GAMMA).from_embeddings, None),
    COMPILED: Candidate(_compiled, 16384, compiles=True),
    CROSS_ENTROPY: Candidate(lambda: _of_scores(cross_entropy), 16384),
    CIRCLE: Candidate(lambda: _metric_learning("CircleLoss", m=0.25, gamma=80), 4096),
    MULTI: Candidate(lambda: _metric_learning("MultiSimilarityLoss"), 4096),
}
OF_SCORES = {SCORES: ours, CROSS_ENTROPY: cross_entropy}


def embeddings(size: int, device: str) -> tuple[Tensor, Tensor]:
    """Return unit texts and videos [B, D] that ask for gradients: cosines of pairs 0.5 on average, of others 0 +- 0.15.

    A video is half its text and for the rest another direction; all lie in a random subspace.
    """
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(DIM, SUBSPACE, generator=draw)).Q.T
    texts, others = (F.normalize(torch.randn(size, SUBSPACE, generator=draw)) for _ in range(2))
    videos = F.normalize(0.5 * texts + 0.75**0.5 * others)
    return (texts @ basis).to(device).requires_grad_(), (videos @ basis).to(device).requires_grad_()


def make(name: str) -> Step:
    """Return a candidate's step.

    Raises:
        LookupError: it is not installed, or there is no compiler.
    """
    return CANDIDATES[name].make()


def run_once(step: Callable[..., Tensor], leaves: tuple[Tensor, ...]) -> float:
    """Take one step, forward and backward, and return its seconds."""
    for leaf in leaves:
        leaf.grad = None
    synchronise(leaves[0])
    started = time.perf_counter()
    step(*leaves).backward()
    synchronise(leaves[0])
    return time.perf_counter() - started


def synchronise(x: Tensor) -> None:
    """Wait for the GPU, if x lives there."""
    if x.is_cuda:
        torch.cuda.synchronize()


def measure_memory(job: Job) -> dict[str, Any]:
    """Return the bytes a step takes at its peak beyond those before it, and its seconds."""
    (name,) = job.names
    step = make(name)
    run_once(step, embeddings(WARM_UP, job.device))
    leaves = embeddings(job.size, job.device)
    if CANDIDATES[name].compiles:  # the compiler's own memory is none of the step's
        run_once(step, leaves)
    for leaf in leaves:
        leaf.grad = None
    before = restart_peak(job.device)
    seconds = run_once(step, leaves)
    return {"memory": peak(job.device) - before, "seconds": seconds}


def restart_peak(device: str) -> int:
    """Return the bytes in use, and let the peak start from there (or, where /proc allows no reset, from the past)."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: str) -> int:
    """Return the most bytes in use since `restart_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_time(job: Job) -> dict[str, Any]:
    """Return each candidate's times, run in turn; one that fails is left out from then on."""
    leaves: tuple[Tensor, ...] = embeddings(job.size, job.device)
    if job.kind == "leaf":
        leaves = ((leaves[0] @ leaves[1].T).detach().requires_grad_(),)
        steps: dict[str, Callable[..., Tensor]] = {name: OF_SCORES[name] for name in job.names}
    else:
        steps = {name: make(name) for name in job.names}
    found: dict[str, Any] = {}
    for _ in range(2):  # warms up, and compiles
        _round(steps, leaves, found)
    seconds: list[dict[str, float]] = []
    started = time.perf_counter()
    while len(seconds) < job.repeats and (len(seconds) < LEAST or time.perf_counter() - started < TURNS_SECONDS):
        seconds.append(_round(steps, leaves, found))
    for name in [name for name in steps if name not in found]:
        took = [turn[name] for turn in seconds]
        found[name] = {"median": statistics.median(took), "least": min(took), "repeats": len(took)}
    return found


def _round(
    steps: dict[str, Callable[..., Tensor]], leaves: tuple[Tensor, ...], failed: dict[str, Any]
) -> dict[str, float]:
    """Take a step of each that has not failed, and return their seconds."""
    seconds = {}
    for name in [name for name in steps if name not in failed]:
        try:
            seconds[name] = run_once(steps[name], leaves)
        except Exception as error:  # out of memory, mostly
            failed[name] = {"failed": in_words(error)}
    return seconds


def in_words(error: Exception) -> str:
    """Return an error in a few words."""
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "out of memory"
    if "compiler" in text.lower() and "found" in text.lower():
        return f"skipped, no compiler: {text[:80]}"
    return text[:150] or type(error).__name__


def facts(device: str) -> dict[str, Any]:
    """Return whether ours compiles to one graph, and where the naive form and ours stop to be finite."""
    text, video = (x.detach() for x in embeddings(512, device))
    scores = text @ video.T
    overflow = ["At B = 512:"]
    for words, some in (("these embeddings", scores), ("pairs that do not match yet", text @ video.roll(1, 0).T)):
        largest = (some - some.diagonal().unsqueeze(1)).fill_diagonal_(-2).max().item() + MARGIN
        single, half = (_overflows(some.to(kind)) for kind in (torch.float32, torch.float16))
        overflow.append(
            f"with {words}, the largest s_ij - s_ii + m is {largest:.2f}, and the naive form overflows from gamma = "
            f"{single} on in float32, from {half} on in float16;"
        )
    return {
        "compile": _compile_in_one_graph(scores),
        "ours": _finite_at_1000(scores),
        "overflow": " ".join(overflow)[:-1] + ".",
    }


def _overflows(scores: Tensor) -> int | None:
    """Return the smallest whole gamma at which the naive form is not finite."""
    return next((gamma for gamma in range(1, 1000) if not naive(scores, gamma).isfinite()), None)


def _finite_at_1000(scores: Tensor) -> str:
    for kind in (torch.float32, torch.float16):
        leaf = scores.clone().to(kind).requires_grad_()
        loss = unified_loss(leaf, MARGIN, 1000.0)
        loss.backward()
        if leaf.grad is None or not (loss.isfinite() and leaf.grad.isfinite().all()):
            return f"not finite in {kind}"
    return "finite"


def _compile_in_one_graph(scores: Tensor) -> str:
    """Compile without a code generator, so that a graph break is all that can fail it."""
    leaf = scores.clone().requires_grad_()
    try:
        loss = torch.compile(ours, fullgraph=True, backend="eager")(leaf)
        loss.backward()
    except Exception as error:
        return in_words(error)
    return "ok" if torch.allclose(loss, ours(scores)) else f"{loss.item()} is not {ours(scores).item()}"


def limit_memory() -> None:
    """Let an allocation fail before the machine is out of memory."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    if found:
        most = int(found[1]) * 1024 * 9 // 10
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def machine() -> dict[str, Any]:
    """Return what the page says of the machine."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"torch": torch.__version__, "gpu": gpu, "memory": memory, "threads": torch.get_num_threads()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Do the job in the first argument."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if job.device == "cpu":
        limit_memory()
    try:
        with _quiet():
            if job.kind == "machine":
                answer = machine()
            elif job.kind == "facts":
                answer = facts(job.device)
            else:
                answer = measure_memory(job) if job.kind == "memory" else measure_time(job)
    except Exception as error:
        answer = {"failed": in_words(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
