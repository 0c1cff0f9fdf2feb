"""Start the next stage's kernel and do its imports while the current stage runs.

Starting a kernel and importing libraries takes seconds, which a free core can spend during the
stage before. The imports are found in the notebook and executed in a separate namespace, so
that the notebook runs as in a fresh kernel. A failure here only loses the saved time.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import machine
from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner.parameters import code_cells

PACKAGE = Path(__file__).parents[1]
TICK = 0.05  # seconds; more than the resolution of file modification times
READY = 300  # seconds that a kernel may take to become ready


def imports(notebook: Path) -> str:
    """Import statements of a notebook, except those inside functions."""
    found = []
    for cell in code_cells(notebook):
        with contextlib.suppress(SyntaxError):  # a cell with IPython's own syntax
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    found.append(ast.unparse(node))
    return "\n".join(dict.fromkeys(found))


class WarmKernel:
    """A kernel that is prepared for a notebook in a background thread.

    Args:
        notebook: the notebook that it will run.
        variables: the complete environment of the kernel.
        arguments: arguments of the kernel's command line.
    """

    def __init__(self, notebook: Path, variables: dict[str, str], arguments: list[str]):
        # imported in this thread: nbclient imports it too, and two simultaneous imports can fail
        from jupyter_client import AsyncKernelManager

        self.make = AsyncKernelManager
        self.notebook, self.began = notebook, time.time()
        self.manager: Any = None
        self.failed = False
        self.thread = threading.Thread(target=self._start, args=(variables, arguments))
        self.thread.daemon = True
        self.thread.start()

    def _start(self, variables: dict[str, str], arguments: list[str]) -> None:
        self.manager = self.make(kernel_name="python3")
        try:
            asyncio.run(
                self.manager.start_kernel(
                    extra_arguments=arguments, env=variables, cwd=str(PROJECT_ROOT)
                )
            )
            self._run(f"exec({imports(self.notebook)!r}, {{}})")
        except Exception:  # the same error will occur, and be reported, in the notebook
            self.failed = True

    def _run(self, code: str) -> None:
        """Run code silently (no history, no output) and wait until it is done."""
        client = self.manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=READY)
            client.execute(code, silent=True, store_history=False, reply=True, timeout=READY)
        finally:
            client.stop_channels()

    def take(self, notebook: Path, variables: dict[str, str]) -> Any:
        """The kernel's manager, with these environment variables; None if it cannot be used.

        It cannot be used if its preparation failed, it is for another notebook, or a module of
        the package was edited since it was started.
        """
        self.thread.join()
        edited = any(path.stat().st_mtime > self.began - TICK for path in PACKAGE.rglob("*.py"))
        if self.failed or edited or notebook != self.notebook:
            return None
        try:
            self._run(f"__import__('os').environ.update({variables!r})")
        except Exception:
            return None
        return self.manager

    def end(self) -> None:
        """Shut the kernel down, used or not."""

        def shut_down() -> None:
            with contextlib.suppress(Exception):
                asyncio.run(self.manager.shutdown_kernel(now=True))

        self.thread.join()
        ending = threading.Thread(target=shut_down)  # nbclient uses the main thread's event loop
        ending.start()
        ending.join()


class Kernels:
    """Prepares the kernel of the next stage, always one stage ahead.

    Args:
        notebooks: the notebooks to run, in order.
        variables: the complete environment of each kernel.
        arguments: arguments of their command lines.
    """

    def __init__(
        self,
        notebooks: Sequence[Path],
        variables: Sequence[dict[str, str]],
        arguments: list[str],
    ):
        self.left = list(zip(notebooks, variables, strict=True))
        self.arguments = arguments
        self.next: WarmKernel | None = None

    def take(self) -> WarmKernel | None:
        """The kernel for the current notebook, if there is one; starts that of the next."""
        found, self.next = self.next, None
        self.left = self.left[1:]
        if self.left and machine.cores() > 1:
            self.next = WarmKernel(*self.left[0], self.arguments)
        return found

    def end(self) -> None:
        """Shut down a kernel that was not taken."""
        if self.next:
            self.next.end()
