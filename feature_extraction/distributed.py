"""The Ray engine: every actor of a cluster holds a local engine, Ray Data feeds them, and the driver keeps the results.

The driver puts each finished video into its own spool and writes the shards, as it does with the local engine; actors
hand over what they spooled, and keep nothing. Whatever is lost with a machine is read again.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from feature_extraction.ledger import ALL_EXPERTS, Failure
from feature_extraction.plan import Task
from feature_extraction.pool import Outcome
from feature_extraction.ray_actor import Answer, Attempts, Setup, VideoActor, load
from feature_extraction.spool import Spool
from feature_extraction.worker import Ready
from vtr.errors import ConfigError, UnavailableError, VtrError
from vtr.extract_config import ExtractConfig
from vtr.packaged import has_module
from vtr.progress import say

INSTALL_RAY = "pip install 'vtr[ray]'"
BLOCK_VIDEOS_PER_WORKER = 8
"""Videos handed to an actor at a time, for each of its processes. A lost machine costs at most the videos of the blocks
it was at; an actor's processes wait for each other at the end of a block."""
BLOCK_TRIES = 4
"""How often a block is begun whose actors or machines die over it. Then its videos are read each by itself, and one
that is lost as often once more is to blame."""
START_DEATHS = 10
"""Actors in a row that may die while they start (their machine was lost) before the run ends."""
CONNECT_SECONDS = 10
EMPTY_PASSES = 3
"""Passes over all videos in a row that may end without a single result before the run ends."""


@dataclass(frozen=True, slots=True)
class ActorSize:
    """What an actor takes of a machine, and how many there are at most."""

    cpus: int
    gpus: int
    actors: int


