"""Several stages at once: seeds, arms and recipes as one graph of tasks, run by Dask.

A stage is ready when the stages that it reads are finished. Dask (`distributed`, the extra
``jobs``) keeps that graph, gives each worker one stage at a time, and takes a stage to another
worker when one dies; it then goes on from its last checkpoint. On one machine the workers are
processes that share its cores, one accelerator to each. With an address the workers are those
of a Dask scheduler that somebody started, on one machine or several with a common file system.

Why Dask. Installed side by side in November 2026: ray 2.60 takes 260 MB, distributed 2026.8
45 MB, parsl 2026.10 19 MB, submitit 1.5 2 MB. What they do was read in their documentation; only
Dask was used here. submitit hands single jobs to Slurm and knows no graph. ray and parsl have
graphs and second tries, too; ray brings an object store and servers that files in a folder do
not need, and parsl wants a configuration for each site where Dask's workers join by an address.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trlm_utils import machine
from trlm_utils.runner.digest import dependencies, digest_of, is_finished, read_manifest
from trlm_utils.runner.kernel import RunFailed
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.pipeline import locked, run_stage, select_stages
from trlm_utils.runner.progress import line, read
from trlm_utils.runner.recipes import Plan, StagePlan
from trlm_utils.runner.torchrun import Ranks

CORES = "TRLM_JOB_CORES"  # environment variable of a worker: the cores that its stages may use
TRIES = 3  # workers that may die over one stage before it counts as failed
LOOK, TELL = 0.5, 15.0  # seconds between two looks at the running stages; between two lines
MISSING = "--jobs needs the package distributed: pip install -e '.[jobs]'"


class StageFailed(RunFailed):
    """A stage failed on a worker.

    Args:
        where: the key of its task, which tells it from the stages that wait for it.
        why: one line.
    """

    def __init__(self, where: str, why: str):
        super().__init__(where, why)  # with both, so that it can be sent
        self.where, self.why = where, why


@dataclass(frozen=True)
class Run:
    """A plan and its folder: one recipe with one seed."""

    plan: Plan
    folder: Path
    name: str  # before every line about it, as "nano, seed 1"


@dataclass
class Job:
    """A stage that was handed to Dask."""

    run: Run
    stage: StagePlan
    future: Any
    told: str = ""
    end: str = ""  # "finished" or "failed", once it has ended
    why: str = ""  # why it failed; empty if only a stage that it reads did

    @property
    def head(self) -> str:
        """The beginning of every line about this stage."""
        return f"{self.run.name}  {self.stage.stage:<18}"


def run_together(
    runs: Sequence[Run],
    jobs: int,
    *,
    address: str = "",
    start: str = "",
    only: str = "",
    force: bool = False,
) -> None:
    """Run all stages of several runs that are not finished, as many at once as there are workers.

    Args:
        jobs: number of workers on this machine.
        address: a Dask scheduler whose workers are used instead, as ``tcp://host:8786``.
        start, only, force: see `pipeline.run_plan`.

    Raises:
        RecipeError: when the package is missing, no scheduler answers, or see `run_plan`.
        RunFailed: when stages failed, after all that did not need them were run; in one line.
    """
    with contextlib.ExitStack() as stack:
        for folder in dict.fromkeys(run.folder for run in runs):
            stack.enter_context(locked(folder))
        chosen = [(run, select_stages(run.plan, run.folder, start, only)) for run in runs]
        client = stack.enter_context(_client(jobs, address))
        handed = _hand_over(client, chosen, time.time() if force else 0.0)
        workers = len(client.scheduler_info()["workers"])
        print(f"{len(handed)} stages of {len(runs)} runs on {workers} workers", flush=True)
        _watch(handed)
        said = failures(handed)
    if said:
        raise RunFailed(said)


# --- the engine -------------------------------------------------------------------


@contextlib.contextmanager
def _client(jobs: int, address: str) -> Iterator[Any]:
    """A connection to a scheduler: one that is there, or one with workers on this machine."""
    try:
        import dask
        from distributed import Client, SpecCluster
    except ModuleNotFoundError:
        raise RecipeError(MISSING) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    settings = {
        "distributed.scheduler.allowed-failures": TRIES - 1,
        "distributed.comm.timeouts.connect": "10s",
        "distributed.worker.daemon": False,  # a stage starts processes of its own
        # a stage is handed to the worker that ran what it reads; another one that is idle takes it
        "distributed.scheduler.work-stealing": True,
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    }
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if not address:
            address = stack.enter_context(SpecCluster(**_workers(jobs), silence_logs=50))
        try:
            client = stack.enter_context(Client(address))
        except (OSError, ValueError) as error:
            raise RecipeError(f"--address {address}: no Dask scheduler answers ({error})") from None
        threads = [w["nthreads"] for w in client.scheduler_info()["workers"].values()]
        if any(number != 1 for number in threads):
            raise RecipeError("each worker runs one stage at a time: start them with --nthreads 1")
        yield client


def _workers(jobs: int) -> dict[str, Any]:
    """The description of a cluster on this machine, for Dask's SpecCluster."""
    from distributed import Nanny, Scheduler

    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False}
    return {
        "scheduler": {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}},
        "workers": {
            number: {"cls": Nanny, "options": options | {"env": share(number, jobs)}}
            for number in range(jobs)
        },
    }


