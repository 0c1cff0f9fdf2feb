"""The ladder and the other tables of an evaluation, from the records of `held_out.evaluate`.

Every row names its form: "chat" (asked through the chat template) or "plain" (the question
alone, which the model continues). A base model is at its best in the form that it was trained
in, so later stages are compared with its best form (`over_base`), not with a form that it has
never seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from trlm_utils import stats
from trlm_utils.evaluation.held_out import Record

# differ only in the number of steps
BANDS_BY_LENGTH = ("in_distribution", "longer", "longest", "beyond")
Key = tuple[str, str, str]  # band, form, decoding


def key_of(row: Record) -> Key:
    """Band, form and decoding of a record, or of a row of a table."""
    return row["band"], row.get("form", "chat"), row["decoding"]


def by_group(records: Sequence[Record]) -> dict[Key, list[Record]]:
    """Records by band, form and decoding; bands in the order in which they were asked."""
    groups: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        groups[key_of(record)].append(record)
    bands = list(dict.fromkeys(record["band"] for record in records))
    return dict(sorted(groups.items(), key=lambda g: (bands.index(g[0][0]), *g[0][1:])))


def ladder_rows(records: Sequence[Record], stage: str, seed: int) -> list[Record]:
    """A stage's rows of the ladder, the table of accuracies of all stages.

    One row per band, form and decoding, with a 95 % interval; ``checked`` is the share of
    answers that are right in every step. For decoding "likelihood" (multiple choice)
    truncated, well_formed and tokens are None, because nothing is generated.
    """
    rows = []
    for (band, form, decoding), group in by_group(records).items():
        samples = max(len(r["texts"]) for r in group)
        mean, low, high = stats.mean_interval([r["accuracy"] for r in group], samples)
        row = {"stage": stage, "seed": seed, "band": band, "form": form, "decoding": decoding}
        row |= {"accuracy": mean, "low": low, "high": high, "n": len(group)}
        row["standard_error"] = stats.standard_error([r["accuracy"] for r in group])
        for name in ("checked", "truncated", "well_formed", "tokens"):
            row[name] = _mean_of(group, name)
        rows.append(row)
    return rows


def _mean_of(group: Sequence[Record], name: str) -> float | None:
    """Mean over the records that have a value; None if none has."""
    known = [record[name] for record in group if record.get(name) is not None]
    return sum(known) / len(known) if known else None


def by_steps(
    records: Sequence[Record], questions: Sequence[Record], stage: str, seed: int
) -> list[Record]:
    """Accuracy by number of steps, over the bands that differ only in this number.

    Args:
        records: see `held_out.evaluate`.
        questions: rows with id and, if known, difficulty (number of steps of a NanoWorld
            problem). Questions without difficulty are left out.

    Returns:
        Rows with stage, seed, form, decoding, steps, accuracy, low, high, checked, n; empty
        without difficulties.
    """
    steps = {row["id"]: row.get("difficulty") for row in questions}
    groups: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        known = steps.get(record["id"])
        band, form, decoding = key_of(record)
        if known and band in BANDS_BY_LENGTH:
            groups[form, decoding, known].append(record)
    rows = []
    for (form, decoding, number), group in sorted(groups.items()):
        samples = max(len(r["texts"]) for r in group)
        mean, low, high = stats.mean_interval([r["accuracy"] for r in group], samples)
        row = {"stage": stage, "seed": seed, "form": form, "decoding": decoding}
        row |= {"steps": number, "accuracy": mean, "low": low, "high": high}
        rows.append(row | {"checked": _mean_of(group, "checked"), "n": len(group)})
    return rows


def compare(
    before: Sequence[Record], after: Sequence[Record], names: tuple[str, str]
) -> list[Record]:
    """Paired differences from one stage to another, per band, form and decoding.

    Args:
        before, after: records of both stages, see `held_out.evaluate`.
        names: names of both stages.

    Raises:
        ValueError: when the two stages did not get the same questions.
    """
    rows = []
    old, new = by_group(before), by_group(after)
    if old.keys() != new.keys():
        raise ValueError(f"{names} were evaluated on different bands")
    for key, group in old.items():
        rows.append(_row(names, key, key[1], _difference(group, new[key], names)))
    return rows


def best_forms(seeds: Sequence[Sequence[Record]]) -> dict[tuple[str, str], str]:
    """The form in which a model is right most often, per band and decoding.

    To choose after the measurement favours this model, so a difference to it is cautious.

    Args:
        seeds: records of the model, one list per seed.
    """
    scores: dict[Key, list[float]] = defaultdict(list)
    for records in seeds:
        for record in records:
            scores[key_of(record)].append(record["accuracy"])
    best: dict[tuple[str, str], str] = {}
    for (band, form, decoding), found in scores.items():
        other = scores.get((band, best.get((band, decoding), ""), decoding), [0.0])
        if (band, decoding) not in best or sum(found) / len(found) > sum(other) / len(other):
            best[band, decoding] = form
    return best


def over_base(
    base: Sequence[Record],
    later: Sequence[Record],
    names: tuple[str, str],
    best: dict[tuple[str, str], str],
) -> list[Record]:
    """Paired differences from the base model in its best form to a later stage in form "chat".

    Args:
        base, later: records of both, see `held_out.evaluate`.
        names: names of both.
        best: see `best_forms`.

    Returns:
        Rows as `compare` returns them; ``from_form`` is the base model's form.
    """
    old, new = by_group(base), by_group(later)
    rows = []
    for key, group in new.items():
        band, form, decoding = key
        start = old.get((band, best.get((band, decoding), ""), decoding))
        if form == "chat" and start:
            found = _difference(start, group, names)
            rows.append(_row(names, key, best[band, decoding], found))
    return rows


def _difference(
    before: Sequence[Record], after: Sequence[Record], names: tuple[str, str]
) -> tuple[float, float, float]:
    left = {r["id"]: r["accuracy"] for r in before}
    right = {r["id"]: r["accuracy"] for r in after}
    if left.keys() != right.keys():
        raise ValueError(f"{names} were asked different questions in {before[0]['band']}")
    return stats.paired_difference(list(left.values()), [right[i] for i in left])


def _row(
    names: tuple[str, str], key: Key, from_form: str, found: tuple[float, float, float]
) -> Record:
    difference, low, high = found
    row = {"from": names[0], "to": names[1], "band": key[0], "decoding": key[2]}
    row |= {"form": key[1], "from_form": from_form}
    return row | {"difference": difference, "low": low, "high": high}


def pass_curve(counts: Sequence[Record], stage: str) -> list[Record]:
    """pass@k for k = 1, 2, 4, ... samples, per band, with 95 % intervals over questions.

    Args:
        counts: see `held_out.count_right`.

    Returns:
        Rows with stage, band, counted ("right", or "checked" where the steps are known), k,
        pass_at_k, low, high, n (questions).
    """
    rows = []
    for band in dict.fromkeys(record["band"] for record in counts):
        group = [record for record in counts if record["band"] == band]
        for counted in ("right", "checked"):
            if group[0].get(counted) is None:
                continue
            k = 1
            while k <= group[0]["samples"]:
                scores = [stats.pass_at_k(r["samples"], r[counted], k) for r in group]
                mean, low, high = stats.mean_interval(scores, 1)
                row = {"stage": stage, "band": band, "counted": counted, "k": k}
                row |= {"pass_at_k": mean, "low": low, "high": high, "n": len(group)}
                rows.append(row)
                k *= 2
    return rows