def actor_size(nodes: Sequence[Mapping[str, float]], config: ExtractConfig) -> ActorSize:
    """Return how actors fit onto machines: one a GPU where there are any, else one for every `workers` cores.

    Args:
        nodes: each machine's resources as Ray names them, {"CPU": 8.0, "GPU": 2.0}.
        config: `workers` are the cores of an actor; 0 shares all cores of the smallest machine among its GPUs, or gives
            them to one actor.

    Raises:
        UnavailableError: no machine can run an actor.
        ConfigError: no machine has as many cores as `workers`.
    """
    asked_for_gpus = any(device.startswith("cuda") for device in config.devices)
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes if node.get("CPU", 0) >= 1]
    with_gpus = [machine for machine in machines if machine[1]] if config.devices != ("cpu",) else []
    if not machines or (asked_for_gpus and not with_gpus):
        what = f"a GPU, as devices={','.join(config.devices)} asks for" if asked_for_gpus else "a CPU core"
        raise UnavailableError(
            f"none of the {len(nodes)} machines of the Ray cluster offers {what}. See `ray status`, and add machines "
            "with `ray start --address=HEAD:6379`."
        )
    gpus = 1 if with_gpus else 0
    room = [max(cpus // max(count, 1), 1) if gpus else cpus for cpus, count in with_gpus or machines]
    cpus = config.workers or min(room)
    actors = sum(min(have // cpus, count) if gpus else have // cpus for have, count in with_gpus or machines)
    if not actors:
        most = max(have for have, _ in with_gpus or machines)
        raise ConfigError(
            f"workers is {cpus}: with engine ray an actor takes as many cores of one machine, and the largest of the "
            f"cluster{' with a GPU' if gpus else ''} has {most}. Set workers to at most {most}, or to 0."
        )
    return ActorSize(cpus, gpus, config.ray_actors or actors)


class RayEngine:
    """The engine that runs on a Ray cluster: that of RAY_ADDRESS, or one started on this machine for the run.

    Args:
        config, experts, extractors: as for `feature_extraction.pool.Pool`.
        spool: the driver's; finished videos are put there.

    Attributes:
        peak_bytes: the most memory that one worker of any machine has held with its decoder.

    Raises:
        UnavailableError: Ray is not installed, does not answer, or has no machine that fits.
        ConfigError: see `actor_size`.
    """

    def __init__(
        self, config: ExtractConfig, experts: Sequence[str], extractors: Mapping[str, str], spool: Spool
    ) -> None:
        self._ours = _connect()
        self._spool = spool
        self.peak_bytes = 0
        try:
            nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
            self._size = actor_size(nodes, config)
        except BaseException:
            self.close()
            raise
        if self._size.gpus:  # Ray shows each actor its own GPU only
            config = config.model_copy(update={"devices": ("cuda:0",)})
        self._setup = Setup(self._size.cpus, config, tuple(experts), dict(extractors))
        size = self._size
        say(
            f"loading {', '.join(experts)} on a Ray cluster, machines: {len(nodes)}, actors: up to {size.actors}, "
            f"CPU cores each: {size.cpus}" + (", with a GPU" if size.gpus else "")
        )

    @property
    def _resources(self) -> dict[str, int]:
        return {"num_cpus": self._size.cpus, "num_gpus": self._size.gpus}

    def wait_ready(self) -> Ready:
        """Return what the experts are, as loaded on the first machine with room.

        Raises:
            VtrError: they cannot be loaded there, or the cluster has gone.
        """
        ray = _ray()
        try:
            remote = ray.remote(**self._resources, max_retries=START_DEATHS)(load)
            result = pickle.loads(ray.get(remote.remote(replace(self._setup, workers=1))))
        except ray.exceptions.RayError as error:
            raise VtrError(_cluster_gone(error)) from error
        if isinstance(result, VtrError):
            raise result
        assert isinstance(result, Ready)
        self._setup = replace(self._setup, experts=tuple(result.specs), ready=result)
        return result

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield each task once it is done and in the spool, with its failures.

        Blocks that die with their machine or actor are done again, by Ray. What is lost `BLOCK_TRIES` times is read in
        another pass, each video by itself, so that one that makes actors die is found and has failed.

        Raises:
            VtrError: a machine cannot read videos as the others do, a worker cannot write, or the cluster has gone.
        """
        left = {task.video_id: task for task in tasks}
        alone, empty = False, 0
        while left:
            before = len(left)
            lost: list[str] = []
            for video_id, answer in self._pass(list(left.values()), alone=alone):
                if answer is None:
                    lost.append(video_id)
                elif (task := left.pop(video_id, None)) is not None:  # else a block was done twice
                    self.peak_bytes = max(self.peak_bytes, answer.peak_bytes)
                    self._spool.put(answer.done)
                    yield task, answer.done.failures
            for task in [left.pop(video_id) for video_id in lost if alone and video_id in left]:
                yield task, self._give_up(task)
            empty = empty + 1 if len(left) == before else 0
            if empty == EMPTY_PASSES:
                raise VtrError(_cluster_gone("all machines and actors are lost as soon as they begin"))
            if left:
                say(f"{len(left)} videos were lost with machines or actors of the Ray cluster; reading them again")
            alone = bool(lost) or alone

    def _give_up(self, task: Task) -> tuple[Failure, ...]:
        message = f"the Ray actor that read it was lost {BLOCK_TRIES} times, as happens when memory runs out"
        failures = (Failure(task.video_id, ALL_EXPERTS, "decode", "crash", message),)
        self._spool.put(task.nothing_read(failures))
        return failures

    def _pass(self, tasks: Sequence[Task], *, alone: bool) -> Iterator[tuple[str, Answer | None]]:
        """Yield video ids and what the actors answer; nothing, for videos whose answers died on their way.

        Raises:
            VtrError: as `run`.
        """
        ray = _ray()
        try:
            with _quiet_context():
                answers = self._dataset(tasks, alone)
                for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    for packed in table["answer"].to_pylist():
                        video_id, answer = pickle.loads(packed)
                        if isinstance(answer, VtrError):
                            raise answer
                        yield video_id, answer
        except ray.exceptions.ObjectLostError:
            return
        except ray.exceptions.RayError as error:
            raise VtrError(_cluster_gone(error)) from error

    def _dataset(self, tasks: Sequence[Task], alone: bool) -> Any:
        """Return the lazy data set of answers, one row a video, in any order."""
        data = importlib.import_module("ray.data")
        size = self._size
        block = 1 if alone else BLOCK_VIDEOS_PER_WORKER * size.cpus
        block = max(min(block, len(tasks) // size.actors), 1)  # few videos: some for every actor
        blocks = -(-len(tasks) // block)
        actors = min(size.actors, blocks)
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        return data.from_items(rows, override_num_blocks=blocks).map_batches(
            VideoActor,
            fn_constructor_args=(self._setup, self._start_attempts()),
            batch_size=None,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            **self._resources,
        )

    def _start_attempts(self) -> Any:
        ray = _ray()
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(num_cpus=0, scheduling_strategy=here)(Attempts).remote(BLOCK_TRIES)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started for this run. Actors end with their pass."""
        if self._ours:
            _ray().shutdown()
            self._ours = False


def _ray() -> Any:
    return importlib.import_module("ray")


def _connect() -> bool:
    """Connect to Ray unless this process is; return whether it is ours to shut down.

    Raises:
        UnavailableError: Ray is not installed, or does not answer.
    """
    if not has_module("ray"):
        raise UnavailableError(f"engine ray needs the package ray. Install it with: {INSTALL_RAY}")
    ray = _ray()
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of our own reports to nobody
    try:
        if address and "://" not in address and address != "auto":  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UnavailableError(
            f"the Ray cluster {address or 'of this machine'} cannot be reached ({error}). Start it with `ray start "
            "--head`, set RAY_ADDRESS to its HOST:6379, or unset RAY_ADDRESS to run on this machine only."
        ) from error
    return True


@contextlib.contextmanager
def _quiet_context() -> Iterator[None]:
    """Have Ray Data make data sets inside the block as `RayEngine` needs them, and leave the talking to us."""
    kind = importlib.import_module("ray.data").DataContext
    context = kind.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # hand over each video when it is done, not when much has come together
    context.max_errored_blocks = -1  # lost blocks are no error: `RayEngine.run` sees what is missing
    context.max_consecutive_actor_init_deaths = START_DEATHS
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with kind.current(context):
            yield
    finally:
        logger.setLevel(level)


def _cluster_gone(error: Exception | str) -> str:
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return (
        f"the Ray cluster cannot go on ({reason}). See `ray status` and the logs below /tmp/ray/session_latest/logs; "
        "what is finished is kept, run the same command again."
    )
