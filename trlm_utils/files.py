"""The folder of runs, and atomic writing and checked reading of files.

A file is written under a temporary name in the same folder and renamed when it is complete.
So an interruption never leaves half a file under the final name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class CourseError(RuntimeError):
    """Something a stage needs is missing or wrong; the message says what to do."""


def runs_root() -> Path:
    """Folder of all runs: $TRLM_RUNS_DIR, else ``runs/`` in the project."""
    return Path(os.environ.get("TRLM_RUNS_DIR") or PROJECT_ROOT / "runs")


def shown(path: Path) -> str:
    """A path to show to users: relative to the project, so that no home folder is printed."""
    path = Path(path).resolve()
    if path.is_relative_to(PROJECT_ROOT):
        return str(path.relative_to(PROJECT_ROOT))
    return str(Path("...", *path.parts[-3:]))


def from_root(path: str) -> Path:
    """A path from a recipe: absolute, with ``~``, or relative to the project's folder."""
    return Path(PROJECT_ROOT, Path(path).expanduser())


def file_digest(path: Path) -> str:
    """SHA-256 hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        CourseError: when the file is missing or not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{shown(path)} is missing") from None
    except json.JSONDecodeError as error:
        raise CourseError(f"{shown(path)} is damaged ({error})") from None


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write JSON lines completely or not at all; returns the number of rows."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(f"{line}\n" for line in lines))
    return len(lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines.

    Raises:
        CourseError: when the file is missing, or a line is cut off or not JSON; the
            message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"{shown(path)} is missing")
    rows = []
    # Not splitlines(): text may hold other line separators, such as U+2028.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise CourseError(
                f"{shown(path)}, line {number}, is not complete JSON: "
                "the file is cut off or damaged; fetch it again"
            ) from None
    return rows


def free_name(path: Path) -> Path:
    """``path`` with the first free number appended to its name: ``data-1``."""
    number = 1
    while (found := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return found
