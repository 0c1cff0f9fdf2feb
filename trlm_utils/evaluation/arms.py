"""Comparison of arms: variants of a stage that differ in one choice, over several seeds.

A recipe's ``groups`` name the arms. Accuracies come from the records of its evaluation
stages, training curves and replies from the arms' own folders. The optional notebooks read
the tables that `write` makes: ``<recipe>.csv``, ``<recipe>_curves.csv``, ``<recipe>_steps.csv``,
``<recipe>_replies.csv``, ``<recipe>_asked.csv``, and of word problems
``<recipe>_failures.csv`` and ``<recipe>_examples.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import stats
from trlm_utils.evaluation import ladder, operations, pooling
from trlm_utils.files import (
    PROJECT_ROOT,
    CourseError,
    read_json,
    read_rows,
    runs_root,
    shown,
    write_text,
)

RECORDED = (
    "ablations",
    "algorithms",
    "careful",
    "controls",
    "curation",
    "frontier",
    "hacking",
    "lengths",
    "smollm2",
)  # recipes whose tables are read by notebooks
REPLIES = "held_out_replies.jsonl"  # in the data folder of an arm, written by notebook 06
Groups = dict[str, dict[str, str]]


def record_folders(base: Path, stages: Sequence[str]) -> list[Path]:
    """For each seed, the ``data`` folder of an evaluation that has records of all stages."""
    found = []
    for folder in pooling.seed_folders(base).values():
        for place in sorted(folder.glob("*/data")):
            if all((place / f"records_{stage}.jsonl").is_file() for stage in stages):
                found.append(place)
                break
    return found


def table(groups: Groups, base: Path) -> Any:
    """One row per group, arm, band, form and decoding, with means over the seeds.

    Args:
        groups: title -> label -> stage; the first arm of a group is its reference.
        base: folder of the run with seed 0; runs of other seeds are inside it.

    Returns:
        A frame with group, arm, stage, reference, seeds, band, form, decoding, n (questions),
        accuracy with its 95 % interval (`pooling.means`), the paired difference to
        the reference with its 95 % interval (`pooling.pooled`; empty for the reference), and
        means of checked, tokens, truncated, well_formed, and of the stage's seconds. With
        several seeds also the degrees of freedom of both intervals, df and difference_df.
    """
    import pandas as pd

    stages = stages_in(groups)
    records = pooling.read_records(record_folders(base, stages), stages)
    references = {group: next(iter(arms.values())) for group, arms in groups.items()}
    pairs = {(references[group], s) for group, arms in groups.items() for s in arms.values()}
    differences = _differences(sorted((a, b) for a, b in pairs if a != b), records)
    rows = []
    for group, arms in groups.items() if records[stages[0]] else ():
        reference = references[group]
        for arm, stage in arms.items():
            names = {"group": group, "arm": arm, "reference": stage == reference}
            took = {"seconds": _seconds(base, stage)}
            for row in _means(records[stage], stage):
                key = (reference, stage, *ladder.key_of(row))
                rows.append(names | row | differences.get(key, {}) | took)
    return pd.DataFrame(rows)


def _seconds(base: Path, stage: str) -> float | None:
    """Seconds that a stage took, start of its kernel included; mean over the seeds."""
    manifests = [f / stage / "manifest.json" for f in pooling.seed_folders(base).values()]
    found = [read_json(path).get("wall_seconds") for path in manifests if path.is_file()]
    known = [seconds for seconds in found if seconds is not None]
    return sum(known) / len(known) if known else None


def by_steps(groups: Groups, base: Path) -> Any:
    """Accuracy by number of steps: one row per group, arm, decoding and number of steps.

    Returns:
        A frame with group, arm, decoding, steps, n, seeds, and accuracy and checked as means
        over the seeds, all in form "chat"; empty without numbers of steps (`ladder.by_steps`).
    """
    import pandas as pd

    rows = []
    for seed, place in enumerate(record_folders(base, stages_in(groups))):
        questions = read_rows(place / "questions.jsonl")
        for group, arms in groups.items():
            for arm, stage in arms.items():
                records = read_rows(place / f"records_{stage}.jsonl")
                found = ladder.by_steps(records, questions, stage, seed)
                rows += [{"group": group, "arm": arm} | row for row in found]
    rows = [row for row in rows if row["form"] == "chat"]
    if not rows:
        return pd.DataFrame()
    keys = ["group", "arm", "decoding", "steps"]
    found = pd.DataFrame(rows).groupby(keys, sort=False)
    means = found[["accuracy", "checked"]].mean()
    return means.assign(n=found["n"].first(), seeds=found["seed"].nunique()).reset_index()


def _means(records: Sequence[list[dict[str, Any]]], stage: str) -> list[dict[str, Any]]:
    """A stage's accuracies by band, form and decoding, averaged over the seeds."""
    import pandas as pd

    from trlm_utils import plots

    found = [
        row for seed, own in enumerate(records) for row in ladder.ladder_rows(own, stage, seed)
    ]
    pooled = {ladder.key_of(row): row for row in pooling.means(stage, {stage: list(records)})}
    rows = []
    keys = ["band", "form", "decoding"]
    for key, group in pd.DataFrame(found).groupby(keys, sort=False):
        over = pooled.get(key) or plots.over_seeds(group).iloc[0].to_dict()
        row = {name: over[name] for name in ("stage", "accuracy", "low", "high")}
        row |= {"df": over["df"]} if "df" in over else {}
        row |= {**dict(zip(keys, key, strict=True)), "n": group["n"].iloc[0]}
        measured = ("checked", "tokens", "truncated", "well_formed")
        row |= {name: group[name].astype(float).mean() for name in measured}
        rows.append(row | {"seeds": len(group)})
    return rows


