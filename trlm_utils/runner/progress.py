"""Show the progress of a running stage, from the file that `trlm_utils.progress` writes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from trlm_utils import progress
from trlm_utils.files import CourseError, read_json

EVERY = 15.0  # least seconds between two printed lines
LOOK = 0.5  # seconds between two readings of the file


def read(folder: Path, since: float = 0.0) -> dict[str, Any] | None:
    """The last progress of the stage in this folder; None if there is none.

    Args:
        since: seconds since 1970; an older file is from an earlier process and is ignored.
    """
    try:
        found = read_json(folder / progress.NAME)
    except CourseError:
        return None
    return found if found["written"] >= since else None


def line(found: dict[str, Any], now: float) -> str:
    """Progress as text: ``training 120 of 500, 1.4 minutes left``."""
    left = progress.seconds_left(found, now)
    text = f"{found['what']} {found['step']:,} of {found['total']:,}"
    return text if left is None else f"{text}, {duration(left)} left"


def duration(seconds: float) -> str:
    """A duration as text: ``12 seconds``, ``1.4 minutes`` or ``2.5 hours``."""
    if seconds < 60:
        return f"{seconds:.0f} second{'s' * (round(seconds) != 1)}"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


@contextlib.contextmanager
def watching(folder: Path, head: str, stream: TextIO | None = None) -> Iterator[None]:
    """Context that shows the progress of a stage while the block runs it.

    In a terminal it is a progress bar, removed when the stage is done. Elsewhere it prints a
    line every `EVERY` seconds if there is new progress.

    Args:
        folder: folder of the stage.
        head: text before the progress in every line.
        stream: output stream; by default the standard output.
    """
    stream = stream or sys.stdout
    ended = threading.Event()
    show = _bar if stream.isatty() else _lines
    arguments = (folder, head, stream, ended, time.time())
    watcher = threading.Thread(target=show, args=arguments, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _bar(folder: Path, head: str, stream: TextIO, ended: threading.Event, since: float) -> None:
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} %|{bar:20}| {postfix}"
    with tqdm(
        total=1.0, desc=head, file=stream, leave=False, disable=False, bar_format=form
    ) as bar:
        while not ended.wait(LOOK):
            if found := read(folder, since):
                bar.n = found["share"]
                bar.set_postfix_str(line(found, time.time()))  # also redraws the bar


def _lines(folder: Path, head: str, stream: TextIO, ended: threading.Event, since: float) -> None:
    told = ""
    while not ended.wait(EVERY):
        found = read(folder, since)
        text = line(found, time.time()) if found else ""
        if text and text != told:
            print(f"{head} {text}", file=stream, flush=True)
            told = text
