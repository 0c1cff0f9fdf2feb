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
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trlm_utils import machine, ranks
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, shown, write_json
from trlm_utils.runner.kernel import RunFailed, environment, execute
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.recipes import Plan, StagePlan

# Notebooks that train with a trainer or loop that divides its batch among the ranks.
TRAINING = ("00_start_here", "02_sft_stage1", "03_sft_stage2", "04_dpo", "06_grpo", "12_algorithms")
RESTARTS = 3
LOOK = 0.2  # seconds between torchrun's looks at its processes
# A rank whose peer died fails, too: it waits before it reports, so that torchrun ends it first.
GRACE = 3.0
JOB, LEAD = "stage.json", "lead.json"
BEAT, PATIENCE = 5.0, 120.0  # seconds between signs of life; without one, until a machine gives up


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
    scratch = ranks.folder(folder.parent, plan.stage)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    job = asdict(replace(plan, notebook=str(plan.notebook)))
    job |= {"folder": str(folder), "needs_hub": needs_hub, "id": f"{plan.stage}-{time.time()}"}
    job["run"] = os.getpid()
    write_json(scratch / JOB, job)
    code = _torchrun(many, scratch, job["id"], verbose)
    if code:
        raise RunFailed(_why(plan, scratch, code))
    shutil.rmtree(scratch, ignore_errors=True)


def join(many: Ranks, folder: Path) -> None:
    """Take part in the trainings of a run that machine 0 runs, until it ends.

    Args:
        folder: folder of the run.

    Raises:
        RecipeError: when machine 0 gives no sign of life for `PATIENCE` seconds.
    """
    print(f"machine {many.node} waits for trainings in {shown(folder)}", flush=True)
    place, known = folder / ranks.FOLDER, set()
    seen, changed = _read(place / LEAD), time.time()  # the first sign may be an earlier run's last
    alive = None  # the run of which there was a sign of life
    while time.time() - changed < PATIENCE:
        sign = _read(place / LEAD)
        if sign and sign != seen:
            seen, alive, changed = sign, sign["run"], time.time()
        if sign and alive == sign["run"]:
            if sign["over"]:
                return
            for path in sorted(place.glob(f"*/{JOB}")):
                job = _read(path)
                if job and job["run"] == alive and job["id"] not in known:
                    known.add(job["id"])
                    code = _torchrun(many, path.parent, job["id"], False)
                    changed = time.time()
                    print(f"{job['stage']} {'ended' if code == 0 else 'failed'}", flush=True)
        time.sleep(LOOK)
    raise RecipeError(f"no run of machine 0 in {shown(folder)} for {PATIENCE:.0f} seconds")


def _read(path: Path) -> dict[str, Any] | None:
    """What the file holds; None while machine 0 has not written it, or has removed it."""
    try:
        return read_json(path)
    except CourseError:
        return None


@contextlib.contextmanager
def leading(many: Ranks | None, folder: Path) -> Iterator[None]:
    """Context of a run on machine 0: other machines see that it lives, and when it ends."""
    if many is None or many.nodes == 1:
        yield
        return
    place, over = folder / ranks.FOLDER / LEAD, threading.Event()

    def tell() -> None:
        beats = 0
        while not over.wait(BEAT if beats else 0):
            beats += 1
            write_json(place, {"run": os.getpid(), "beat": beats, "over": False})

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        write_json(place, {"run": os.getpid(), "beat": -1, "over": True})


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
            [*command, str(scratch)],
            cwd=PROJECT_ROOT,
            stdout=out,
            stderr=out,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:  # interrupted: torchrun ends its processes
                process.terminate()
                process.wait()


