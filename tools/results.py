"""The README's tables of the default recipe, in Markdown, from its report.

Accuracies are in %, means over the seeds with the lowest and the highest seed in brackets;
differences have a 95 % interval for new seeds and questions (`evaluation.pooling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils.evaluation.ladder import key_of
from trlm_utils.stats import interval, percent, points_or_none

Row = dict[str, Any]
LENGTHS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10))  # steps that share a column


def results_table(report: Row, beside: Sequence[Row] = (), steps_beside: Sequence[Row] = ()) -> str:
    """All tables of the block "results".

    Args:
        report: content of report.json.
        beside: rows like the ladder's, of arms that are no rung of it.
        steps_beside: the same of ``by_steps``.
    """
    first = report["seeds"][0]
    seconds = {r["stage"]: r["wall_seconds"] for r in report["stages"] if r["seed"] == first}
    band, n = report["ladder"][0]["band"], report["ladder"][0]["n"]
    found = accuracies([*report["ladder"], *beside])
    rises = {
        row["to"]: row for row in report["comparisons"] if key_of(row) == (band, "chat", "sampled")
    }
    lines = [
        "| stage | chat, greedy | chat, sampled | plain, greedy | plain, sampled "
        "| rise in chat, sampled | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    arms = dict.fromkeys(row["stage"] for row in beside)
    for stage in [*seconds, *arms]:
        kinds = [(f, d) for f in ("chat", "plain") for d in ("greedy", "sampled")]
        cells = [cell(found.get((stage, band, *kind), [])) for kind in kinds]
        cells += [rise(rises.get(stage)), f"{seconds[stage]:.0f}" if stage in seconds else ""]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    total = sum(seconds.values()) / 60
    own = len({row["seed"] for row in beside})
    of_arms = ""
    if own not in (0, len(report["seeds"])):
        of_arms = f" ({', '.join(arms)}: {own} seed{'s' * (own > 1)})"
    lines.append(
        f"\nAccuracy in % on `{band}`, n = {n} held-out questions, mean of "
        f"{len(report['seeds'])} seeds{of_arms} [lowest to highest]; chat: asked through the chat "
        "template, plain: the question continued. Rises with their 95 % interval. Seconds are "
        f"those of seed {first}, {total:.1f} minutes together."
    )
    steps = [*report["by_steps"], *steps_beside]
    return "\n".join([*lines, *steps_table(steps), *over_base_lines(report)])


def accuracies(rows: Sequence[Row]) -> dict[tuple[str, ...], list[float]]:
    """Stage, band, form and decoding -> accuracy of each seed."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        found.setdefault((row["stage"], *key_of(row)), []).append(row["accuracy"])
    return found


def steps_table(rows: Sequence[Row]) -> list[str]:
    """By number of steps: answers that are right in every step, greedy and sampled.

    The base model stands in its best form, each later stage in form "chat".
    """
    if not rows:
        return []
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    head = " | ".join(f"{low} and {high} steps" for low, high in LENGTHS)
    lines = [f"\n| right in every step | {head} |", "| --- |" + " --- |" * len(LENGTHS)]
    for stage in stages:
        forms = ("chat", "plain") if stage == stages[0] else ("chat",)
        name = f"{stage}, best form" if len(forms) > 1 else stage
        for decoding in ("greedy", "sampled"):
            cells = [
                max((share_right(rows, stage, f, decoding, some) for f in forms), key=_mean)
                for some in LENGTHS
            ]
            lines.append(f"| {name}, {decoding} | {' | '.join(map(cell, cells))} |")
    return lines


def share_right(
    rows: Sequence[Row], stage: str, form: str, decoding: str, steps: Sequence[int]
) -> list[float]:
    """Share of each seed's answers that are right in every step, of problems so long."""
    shares = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        key = (stage, seed, form, decoding)
        mine = [
            row
            for row in rows
            if (row["stage"], row["seed"], row["form"], row["decoding"]) == key
            and row["steps"] in steps
            and row["checked"] is not None
        ]
        asked = sum(row["n"] for row in mine)
        if asked:
            shares.append(sum(row["n"] * row["checked"] for row in mine) / asked)
    return shares


def arms_table(rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> str:
    """Arms set side by side (`evaluation.arms.table`), asked in form "chat".

    Args:
        columns: bands and decodings that have a column each.
    """
    head = " | ".join(f"`{band}`, {decoding}" for band, decoding in columns)
    lines = [f"| arm | {head} |", "| --- |" + " --- |" * len(columns)]
    for group, arm in dict.fromkeys((row["group"], row["arm"]) for row in rows):
        cells = []
        for band, decoding in columns:
            key = (group, arm, band, "chat", decoding)
            (row,) = [r for r in rows if (r["group"], r["arm"], *key_of(r)) == key]
            text = f"{percent(row['accuracy'])} {interval(row)}"
            if not row["reference"]:
                ends = {end: row[f"difference_{end}"] for end in ("low", "high")}
                text += f"; {rise({'difference': row['difference'], **ends})}"
            cells.append(text)
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    seeds = rows[0]["seeds"]
    asked = {row["band"]: int(row["n"]) for row in rows}
    asked = {band: asked[band] for band, _ in columns}
    n = f"{rows[0]['n']} questions a band"
    if len(set(asked.values())) > 1:
        n = "questions: " + ", ".join(f"{count} `{band}`" for band, count in asked.items())
    of = (
        f"for other seeds and questions, {seeds} seeds"
        if seeds > 1
        else "of the questions, one seed"
    )
    arms = [group for group, _ in dict.fromkeys((row["group"], row["arm"]) for row in rows)]
    above = "the arm above it" if all(arms.count(g) <= 2 for g in arms) else "the first arm"
    lines.append(f"\nAccuracy in % and difference to {above}, with 95 % intervals {of}; {n}.")
    return "\n".join(lines)


def over_base_lines(report: Row) -> list[str]:
    """What the last stage has over the base model in its best form, band by band."""
    last = report["ladder"][-1]["stage"]
    lines = []
    for row in report["over_base"]:
        if row["to"] == last:
            lines.append(
                f"- `{row['band']}`, {row['decoding']}: {rise(row)} against the base model in its "
                f"best form ({row['from_form']})"
            )
    return [f"\nAfter {last}:\n", *lines] if lines else []


def cell(accuracies: Sequence[float]) -> str:
    """Mean over seeds in %, and the range of the seeds where there are several."""
    if not accuracies:
        return ""
    text = f"{100 * _mean(accuracies):.1f}"
    if len(accuracies) > 1:
        text += f" [{100 * min(accuracies):.1f} to {100 * max(accuracies):.1f}]"
    return text


def rise(row: Row | None) -> str:
    """A difference in points with its interval, and whether zero lies in it."""
    if row is None:
        return ""
    return points_or_none(row["difference"], row["low"], row["high"])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
