"""One stage on several ranks: torchrun starts N processes, each executes the notebook.

Every process runs the whole notebook through papermill, with its rank in the environment;
accelerate and TRL do the rest. Rank 0 writes the stage's folder. The others write to
``.ranks/<stage>/<rank>/`` in the run's folder, which is removed when the stage is finished.

On several machines with the same folders, each starts the same command, with its own
``--node-rank``. The first one runs the recipe; the others wait for its trainings and take part
(`join`).

A process that dies (killed, out of memory) makes torchrun start all of them again, from the
last checkpoint, up to `RESTARTS` times. An error in a cell would only happen again: its rank
leaves a note, and nothing is started a second time.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trlm_utils import machine, ranks
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, shown, write_json
from trlm_utils.runner.kernel import RunFailed, environment, execute, kernel_environment
from trlm_utils.runner.recipes import StagePlan

# Notebooks that train with a trainer or loop that divides its batch among the ranks.
TRAINING = ("00_start_here", "02_sft_stage1", "03_sft_stage2", "04_dpo", "06_grpo", "12_algorithms")
RESTARTS = 3
LOOK = 0.2  # seconds between torchrun's looks at its processes
# A rank whose peer died fails, too: it waits before it reports, so that torchrun ends it first.
GRACE = 3.0
FOLDER, JOB, OVER = ".ranks", "stage.json", "over.json"
EARLY = 60.0  # seconds by which machine 0 may have begun a training before another joins it


@dataclass(frozen=True)
class Ranks:
    """How many processes train together.

    Attributes:
        here: processes on this machine, one to a card.
        settings: a configuration file of accelerate (FSDP, DeepSpeed); empty means DDP.
        nodes: number of machines, each with as many processes.
        node: this machine's number; 0 runs the recipe.
        endpoint: ``host:port`` where they meet, on machine 0.
    """

    here: int
    settings: str = ""
    nodes: int = 1
    node: int = 0
    endpoint: str = ""

    @property
    def all(self) -> int:
        """Number of processes on all machines."""
        return self.here * self.nodes

    def trains(self, stage: StagePlan) -> bool:
        """Whether this stage runs on all ranks: it trains, and not only loads a model."""
        return stage.notebook.stem in TRAINING and not stage.parameters.get("BASE_MODEL")


def execute_on(
    many: Ranks, plan: StagePlan, folder: Path, needs_hub: bool, verbose: bool = False
) -> None:
    """Run one notebook on all ranks; see `kernel.execute` for the arguments.

    Args:
        verbose: print what torchrun prints, instead of keeping it in a file.

    Raises:
        RunFailed: says in one line which rank failed, what failed and where.
    """
    scratch = folder.parent / FOLDER / plan.stage
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    job = asdict(replace(plan, notebook=str(plan.notebook)))
    job |= {"folder": str(folder), "needs_hub": needs_hub, "id": f"{plan.stage}-{time.time()}"}
    write_json(scratch / JOB, job)
    code = _torchrun(many, scratch, job["id"], verbose)
    if code:
        raise RunFailed(_why(plan, scratch, code))
    shutil.rmtree(scratch, ignore_errors=True)


def join(many: Ranks, folder: Path) -> None:
    """Take part in the trainings of a run that machine 0 runs, until it ends.

    Args:
        folder: folder of the run.
    """
    began, known = time.time(), set()
    print(f"machine {many.node} waits for trainings in {shown(folder)}", flush=True)
    while not (over := folder / FOLDER / OVER).exists() or over.stat().st_mtime < began:
        for path in sorted((folder / FOLDER).glob(f"*/{JOB}")):
            with contextlib.suppress(CourseError, KeyError):  # it was removed just now
                job = read_json(path)
                if job["id"] not in known and float(job["id"].rpartition("-")[2]) > began - EARLY:
                    known.add(job["id"])
                    code = _torchrun(many, path.parent, job["id"], False)
                    print(f"{job['stage']} {'ended' if code == 0 else 'failed'}", flush=True)
        time.sleep(LOOK)


@contextlib.contextmanager
def leading(many: Ranks | None, folder: Path) -> Iterator[None]:
    """Context of a run; at its end the machines that joined it are told."""
    try:
        yield
    finally:
        if many and many.nodes > 1:
            write_json(folder / FOLDER / OVER, {"at": time.time()})


def _torchrun(many: Ranks, scratch: Path, name: str, verbose: bool) -> int:
    """Run torchrun until all its processes have ended; returns its exit status.

    Args:
        name: what all machines call this training.
    """
    command = [sys.executable, "-m", "torch.distributed.run"]
    if many.nodes == 1:
        command.append("--standalone")
    else:
        command += ["--nnodes", str(many.nodes), "--rdzv-backend", "c10d", "--rdzv-id", name]
        command += ["--rdzv-endpoint", many.endpoint]
        command += ["--rdzv-conf", f"is_host={int(many.node == 0)}"]
    command += ["--nproc-per-node", str(many.here), "--max-restarts", str(RESTARTS)]
    command += ["--monitor-interval", str(LOOK), "--module", "trlm_utils.runner.torchrun"]
    log_file = "torchrun.log" if many.node == 0 else f"torchrun-{many.node}.log"
    with (scratch / log_file).open("w") as log, environment(_variables(many)):
        out = None if verbose else log
        process = subprocess.Popen(
            [*command, str(scratch)], cwd=PROJECT_ROOT, stdout=out, stderr=out
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:  # interrupted: torchrun ends its processes
                process.terminate()
                process.wait()


def _variables(many: Ranks) -> dict[str, str]:
    """What the ranks' environment gets beside torchrun's own variables."""
    # one thread is torchrun's default, set here without its warning; accelerate must be told when
    # there is no accelerator, or each rank trains alone
    on_cpu = machine.torch_device().type == "cpu"
    # a store that outlived a restart would give the new processes addresses of dead ones
    own = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    own |= {"ACCELERATE_USE_CPU": "true"} if on_cpu else {}
    return own | (accelerate_variables(many.settings) if many.settings else {})


def accelerate_variables(path: str) -> dict[str, str]:
    """The environment variables by which ``accelerate launch`` hands on a configuration file.

    Raises:
        RunFailed: when accelerate does not accept the file.
    """
    import os

    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_multi_gpu_env

    parser = launch.launch_command_parser()
    try:
        options = parser.parse_args(["--config_file", path, "notebook"])
        options, _, _ = launch._validate_launch_command(options)
        found = prepare_multi_gpu_env(options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"accelerate cannot read {path}: {error}") from None
    return {name: value for name, value in found.items() if os.environ.get(name) != value}


def _why(plan: StagePlan, scratch: Path, code: int) -> str:
    """One line: the first rank's error, or that processes died too often."""
    notes = [read_json(path) for path in scratch.glob("failed-*.json")]
    if notes:
        first = min(notes, key=lambda note: note["at"])
        return f"rank {first['rank']}: {first['why']}"
    return (
        f"stage {plan.stage} failed: its ranks died {RESTARTS + 1} times (torchrun ended with "
        f"{code}, see {shown(scratch / 'torchrun.log')})"
    )


# --- one rank ---------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Execute the notebook as the rank that the environment names; returns the exit status."""
    scratch = Path(arguments[0])
    if any(scratch.glob("failed-*.json")):
        return 1
    job, own = read_json(scratch / JOB), ranks.rank()
    place = Path(job["folder"]) if own == 0 else scratch / str(own)
    place.mkdir(parents=True, exist_ok=True)
    values = job["parameters"]
    if own:  # rank 0 alone reports to a tracker and to the Hub
        silent = {"TRACKER": "none", "PUSH_TO": ""}
        values = values | {name: silent[name] for name in silent.keys() & values.keys()}
    plan = StagePlan(job["stage"], Path(job["notebook"]), values, tuple(job["reads"]))
    try:
        with environment(kernel_environment(job["needs_hub"], values)):
            execute(plan, place, job["needs_hub"], verbose=False)
    except RunFailed as error:
        if "its process was killed" in str(error):
            print(error, flush=True)  # torchrun starts all ranks again
            return 1
        time.sleep(GRACE)
        note = {"rank": own, "why": str(error), "at": time.time()}
        write_json(scratch / f"failed-{own}.json", note)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
