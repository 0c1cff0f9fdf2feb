"""The next stage's kernel, started and with its imports done while the stage before it works.

Starting a kernel and importing what a notebook imports takes seconds that a free core can
spend beside the stage before. What is imported is found in the notebook; names stay out of
its way, so that it runs as in a fresh kernel. What fails here costs the time saved.
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
TICK = 0.05  # seconds; clocks of file systems move in steps of some milliseconds
READY = 300  # seconds that a kernel may take to be ready


def imports(notebook: Path) -> str:
    """Import statements of a notebook, those inside functions left out."""
    found = []
    for cell in code_cells(notebook):
        with contextlib.suppress(SyntaxError):  # IPython's own syntax
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    found.append(ast.unparse(node))
    return "\n".join(dict.fromkeys(found))


class WarmKernel:
    """A kernel that is being made ready for a notebook in a thread of its own.

    Args:
        notebook: the notebook that it will run.
        variables: the kernel's environment, complete.
        arguments: of the kernel's command line.
    """

    def __init__(self, notebook: Path, variables: dict[str, str], arguments: list[str]):
        # imported here: two threads that import it at once, as nbclient does, get half of it
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
        except Exception:  # whatever it is, the notebook meets it again, and says so
            self.failed = True

    def _run(self, code: str) -> None:
        """Run code without a trace in the notebook, and wait for it."""
        client = self.manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=READY)
            client.execute(code, silent=True, store_history=False, reply=True, timeout=READY)
        finally:
            client.stop_channels()

    def take(self, notebook: Path, variables: dict[str, str]) -> Any:
        """The kernel's manager, with these variables set; None if it is not as a fresh one.

        It is not when a module of the package was edited since it began.
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
        ending = threading.Thread(target=shut_down)  # the main thread's loop is nbclient's
        ending.start()
        ending.join()


class Kernels:
    """The kernel of the next stage, always one ahead.

    Args:
        notebooks: that will be run, in order.
        variables: environment of the kernels, complete.
        arguments: of their command lines.
    """

    def __init__(self, notebooks: Sequence[Path], variables: dict[str, str], arguments: list[str]):
        self.left, self.how = list(notebooks), (variables, arguments)
        self.next: WarmKernel | None = None

    def take(self) -> WarmKernel | None:
        """The kernel for the notebook whose turn it is, if one is ready; begins the next."""
        found, self.next = self.next, None
        self.left = self.left[1:]
        if self.left and machine.cores() > 1:
            self.next = WarmKernel(self.left[0], *self.how)
        return found

    def end(self) -> None:
        """Shut down what was not taken."""
        if self.next:
            self.next.end()
