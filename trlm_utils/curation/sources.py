"""Sources of a mixture: read rows from the Hub, from files or from NanoWorld, shuffled by seed.

A source is a dictionary with one of these keys, and the options of `OPTIONS`:

    hub: HuggingFaceTB/smoltalk2      a data set on the Hub, streamed
    path: data/gsm8k/train.jsonl      a file, a folder, or a pattern (jsonl, json, csv, parquet)
    nanoworld: thinking               generated rows (see `WORLD`)

Rows of files are fully shuffled; rows of the Hub pass through a shuffle buffer. Every row
names its origin (``_source_dataset``, ``_source_subset``, ``_source_split``). A line that
cannot be parsed is returned as a `BadRow` and raises no error.
"""

from __future__ import annotations

import glob
import itertools
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trlm_utils.curation import data_sets
from trlm_utils.files import CourseError, from_root, shown

Row = dict[str, Any]
FORMATS = ("jsonl", "json", "csv", "parquet")
BUFFER = 10_000  # rows in the shuffle buffer of a streamed source
OPTIONS = {
    "subset": str,
    "split": str,
    "rows": int,  # number of rows of this source, at most
    "share": float,  # or its share of the mixture's rows
    "drop_columns": list,
    "rename_columns": dict,
    "columns": dict,  # which columns hold the question, thought, answer, ... (`schema`)
    "answer_form": str,
    "thought_form": str,  # text, or an equation that is worked step by step
    "band": str,
    "system": str,
    "contract": str,  # format that replies with a thought are converted to (`chat.CONTRACTS`)
    "options": dict,  # options of a nanoworld source
}
# Kinds of nanoworld sources. `rows` is the number of problems.
WORLD: dict[str, Callable[..., list[Row]]] = {
    "direct": data_sets.world_direct,
    "thinking": data_sets.world_thinking,
    "preferences": data_sets.world_preferences,
    "problems": lambda n, seed, lengths, split="grpo": data_sets.world_prompts(
        split, n, seed, lengths
    ),
    "talk": data_sets.world_talk,
}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: the reason, and its content."""

    reason: str
    content: Any


def kind_of(source: Row) -> str:
    """The kind of a source: "hub", "path" or "nanoworld".

    Raises:
        CourseError: when the source has none or several of these keys, or an unknown option.
    """
    kinds = [kind for kind in ("hub", "path", "nanoworld") if kind in source]
    if len(kinds) != 1:
        raise CourseError(f"a source names one of hub, path, nanoworld; this one: {source}")
    unknown = sorted(set(source) - set(OPTIONS) - set(kinds))
    if unknown:
        raise CourseError(f"{name_of(source)}: unknown option {unknown[0]!r}")
    for option, kind in OPTIONS.items():
        value = source.get(option)
        if value is not None and not isinstance(value, (int, float) if kind is float else kind):
            raise CourseError(f"{name_of(source)}: {option} is {value!r}, not a {kind.__name__}")
    if kinds[0] == "nanoworld" and source["nanoworld"] not in WORLD:
        raise CourseError(f"nanoworld has no {source['nanoworld']!r}, only {', '.join(WORLD)}")
    return kinds[0]


def check(source: Row, mirror: str = "") -> None:
    """Check that a source can be read.

    Raises:
        CourseError: see `kind_of`; or when none of its files exists.
    """
    kind = kind_of(source)
    if kind == "path" or (kind == "hub" and mirror):
        _files(source, mirror)


def files_of(source: Row, mirror: str = "") -> list[Path]:
    """The local files of a source; empty for the Hub and for NanoWorld.

    Raises:
        CourseError: see `check`.
    """
    local = "path" in source or ("hub" in source and mirror)
    return _files(source, mirror) if local else []


def placed(source: Row, folder: str) -> Row:
    """The source with ``{DATA_DIR}`` in its path replaced by a folder.

    Raises:
        CourseError: when the path contains ``{DATA_DIR}`` and no folder is given.
    """
    path = source.get("path", "")
    if "{DATA_DIR}" in path and not folder:
        raise CourseError(f"{path}: DATA_DIR is not set; add --set 01_data_curation.DATA_DIR=...")
    return source | {"path": path.replace("{DATA_DIR}", folder)} if path else source


def name_of(source: Row) -> str:
    """A source's name in tables: data set, subset and split."""
    for kind in ("hub", "path", "nanoworld"):
        if kind in source:
            head = f"nanoworld/{source[kind]}" if kind == "nanoworld" else str(source[kind])
            return ":".join([head, *(source[p] for p in ("subset", "split") if p in source)])
    return "source without a name"


