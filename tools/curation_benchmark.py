"""Rows per second and peak memory of `mixture.collect`, compared with a row-by-row collector."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from tools.turns import line

CHATS, CHUNK = 60_000, 5_000
CHECKS: dict[str, dict[str, Any]] = {
    "duplicates": {"duplicates": True},
    "contract": {"contract": "think_format"},
    "verified": {"verified": True},
    "contamination": {"contamination": 13},
    "max_tokens": {"max_tokens": 100_000},
    "language": {"language": ["en"]},
    "near_duplicates": {"near_duplicates": 0.9},
}


def write_chats(path: Path, rows: int) -> None:
    """Write a JSONL file of conversations with three rounds of four problems (about 2.5 kB each).

    Each round ends with the answer of its last problem, a word or a number.
    """
    from trlm_utils import chat, nanoworld

    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            turns = []
            for first in range(12 * i, 12 * i + 12, 4):
                problems = [nanoworld.make_problem("chats", k) for k in range(first, first + 4)]
                asked = " ".join(p.question for p in problems)
                thought = " ".join(nanoworld.careful_trace(p) for p in problems)
                answer = problems[-1].answer
                turns += chat.to_messages(asked, chat.think(thought, nanoworld.answer_text(answer)))
            row = {"messages": turns, "answer": answer, "chat_template_kwargs": {"a": "b"}}
            file.write(json.dumps(row | {"source": "chats"}) + "\n")


def collect_row_by_row(path: Path, folder: Path) -> int:
    """The baseline, as in the original trlm: stream rows, write chunks as JSON, read them
    back into one data set, and shuffle it."""
    from datasets import Dataset, concatenate_datasets, load_dataset

    stream = load_dataset("json", data_files=str(path), split="train", streaming=True)
    chunk: list[dict[str, Any]] = []
    places: list[Path] = []

    def dump() -> None:
        places.append(folder / f"{len(places)}.json")
        with places[-1].open("w", encoding="utf-8") as file:
            json.dump(chunk, file)
        chunk.clear()

    for row in stream:
        row = dict(row)
        row.pop("chat_template_kwargs", None)
        row |= {"_source_dataset": str(path), "_source_subset": "", "_source_split": "train"}
        chunk.append(row)
        if len(chunk) == 1000:
            dump()
    if chunk:
        dump()
    parts = [Dataset.from_list(json.loads(place.read_text("utf-8"))) for place in places]
    return len(concatenate_datasets(parts).shuffle(seed=0))


def collect_mixture(path: Path, folder: Path, checks: dict[str, Any]) -> int:
    """Collect with `mixture.collect`; every row passes every check, so all are written."""
    from trlm_utils import nanoworld, tokenization
    from trlm_utils.curation import mixture

    source = {"path": str(path), "split": "train", "drop_columns": ["chat_template_kwargs"]}
    spec = {"sources": [source], "checks": {"duplicates": False} | checks}
    needs: dict[str, Any] = {}
    if "verified" in checks:
        source["columns"] = {"answer": "answer"}
    if "max_tokens" in checks:
        needs["tokenizer"] = tokenization.build_tokenizer(nanoworld.sample_text())
    if "contamination" in checks:
        needs["questions"] = [" ".join(f"{i} {k}" for k in range(20)) for i in range(1000)]
    counts = mixture.collect("sft_stage1", spec, folder, shard_rows=CHUNK, **needs)["counts"]
    return sum(count["read"] for count in counts.values())


def _measured(queue: Any, name: str, path: str, checks: dict[str, Any]) -> None:
    """One collection in a separate process: rows per second, and peak memory in MiB."""
    import tempfile

    import pyarrow.parquet  # noqa: F401  (imports must not count as collecting)
    import tqdm.auto  # noqa: F401
    from datasets import load_dataset  # noqa: F401

    from trlm_utils.curation import mixture  # noqa: F401
    from trlm_utils.machine import peak_memory_mb

    small = Path(path).with_name("few.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / part for part in ("few", "all")]
        for place, file in zip(places, (small, Path(path)), strict=True):
            place.mkdir()
            began = time.perf_counter()
            if name == "row by row":
                rows = collect_row_by_row(file, place)
            else:
                rows = collect_mixture(file, place, checks)
            seconds = time.perf_counter() - began
    queue.put((rows / seconds, peak_memory_mb()))


def curation(repeats: int, chats: int = CHATS) -> None:
    """Print rows per second and peak memory of both collectors, and the cost of each check."""
    import multiprocessing
    import tempfile

    context = multiprocessing.get_context("spawn")

    def measure(name: str, checks: dict[str, Any]) -> tuple[float, float]:
        queue = context.Queue()
        process = context.Process(target=_measured, args=(queue, name, str(path), checks))
        process.start()
        found = queue.get()
        process.join()
        return found

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.jsonl"
        write_chats(path, chats)
        write_chats(path.with_name("few.jsonl"), 200)
        print(f"{chats} conversations, {path.stat().st_size / 1e6:.0f} MB, {repeats} turns")
        found: dict[str, list[tuple[float, float]]] = {"mixture.collect": [], "row by row": []}
        for _ in range(repeats):
            for name in found:
                found[name].append(measure(name, {}))
        for name, values in found.items():
            print(line(name, [rate for rate, _ in values], "rows/s"))
            print(line(f"{name}, peak", [memory for _, memory in values], "MiB"))
        rates = [[rate for rate, _ in values] for values in found.values()]
        print(line("times row by row", [a / b for a, b in zip(*rates, strict=True)]))
        plain = statistics.median(rates[0])
        for name, checks in CHECKS.items():
            rate, _ = measure("mixture.collect", checks)
            cost = 1e6 / rate - 1e6 / plain
            print(line(f"check {name}", [max(0.0, cost)], "microseconds a row more"))
