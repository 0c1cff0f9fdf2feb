"""Evaluation records of several seeds, and paired differences pooled over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import stats
from trlm_utils.evaluation import held_out
from trlm_utils.files import read_rows

Records = dict[str, list[list[dict[str, Any]]]]  # stage -> its records, a list per seed


def seed_folders(base: Path) -> dict[int, Path]:
    """Seed -> folder of every run of a recipe that was begun."""
    found = {0: base} if any(base.glob("*/manifest.json")) else {}
    for path in sorted(base.glob("seed-*")):
        found[int(path.name.split("-")[1])] = path
    return found


def read_records(places: Sequence[Path], stages: Iterable[str]) -> Records:
    """Evaluation records of each stage, a list per seed.

    Args:
        places: the ``data`` folder of the evaluation, one per seed.
    """
    return {s: [read_rows(place / f"records_{s}.jsonl") for place in places] for s in stages}


def differences(pairs: Sequence[tuple[str, str]], records: Records) -> list[dict[str, Any]]:
    """Paired differences between stages; with several seeds pooled over them."""
    rows = []
    for start, end in pairs:
        for before, after in zip(records[start], records[end], strict=True):
            rows += held_out.compare(before, after, (start, end))
    seeds = max(map(len, records.values()), default=0)
    return pooled(rows, records) if seeds > 1 else rows


def pooled(comparisons: list[dict[str, Any]], records: Records) -> list[dict[str, Any]]:
    """Differences averaged over seeds, with an interval for other seeds and questions.

    All seeds answer the same questions. A question's score is averaged over the seeds
    before questions are paired (they are the units, not question times seed), and the
    spread between seeds is added to the error: questions and seeds are two crossed
    random effects, and their standard errors add in squares.

    Args:
        comparisons: rows of all seeds (`evaluation.compare`).
        records: see `read_records`.
    """
    groups: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for row in comparisons:
        groups[row["from"], row["to"], row["band"], row["decoding"]].append(row)
    pairs = dict.fromkeys((start, end) for start, end, _, _ in groups)
    averaged = {name: _averaged(records[name]) for name in dict.fromkeys(sum(pairs, ()))}
    result = []
    for start, end in pairs:
        for row in held_out.compare(averaged[start], averaged[end], (start, end)):
            rows = groups[start, end, row["band"], row["decoding"]]
            mean = row["difference"]
            questions = (row["high"] - row["low"]) / (2 * stats.Z)
            seeds = stats.standard_error([r["difference"] for r in rows])
            half = stats.Z * (questions**2 + seeds**2) ** 0.5
            result.append(row | {"low": mean - half, "high": mean + half, "seeds": len(rows)})
    return result


def _averaged(found: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A stage's evaluation records with each accuracy averaged over the seeds that have it."""
    same: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in (record for records in found for record in records):
        same[record["id"], record["decoding"]].append(record)
    return [
        records[0] | {"accuracy": sum(r["accuracy"] for r in records) / len(records)}
        for records in same.values()
    ]