def _differences(
    pairs: Sequence[tuple[str, str]], records: pooling.Records
) -> dict[tuple[str, ...], dict[str, float]]:
    """Pooled paired differences by reference, stage, band, form and decoding."""
    names = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
    names["df"] = "difference_df"
    return {
        (row["from"], row["to"], *ladder.key_of(row)): {
            new: row[old] for old, new in names.items() if old in row
        }
        for row in pooling.differences(pairs, records)
    }


def curves(groups: Groups, base: Path) -> Any:
    """The training logs of the arms: one row per group, arm, seed and log row.

    Returns:
        A frame with group, arm, seed, step and the columns of the logs; empty when no
        arm has a log.
    """
    import pandas as pd

    found = []
    for seed, folder in pooling.seed_folders(base).items():
        for group, arms in groups.items():
            for arm, stage in arms.items():
                path = folder / stage / "log_history.csv"
                if path.is_file():
                    names = {"group": group, "arm": arm, "seed": seed}
                    found.append(pd.read_csv(path).assign(**names))
    if not found:
        return pd.DataFrame()
    rows = pd.concat(found, ignore_index=True)
    first = ["group", "arm", "seed", "step"]
    return rows[first + [name for name in rows if name not in first]]


def over_seeds(table: Any, references: dict[str, str], value: str) -> Any:
    """Differences to each group's reference arm, paired by seed, with Student's t over the seeds.

    The interval is the mean plus or minus the 97.5 % quantile of Student's t with seeds - 1
    degrees of freedom times the standard error of the differences. Where questions, data and
    training are the seed's own, it holds for other seeds.

    Args:
        table: rows with seed, group, arm, questions, decoding and ``value``.
        references: group -> arm that the others are compared with.
        value: column whose differences are wanted.

    Returns:
        A frame with group, arm, questions, decoding, seeds, difference, low, high, in the unit
        of ``value``.

    Raises:
        CourseError: when there are fewer than two seeds.
    """
    import pandas as pd

    if table["seed"].nunique() < 2:
        raise CourseError("an interval over seeds needs two of them or more")
    rows = []
    for keys, part in table.groupby(["group", "questions", "decoding"], sort=False):
        group, asked, decoding = keys
        by_arm = part.pivot(index="seed", columns="arm", values=value)
        for arm in dict.fromkeys(part["arm"]):
            if arm == references[group]:
                continue
            changes = (by_arm[arm] - by_arm[references[group]]).dropna().tolist()
            error, quantile = stats.seeds_interval(changes, 0.0)
            mean = sum(changes) / len(changes)
            row = {"group": group, "arm": arm, "questions": asked, "decoding": decoding}
            row |= {"seeds": len(changes), "difference": mean}
            rows.append(row | {"low": mean - quantile * error, "high": mean + quantile * error})
    return pd.DataFrame(rows)


def replies(groups: Groups, base: Path) -> Any:
    """Replies of the arms to the same held-out questions during training, of the first seed.

    Returns:
        A frame with group, arm, step, question, answer, reply, right; empty when no arm
        kept any (`trlm_utils.training.callbacks.held_out_accuracy`).
    """
    import pandas as pd

    rows = []
    for group, arms in groups.items():
        for arm, stage in arms.items():
            if (path := base / stage / "data" / REPLIES).is_file():
                rows += [{"group": group, "arm": arm, **row} for row in read_rows(path)]
    return pd.DataFrame(rows)