def _end_with_parent() -> None:
    """Ask Linux to end this process when the runner is killed: the ranks would go on without it."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _variables(many: Ranks) -> dict[str, str]:
    """What the ranks' environment gets beside torchrun's own variables."""
    # one thread is torchrun's default, set here without its warning; accelerate must be told when
    # there is no accelerator, or each rank trains alone
    on_cpu = machine.torch_device().type == "cpu"
    # a store that outlived a restart would give the new processes addresses of dead ones
    own = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    own |= {"ACCELERATE_USE_CPU": "true"} if on_cpu else {}
    return own | (accelerate_variables(many.settings, many.all) if many.settings else {})


def accelerate_variables(path: str, world: int) -> dict[str, str]:
    """The environment variables by which ``accelerate launch`` hands on a configuration file.

    Args:
        world: number of processes, whatever the file says.

    Raises:
        RecipeError: when accelerate does not accept the file.
    """
    import yaml
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    parser = launch.launch_command_parser()
    try:
        number = ["--num_processes", str(world)]
        options = parser.parse_args(["--config_file", path, *number, "notebook"])
        options, _, _ = launch._validate_launch_command(options)
        if options.use_deepspeed:
            found = prepare_deepspeed_cmd_env(options)[1]
        else:
            found = prepare_multi_gpu_env(options)
    except (OSError, ValueError, KeyError, TypeError, ImportError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise RecipeError(
            f"--accelerate {shown(Path(path))}: accelerate cannot use it: {why}"
        ) from None
    return {name: value for name, value in found.items() if os.environ.get(name) != value}


def check(many: Ranks | None, plans: Sequence[Plan], only: str = "") -> None:
    """Look at accelerate's settings before anything runs.

    Args:
        only: the one stage that will run; empty means all.

    Raises:
        RecipeError: when accelerate does not accept the file, when it would quietly train whole
            models where the file asks for divided ones, or when something cannot be divided.
    """
    if many is None or not many.settings:
        return
    found = os.environ | accelerate_variables(many.settings, many.all)
    stages = [s for plan in plans for s in plan.stages if s.stage == (only or s.stage)]
    if why := _not_divided(found, [stage for stage in stages if many.trains(stage)]):
        raise RecipeError(f"--accelerate {shown(Path(many.settings))}: {why}")


def _not_divided(found: Mapping[str, str], stages: Sequence[StagePlan]) -> str:
    """Why these settings, or one of the stages, do not go with divided weights; else empty."""
    fsdp = found.get("ACCELERATE_USE_FSDP") == "true"
    zero = found.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if not fsdp and not zero:
        return ""
    if machine.torch_device().type == "cpu":
        return "accelerate divides a model on accelerators only; leave it out"
    if zero and found.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") != "3":
        return ""  # the weights stay whole
    if zero:
        return "the weights of ZeRO-3 cannot be gathered for sampling: zero_stage: 2, or FSDP 2"
    if found.get("FSDP_VERSION", "1") != "2":
        return "the weights of FSDP 1 cannot be gathered for sampling: fsdp_version: 2"
    if found.get("FSDP_OFFLOAD_PARAMS") == "true":
        return "weights on the CPU and logits on a card do not mix: fsdp_offload_params: false"
    if machine.choose_precision(*machine.detect_device()).fp16:
        return "in fp16 an interrupted training could not go on; this card has no bf16"
    for stage in stages:
        if stage.notebook.stem == "12_algorithms":
            return f"{stage.stage} trains whole models: leave it out"
        if stage.parameters.get("ROLLOUTS") in ("generate", "transformers"):
            return f"{stage.stage}: ROLLOUTS course or vllm, as ranks would wait for each other"
    return ""


def _why(plan: StagePlan, scratch: Path, code: int) -> str:
    """One line: the first rank's error, or that processes died too often."""
    notes = [read_json(path) for path in scratch.glob("failed-*.json")]
    if notes:
        first = min(notes, key=lambda note: note["at"])
        return f"rank {first['rank']}: {first['why']}"
    return (
        f"stage {plan.stage} failed: torchrun ended with {code} and no rank left a note: they were "
        f"killed {RESTARTS + 1} times, or did not meet (see {shown(scratch / 'torchrun.log')})"
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
