"""Run a notebook in its own kernel with papermill, without secrets that it does not need."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import keys
from trlm_utils.files import PROJECT_ROOT, shown
from trlm_utils.runner.recipes import StagePlan
from trlm_utils.runner.warm import Kernels, WarmKernel
from trlm_utils.stage import STARTED
from trlm_utils.training import hub, trackers

KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=CRITICAL"]


class RunFailed(RuntimeError):
    """A stage failed; the message says why, in one line."""


def kernel_environment(needs_hub: bool, parameters: dict[str, Any] | None = None) -> dict[str, str]:
    """Environment variables of a kernel: offline unless needed, quiet, without secrets.

    Args:
        needs_hub: whether the recipe needs the Hub: then nothing is taken away, and the secrets
            in ``.env`` are added.
        parameters: those of the stage; TRACKER and PUSH_TO keep the variables that they need.
    """
    values = parameters or {}
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "OMP_WAIT_POLICY": "passive",  # waiting threads must not occupy a core
    }
    if values.get("TRACKER") == "trackio" and values.get("RUN_DIR"):
        own = str(Path(values["RUN_DIR"]) / "trackio")
        quiet["TRACKIO_DIR"] = os.environ.get("TRACKIO_DIR") or own
    if needs_hub:
        return keys.secrets() | quiet
    taken = {name: "" for name in keys.secrets()}
    taken |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    needed = trackers.VARIABLES.get(values.get("TRACKER", ""), ())
    needed += hub.VARIABLES if values.get("PUSH_TO") else ()
    return quiet | {name: value for name, value in taken.items() if name not in needed}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Context with environment variables set; an empty text unsets a variable."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        for name, value in variables.items():
            _set_variable(name, value or None)
        yield
    finally:
        for name, value in before.items():
            _set_variable(name, value)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextlib.contextmanager
def kernels(stages: Sequence[StagePlan], needs_hub: bool) -> Iterator[Kernels]:
    """Kernels for stages; each is prepared while the stage before runs (`runner.warm`)."""
    variables = []
    for stage in stages:
        with environment(kernel_environment(needs_hub, stage.parameters)):
            variables.append(dict(os.environ))
    ahead = Kernels([stage.notebook for stage in stages], variables, KERNEL_ARGUMENTS)
    try:
        yield ahead
    finally:
        ahead.end()


def execute(
    plan: StagePlan, folder: Path, needs_hub: bool, verbose: bool, warm: WarmKernel | None = None
) -> None:
    """Run one notebook with papermill, and save its executed copy in the stage's folder.

    Args:
        needs_hub: whether the notebook may use the network and the Hub's token.
        verbose: print the notebook's output.
        warm: a kernel that was started before; it is shut down at the end.

    Raises:
        RunFailed: says in one line what failed and where.
    """
    import nbclient
    import papermill

    # On an interruption each of these would print its own traceback.
    for name in ("asyncio", "papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    output = folder / "notebook.ipynb"
    secrets = secret_values()
    started = {STARTED: str(time.time())}
    try:
        with environment(kernel_environment(needs_hub, plan.parameters) | started):
            papermill.execute_notebook(
                str(plan.notebook),
                str(output),
                parameters=plan.parameters,
                cwd=str(PROJECT_ROOT),
                progress_bar=False,
                stdout_file=sys.stdout if verbose else None,
                kernel_name="python3",
                extra_arguments=KERNEL_ARGUMENTS,
                km=warm.take(plan.notebook, started) if warm else None,
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
        if "No space left" in reason:
            reason = "the disk is full; free some space and start again"
        raise RunFailed(
            f"stage {plan.stage} failed in cell {error.exec_count}: {reason} (see {shown(output)})"
        ) from None
    except nbclient.exceptions.DeadKernelError:
        raise RunFailed(
            f"stage {plan.stage} failed: its process was killed, most likely for want "
            "of memory; a smaller batch needs less"
        ) from None
    except OSError as error:
        raise RunFailed(f"stage {plan.stage} failed: {error}") from None
    finally:
        if warm:
            warm.end()
        redact(output, secrets)


def secret_values() -> list[str]:
    """Values in the environment and in ``.env`` whose names suggest a secret."""
    return [value for value in keys.secrets().values() if len(value) >= 8]


def redact(notebook: Path, secrets: Sequence[str]) -> None:
    """Remove secrets, and anything that looks like a Hub token, from a notebook."""
    if not notebook.exists():
        return
    text = notebook.read_text(encoding="utf-8")
    clean = re.sub(r"\bhf_[A-Za-z0-9]{20,}\b", "[removed]", text)
    for value in secrets:
        clean = clean.replace(value, "[removed]")
    if clean != text:
        notebook.write_text(clean, encoding="utf-8")
