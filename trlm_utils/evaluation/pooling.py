"""Evaluation records of several seeds; accuracies and paired differences pooled over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import stats
from trlm_utils.evaluation import ladder
from trlm_utils.files import read_rows

Records = dict[str, list[list[dict[str, Any]]]]  # stage -> list of records for each seed


def seed_folders(base: Path) -> dict[int, Path]:
    """Seed -> folder, for every seed of a recipe that was started."""
    found = {0: base} if any(base.glob("*/manifest.json")) else {}
    for path in sorted(base.glob("seed-*")):
        found[int(path.name.split("-")[1])] = path
    return found


def asked_otherwise(messages: dict[str, str | None]) -> list[str]:
    """Evaluations whose system message is not that of the last one: no part of one ladder.

    Args:
        messages: name of an evaluation -> its system message, in order.
    """
    last = next(reversed(messages.values()), None)
    return [name for name, message in messages.items() if message != last]


def read_records(places: Sequence[Path], stages: Iterable[str]) -> Records:
    """Evaluation records of each stage, as one list per seed.

    Args:
        places: the ``data`` folders of the evaluation, one per seed.
        stages: names of the stages.
    """
    return {s: [read_rows(place / f"records_{s}.jsonl") for place in places] for s in stages}


def differences(pairs: Sequence[tuple[str, str]], records: Records) -> list[dict[str, Any]]:
    """Paired differences between stages, pooled over the seeds if there are several."""
    rows = []
    for start, end in pairs:
        for before, after in zip(records[start], records[end], strict=True):
            rows += ladder.compare(before, after, (start, end))
    return _over_seeds(rows, records)


def over_base(base: str, stages: Sequence[str], records: Records) -> list[dict[str, Any]]:
    """Paired differences from the base model in its best form to each stage, pooled.

    Args:
        base: name of the stage that made the base model.
        stages: names of the others.
    """
    best = ladder.best_forms(records[base])
    rows = []
    for stage in stages:
        for before, after in zip(records[base], records[stage], strict=True):
            rows += ladder.over_base(before, after, (base, stage), best)
    return _over_seeds(rows, records)


def _over_seeds(rows: list[dict[str, Any]], records: Records) -> list[dict[str, Any]]:
    seeds = max(map(len, records.values()), default=0)
    return pooled(rows, records) if seeds > 1 else rows


def pooled(comparisons: list[dict[str, Any]], records: Records) -> list[dict[str, Any]]:
    """Differences averaged over seeds, with a 95 % interval for new seeds and new questions.

    Args:
        comparisons: rows of all seeds (`ladder.compare`, `ladder.over_base`).
        records: see `read_records`.

    Returns:
        One row per pair of stages, band, form and decoding, with ``seeds`` and the degrees of
        freedom ``df`` of its interval (`stats.pooled_difference`). If only one seed has a
        pair, the row has that seed's own interval, which covers new questions only.
    """
    groups: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for row in comparisons:
        start = (row["from"], row["band"], row.get("from_form", "chat"), row["decoding"])
        groups[start, (row["to"], *ladder.key_of(row))].append(row)
    result = []
    for ((start, *old_key), (end, *new_key)), rows in groups.items():
        row = {k: v for k, v in rows[0].items() if k != "seed"} | {"seeds": len(rows)}
        if len(rows) < 2:
            result.append(row)
            continue
        sides = [
            (_accuracies(old, tuple(old_key)), _accuracies(new, tuple(new_key)))
            for old, new in zip(records[start], records[end], strict=True)
        ]
        sides = [(old, new) for old, new in sides if old and new]
        asked = _shared([part for side in sides for part in side])
        if len(asked) < 2:  # each seed had different questions
            found = _from_means(rows)
        else:
            before, after = ([[side[k][i] for i in asked] for side in sides] for k in (0, 1))
            found = stats.pooled_difference(before, after)
        interval = {"difference": found.mean, "low": found.low, "high": found.high}
        result.append(row | interval | {"df": found.df})
    return result


def _from_means(rows: Sequence[dict[str, Any]]) -> stats.Pooled:
    """Pool seeds that share no questions: their errors are independent, so use a t interval."""
    found = [row["difference"] for row in rows]
    mean = sum(found) / len(found)
    half = stats.t_quantile(len(found) - 1) * stats.standard_error(found)
    return stats.Pooled(mean, max(-1.0, mean - half), min(1.0, mean + half), len(found) - 1)


def means(stage: str, records: Records) -> list[dict[str, Any]]:
    """A stage's mean accuracy over all seeds, one row per band, form and decoding.

    Returns:
        Rows with stage, band, form, decoding, accuracy, low, high, seeds and df; no row if fewer
        than two seeds had the same questions.
    """
    keys = dict.fromkeys(ladder.key_of(r) for found in records[stage] for r in found)
    rows = []
    for key in keys:
        table = scores(records[stage], key)
        if len(table) > 1 and len(table[0]) > 1:
            found = stats.pooled_mean(table)
            row = {"stage": stage, **dict(zip(("band", "form", "decoding"), key, strict=True))}
            row |= {"accuracy": found.mean, "low": found.low, "high": found.high}
            rows.append(row | {"seeds": len(table), "df": found.df})
    return rows


def scores(found: list[list[dict[str, Any]]], key: ladder.Key) -> list[list[float]]:
    """Accuracy of every question of a band, form and decoding, one row per seed that has them.

    Only questions that all these seeds have in common are included.
    """
    asked = [one for one in (_accuracies(records, key) for records in found) if one]
    shared = _shared(asked)
    return [[one[i] for i in shared] for one in asked]


def _accuracies(records: list[dict[str, Any]], key: ladder.Key) -> dict[str, float]:
    """Id of a question -> accuracy, for one band, form and decoding."""
    return {r["id"]: r["accuracy"] for r in records if ladder.key_of(r) == key}


def _shared(asked: Sequence[dict[str, float]]) -> list[str]:
    """The questions that occur in all of them, in the order of the first."""
    return [i for i in asked[0] if all(i in one for one in asked)] if asked else []
