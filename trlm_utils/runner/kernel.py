"""One notebook in a kernel of its own, through papermill, without secrets it does not need."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from trlm_utils.files import PROJECT_ROOT, shown
from trlm_utils.runner.recipes import StagePlan
from trlm_utils.runner.warm import Kernels, WarmKernel
from trlm_utils.stage import STARTED

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)

KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=CRITICAL"]


class RunFailed(RuntimeError):
    """A stage failed; the message is one line for people."""


def kernel_environment(needs_hub: bool) -> dict[str, str]:
    """Variables for the kernels: local, quiet, and without secrets they do not need."""
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "OMP_WAIT_POLICY": "passive",  # threads that wait take no core from others
    }
    if needs_hub:
        return quiet
    secrets = {name: "" for name in os.environ if SECRET_NAME.search(name)}
    return quiet | secrets | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables (an empty text unsets) for the time of the block."""
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
    """Kernels for stages, each made ready while the one before works (`runner.warm`)."""
    with environment(kernel_environment(needs_hub)):
        variables = dict(os.environ)
    ahead = Kernels([stage.notebook for stage in stages], variables, KERNEL_ARGUMENTS)
    try:
        yield ahead
    finally:
        ahead.end()


def execute(
    plan: StagePlan, folder: Path, needs_hub: bool, verbose: bool, warm: WarmKernel | None = None
) -> None:
    """Run one notebook through papermill; its executed copy lies in the stage's folder.

    Args:
        warm: a kernel that was started before; it is shut down at the end.

    Raises:
        RunFailed: with one line on what went wrong, where.
    """
    import nbclient
    import papermill

    # On an interruption these report the kernel's death each in their own words.
    for name in ("asyncio", "papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    output = folder / "notebook.ipynb"
    secrets = secret_values()
    started = {STARTED: str(time.time())}
    try:
        with environment(kernel_environment(needs_hub) | started):
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
    """Values of environment variables whose names say that they are secret."""
    return [v for k, v in os.environ.items() if SECRET_NAME.search(k) and len(v) >= 8]


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