def read(source: Row, seed: int, start: int = 0, mirror: str = "") -> Iterator[Row | BadRow]:
    """The rows of a source in shuffled order, from number ``start`` on.

    Args:
        seed: seed of the shuffled order.
        start: number of rows to skip, to resume an interrupted collection.
        mirror: folder used instead of the Hub, with files named
            ``<data set with __ for />/<subset or default>/<split>.jsonl``.

    Raises:
        CourseError: when a file is missing or has an unknown format.
    """
    kind = kind_of(source)
    if kind == "hub" and not mirror:
        rows = _streamed(source, seed, start)
    elif kind == "nanoworld":
        rows = _made(source, seed, start)
    else:
        rows = _from_files(_files(source, mirror), seed, start)
    origin = {
        "_source_dataset": name_of({kind: source[kind]}),
        "_source_subset": source.get("subset", ""),
        "_source_split": source.get("split", ""),
    }
    drop = source.get("drop_columns") or ()
    rename = source.get("rename_columns") or {}
    for row in rows:
        if isinstance(row, dict):
            for name in drop:
                row.pop(name, None)
            for old, new in rename.items():
                if old in row:
                    row[new] = row.pop(old)
            row.update(origin)
        yield row


def _made(source: Row, seed: int, start: int) -> Iterator[Row]:
    make = WORLD[source["nanoworld"]]
    options = dict(source.get("options") or {})
    try:
        rows = make(source.get("rows", 1000), seed, **options)
    except TypeError as error:
        raise CourseError(f"{name_of(source)}: {str(error).partition('() ')[2]}") from None
    yield from itertools.islice(rows, start, None)


def _streamed(source: Row, seed: int, start: int) -> Iterator[Row]:
    from datasets import load_dataset

    stream = load_dataset(
        source["hub"], source.get("subset"), split=source.get("split", "train"), streaming=True
    )
    # the same seed gives the same order, so a resumed stream skips the rows it already had
    yield from stream.shuffle(seed=seed, buffer_size=BUFFER).skip(start)


def _files(source: Row, mirror: str) -> list[Path]:
    """The files of a source, sorted.

    Raises:
        CourseError: when there is none, or one has an unknown format.
    """
    if "hub" in source:
        part, split = source.get("subset", "default"), source.get("split", "train")
        pattern = str(Path(mirror) / source["hub"].replace("/", "__") / part / f"{split}.jsonl")
    else:
        pattern = str(from_root(source["path"]))
    place = Path(pattern)
    if place.is_dir():
        found = [path for path in place.rglob("*") if path.suffix[1:] in FORMATS]
    else:
        found = [Path(path) for path in glob.glob(pattern, recursive=True)]
    if not found:
        raise CourseError(f"{name_of(source)}: no file {shown(place)} ({', '.join(FORMATS)})")
    odd = [path for path in found if path.suffix[1:] not in FORMATS]
    if odd:
        raise CourseError(f"{shown(odd[0])} is none of {', '.join(FORMATS)}")
    return sorted(found)


def _from_files(files: Sequence[Path], seed: int, start: int) -> Iterator[Row | BadRow]:
    """Rows of all files in one random order, which takes 8 bytes of memory per row."""
    import numpy as np

    tables = [_Lines(path) if path.suffix == ".jsonl" else _Table(path) for path in files]
    sizes = [len(table) for table in tables]
    ends = np.cumsum(sizes)
    order = np.random.default_rng(seed).permutation(int(ends[-1]))[start:]
    for first in range(0, len(order), BUFFER):
        places = order[first : first + BUFFER]
        owners = np.searchsorted(ends, places, side="right")
        numbers = places - (ends - sizes)[owners]
        for owner, number in zip(owners.tolist(), numbers.tolist(), strict=True):
            yield tables[owner][number]


class _Lines:
    """The lines of a JSONL file with random access; each is read from disk when needed."""

    def __init__(self, path: Path):
        import numpy as np

        with path.open("rb") as file:
            size = file.seek(0, 2)
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        ends = [np.zeros(1, dtype=np.int64)]
        for first in range(0, size, 1 << 24):
            block = np.frombuffer(self.bytes[first : first + (1 << 24)], dtype=np.uint8)
            ends.append(np.flatnonzero(block == 10) + first + 1)
        if size and self.bytes[size - 1] != 10:
            ends.append(np.array([size]))
        bounds = np.concatenate(ends)
        # a line of one byte (the line break) is empty
        kept = np.flatnonzero(np.diff(bounds) > 1)
        self.starts, self.ends = bounds[kept], bounds[kept + 1]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> Row | BadRow:
        import orjson

        line = self.bytes[self.starts[number] : self.ends[number]]
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            return BadRow("not complete JSON", line[:2000].decode("utf-8", "replace"))
        return row if isinstance(row, dict) else BadRow("not a JSON object", row)


class _Table:
    """The rows of a JSON, CSV or Parquet file, read through the disk cache of datasets.

    A JSON file with a single object, as in MATH, is one row.
    """

    def __init__(self, path: Path):
        import json

        import datasets

        kind = path.suffix[1:]
        try:
            one = json.loads(path.read_text(encoding="utf-8")) if kind == "json" else None
            if isinstance(one, dict):
                self.rows: Any = [one]
                return
            if isinstance(one, list):
                self.rows = one
                return
            self.rows = datasets.load_dataset(kind, data_files=str(path), split="train")
        except (ValueError, datasets.exceptions.DatasetGenerationError) as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            self.rows = [BadRow(f"not a readable {kind} file", f"{shown(path)}: {cause}")]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Row | BadRow:
        row = self.rows[number]
        if isinstance(row, BadRow):
            return row
        return row if isinstance(row, dict) else BadRow("not a JSON object", row)