def prompted(base: Path) -> Any:
    """Results of evaluations with another system message than the last one's.

    Returns:
        The rows of their ladders (`ladder.ladder_rows`), with the evaluation's name as
        ``asked``; empty when the recipe has no such evaluation.
    """
    import pandas as pd

    places = {path.parents[1].name: path.parent for path in base.glob("*/data/ladder.jsonl")}
    message = {
        name: read_json(base / name / "manifest.json")["parameters"].get("SYSTEM_PROMPT")
        for name in sorted(places)
    }
    return pd.DataFrame(
        {"asked": name, **row}
        for name in pooling.asked_otherwise(message)
        for row in read_rows(places[name] / "ladder.jsonl")
    )


def find_table(name: str, path: str = "") -> Path:
    """Path of a table: ``path`` if given, else that of the last run, else the committed one.

    Args:
        name: the table's file name without ``.csv``.

    Raises:
        CourseError: when there is none.
    """
    recipe = name.split("_")[0]
    folders = (runs_root() / "nano", *sorted(runs_root().glob(f"{recipe}-*")))
    places = [folder / f"{name}.csv" for folder in (*folders, PROJECT_ROOT / "figures")]
    for place in [Path(path)] if path else places:
        if place.is_file():
            return place
    recipe = recipe if recipe in RECORDED else "nano"
    raise CourseError(f"no table {shown(place)}: `make course RECIPE={recipe}` makes one")


def read_table(name: str, columns: Sequence[str], path: str = "") -> Any:
    """The table of `find_table` as a data frame.

    Raises:
        CourseError: when there is none, or it lacks one of these columns.
    """
    import pandas as pd

    place = find_table(name, path)
    try:
        found = pd.read_csv(place, dtype={"arm": str, "answer": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CourseError(f"{shown(place)} is no table: {str(error).strip()}") from None
    missing = [column for column in columns if column not in found]
    if missing or found.empty:
        raise CourseError(f"{shown(place)} has no {', '.join(missing) or 'rows'}")
    return found


def write(groups: Groups, base: Path, name: str) -> str:
    """Write the recipe's tables into the run's folder; returns a summary to print."""
    found = table(groups, base)
    if found.empty:
        return "no seed has records of every arm yet; no table was written"
    file = base / f"{name}.csv"
    write_text(file, found.to_csv(index=False))
    write_text(base / f"{name}_curves.csv", curves(groups, base).to_csv(index=False))
    write_text(base / f"{name}_steps.csv", by_steps(groups, base).to_csv(index=False))
    if not (said := replies(groups, base)).empty:
        write_text(base / f"{name}_replies.csv", said.to_csv(index=False))
    if not (asked := prompted(base)).empty:
        write_text(base / f"{name}_asked.csv", asked.to_csv(index=False))
    places = record_folders(base, stages_in(groups))
    if foreign := operations.foreign(places):
        records = pooling.read_records(places, stages_in(groups))
        failed = operations.table(groups, records, foreign)
        write_text(base / f"{name}_failures.csv", failed.to_csv(index=False))
        examples = operations.examples(groups, records, foreign)
        write_text(base / f"{name}_examples.csv", examples.to_csv(index=False))
    lines = []
    shown_rows = found[(found["decoding"] == "sampled") & (found["form"] == "chat")]
    for (group, band), rows in shown_rows.groupby(["group", "band"], sort=False):
        lines.append(f"\n{group}: {band}, sampled, accuracy in % [95 % interval]")
        lines += [_line(row) for row in rows.to_dict("records")]
    seeds = int(found["seeds"].min())
    return "\n".join([*lines, f"\n{seeds} seeds; table: {shown(file)}"])


def _line(row: dict[str, Any]) -> str:
    accuracy = f"{stats.percent(row['accuracy']):>5} {stats.interval(row)}"
    text = f"  {row['arm']:<14} {accuracy}"
    if row["reference"]:
        return text + "   reference"
    change = stats.points(row["difference"], row["difference_low"], row["difference_high"])
    return f"{text}   {change}"


def stages_in(groups: dict[str, dict[str, str]]) -> list[str]:
    """The stages named in groups, without repetition."""
    return list(dict.fromkeys(stage for arms in groups.values() for stage in arms.values()))