def share(number: int, jobs: int) -> dict[str, str]:
    """Environment variables of one of several workers: its cores and its accelerator.

    The second of two workers on four cores with two cards gets cores 2 and 3, and card 1.
    """
    cores = machine.own_cores()
    own = cores[number * len(cores) // jobs : (number + 1) * len(cores) // jobs]
    own = own or [cores[number % len(cores)]]
    found = {CORES: ",".join(map(str, own))}
    name, cards = machine.visible_cards()
    if cards:
        found[name] = cards[number % len(cards)]
    return found


def work(
    stage: StagePlan,
    folder: Path,
    needs_hub: bool,
    since: float,
    *reads: str,
    many: Ranks | None = None,
) -> str:
    """Run one stage on a worker, unless it is finished; returns its line.

    Results lie in files, but Dask asks again for the line of a stage whose worker has died.

    Args:
        since: seconds since 1970; what was finished before is made again. 0 keeps all.
        reads: lines of the stages that it reads; Dask waits for them.
        many: the ranks to train on, if it is a stage that trains.

    Raises:
        StageFailed: when it fails.
    """
    own = os.environ.get(CORES)
    if own and hasattr(os, "sched_setaffinity"):  # of this thread, which starts the kernel
        os.sched_setaffinity(0, {int(core) for core in own.split(",")})
    try:
        found, place = dependencies(stage, folder), folder / stage.stage
        manifest = place / "manifest.json"
        old = manifest.exists() and manifest.stat().st_mtime < since
        if not old and is_finished(place, digest_of(found)):
            return "already finished"
        return run_stage(stage, folder, needs_hub, found, force=old, many=many)
    except RunFailed as error:
        why = str(error)
    except Exception as error:  # whatever it is, only what needs this stage stops
        why = f"stage {stage.stage} failed: {type(error).__name__}: {error}".splitlines()[0]
    raise StageFailed(key_of(stage.stage, folder), why)


def key_of(stage: str, folder: Path) -> str:
    """The key of a stage's task."""
    return f"{folder}/{stage}"


# --- the graph --------------------------------------------------------------------


def _hand_over(
    client: Any,
    chosen: Sequence[tuple[Run, list[StagePlan]]],
    since: float,
    task: Callable[..., str] = work,
) -> list[Job]:
    """Hand all stages to Dask, earlier runs and stages first; a stage of two recipes once."""
    handed: list[Job] = []
    futures: dict[str, Any] = {}
    for run, stages in chosen:
        for stage in stages:
            key = key_of(stage.stage, run.folder)
            if key in futures:
                continue
            read = [key_of(name, run.folder) for name in stage.reads]
            futures[key] = client.submit(
                task,
                stage,
                run.folder,
                run.plan.needs_hub,
                since,
                *(futures[name] for name in read if name in futures),
                key=key,
                priority=-len(handed),
                pure=False,
            )
            handed.append(Job(run, stage, futures[key]))
    return handed


def _watch(handed: Sequence[Job]) -> None:
    """Print a line for each stage that begins, goes on or ends, until all have ended."""
    told = began = time.time()
    while not all(job.end for job in handed):
        time.sleep(LOOK)
        for job in handed:
            if not job.end:
                _look(job)
        if time.time() - told >= TELL:
            told = time.time()
            for job in handed:
                if not job.end:
                    _tell(job, began)


def _look(job: Job) -> None:
    """Keep how a stage ended and print its line, if it has.

    It is kept because Dask forgets: when the worker that holds the line of a finished stage
    dies, the stage's status becomes "lost" until another worker has given that line again.
    """
    status = job.future.status
    if status == "finished":
        print(f"{job.head} {job.future.result()}", flush=True)
        job.end = "finished"
    elif status in ("error", "cancelled"):
        job.end, job.why = "failed", _why_failed(job, status)
        if job.why:
            print(f"{job.head} failed", flush=True)


def _tell(job: Job, began: float) -> None:
    """Print how far a running stage is, unless that was printed before."""
    folder = job.run.folder / job.stage.stage
    found = read(folder, began)
    if found and read_manifest(folder).get("status") == "running":
        text = line(found, time.time())
        if text != job.told:
            job.told = text
            print(f"{job.head} {text}", flush=True)


# --- failures ---------------------------------------------------------------------


def _why_failed(job: Job, status: str) -> str:
    """Why a stage failed; empty if it was not run because a stage that it reads failed."""
    from distributed.scheduler import KilledWorker

    error = job.future.exception() if status == "error" else None
    if isinstance(error, StageFailed):  # Dask gives it to the stages that wait for it, too
        return error.why if error.where == job.future.key else ""
    if isinstance(error, KilledWorker):
        told = f"stage {job.stage.stage} failed: {TRIES} workers died over it"
        return told if error.task == job.future.key else ""
    return f"stage {job.stage.stage} failed: {error or status}"


def failures(handed: Sequence[Job]) -> str:
    """One line on what failed and what was not run because of it; empty if nothing failed."""
    failed = [job for job in handed if job.end == "failed"]
    told = "; ".join(f"{job.run.name}: {job.why}" for job in failed if job.why)
    waiting = ", ".join(f"{job.run.name} {job.stage.stage}" for job in failed if not job.why)
    return told + (f"; not run, as they need it: {waiting}" if waiting else "")
