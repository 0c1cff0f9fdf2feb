"""Progress of a stage: `progress.json` in its folder, updated while the stage runs.

A process works on one stage. `follow` sets the folder; without it nothing is written. Tasks
may be nested. The file describes the outermost task. The progress of an inner task counts
as a fraction of the outer task's step if the outer task opened it with `Task.part`.

Keys of the file: what, step, total, share (done so far, in [0, 1]), first (the share at which
this process began, above 0 when resumed), started and written (seconds since 1970).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

from trlm_utils.files import write_json

NAME = "progress.json"
EVERY = 0.5  # seconds between two writes, at least

_folder: Path | None = None
_tasks: list[Task] = []
_spent: dict[str, float] = {}


class Task:
    """Work of a known number of steps; see `task`."""

    def __init__(self, what: str, total: float, done: float = 0):
        self.what, self.total, self.done = what, max(total, 1e-9), done
        self.first = self.share = done / self.total
        self.started, self.written = time.time(), 0.0
        self.span = 0.0  # steps of this task that the inner task makes up

    def step(self, by: float = 1) -> None:
        """Record that ``by`` further steps are done."""
        self.at(self.done + by)

    def at(self, done: float) -> None:
        """Record that ``done`` steps are done in total."""
        self.done = done
        self._advance(0.0)

    @contextlib.contextmanager
    def part(self, steps: float = 1) -> Iterator[None]:
        """Context whose block makes up ``steps`` steps of this task, done when it ends."""
        before, self.span = self.span, steps
        try:
            yield
        finally:
            self.span = before
        self.step(steps)

    def _advance(self, inside: float) -> None:
        share = min(1.0, (self.done + inside * self.span) / self.total)
        self.share = max(self.share, share)  # the share never decreases
        place = _tasks.index(self) if self in _tasks else 0
        if place:
            _tasks[place - 1]._advance(self.share)
        elif time.time() - self.written >= EVERY:
            self._write()

    def _write(self) -> None:
        if _folder is None or not _folder.is_dir():
            return
        self.written = time.time()
        found = {"what": self.what, "step": int(self.done), "total": int(self.total)}
        found |= {"share": self.share, "first": self.first}
        found |= {"started": self.started, "written": self.written}
        with contextlib.suppress(OSError):  # the stage itself reports a full disk
            write_json(_folder / NAME, found)


def follow(folder: Path | None) -> None:
    """Write this process's progress to ``<folder>/progress.json`` from now on; None: nowhere."""
    global _folder
    _folder = folder
    _tasks.clear()
    _spent.clear()


def begin(what: str, total: float, done: float = 0) -> Task:
    """Open a task whose work is not one block of code (else see `task`); `end` closes it."""
    opened = Task(what, total, done)
    _tasks.append(opened)
    if len(_tasks) == 1:
        opened._write()
    return opened


def end(opened: Task) -> None:
    """Close a task, and inner tasks that an error left open."""
    if opened not in _tasks:
        return
    outermost = _tasks[0] is opened
    del _tasks[_tasks.index(opened) :]
    seconds = time.time() - opened.started
    _spent[opened.what] = _spent.get(opened.what, 0.0) + seconds
    if outermost:
        opened._write()


@contextlib.contextmanager
def task(what: str, total: float) -> Iterator[Task]:
    """Context for work of ``total`` steps, which report with `Task.step` or `Task.part`.

    Args:
        what: name shown to the user, in the plural: "completions", "models".
        total: number of steps.
    """
    opened = begin(what, total)
    try:
        yield opened
    finally:
        end(opened)


def track(items: Iterable[Any], what: str) -> Iterator[Any]:
    """Iterate with one step per item; tasks inside the loop's body count as parts of it."""
    items = items if isinstance(items, Sized) else list(items)
    with task(what, len(items)) as opened:
        for item in items:
            with opened.part():
                yield item


def spent(what: str) -> float:
    """Seconds spent in tasks of this name since `follow`, nested or not."""
    return _spent.get(what, 0.0)


def seconds_left(found: dict[str, Any], now: float) -> float | None:
    """Estimated seconds until a task ends, at its speed so far; None before the first progress.

    Args:
        found: content of a `progress.json`.
        now: seconds since 1970.
    """
    gained = found["share"] - found["first"]
    if gained <= 0:
        return None
    # the task has continued since the file was written; assume the same speed
    pace = (found["written"] - found["started"]) / gained
    return max(0.0, pace * (1 - found["share"]) - (now - found["written"]))
