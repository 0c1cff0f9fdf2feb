"""The texts of a report: tables, sentences, and the ladder for a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from trlm_utils.evaluation.ladder import key_of
from trlm_utils.stats import interval, percent, points_or_none

NEAR_ZERO = 0.05
SPEEDS = ("training_tokens_per_second", "rollout_tokens_per_second")
Table = tuple[str, list[str], list[list[str]]]  # title, header, rows


def verdict(row: dict[str, Any]) -> str:
    """One sentence on a comparison; it may say that no difference was detected."""
    start, end = (row.get(name, "chat") for name in ("from_form", "form"))
    form = " (plain form)" if start == "plain" != end else ""
    where = f"{row['from']}{form} to {row['to']}, {row['band']}, {row['decoding']}"
    where += ", plain form" if start == end == "plain" else ""
    size = f"{100 * row['difference']:+.1f} points {interval(row)}"
    if row["low"] <= 0 <= row["high"]:
        return f"{where}: no difference detected ({size})"
    return f"{where}: {size}"


def plain_statements(content: dict[str, Any]) -> list[str]:
    """Warnings for the reader: accuracies that are close to zero."""
    if not content["ladder"]:
        return ["No stage was evaluated."]
    last = content["ladder"][-1]["stage"]
    lines = []
    for row in content["ladder"]:
        asked = row.get("form", "chat") == "chat"
        if asked and row["stage"] == last and row["high"] < NEAR_ZERO:
            lines.append(
                f"After {last}, accuracy on {row['band']} ({row['decoding']}, seed "
                f"{row['seed']}) is near zero: {percent(row['accuracy'])} % "
                f"{interval(row)} on {row['n']} questions. "
                "This model does not solve these problems."
            )
    return lines


def time_line(content: dict[str, Any]) -> str:
    """Time of all stages, and the part of it for starting kernels and imports."""
    wall = sum(s["wall_seconds"] for s in content["stages"])
    startup = sum(s["startup_seconds"] for s in content["stages"])
    runs = f" for {len(content['seeds'])} seeds" if len(content["seeds"]) > 1 else ""
    return (
        f"All stages: {wall / 60:.1f} minutes{runs}; {startup / max(wall, 1e-9):.0%} of it "
        f"starting kernels and importing.{_price_line(content)}"
    )


def _price_line(content: dict[str, Any]) -> str:
    price, spent = content["price"], content["totals"]
    if not price["dollars_per_hour"]:
        return ""
    return (
        f" One seed: ${spent['dollars']:.3f} at ${price['dollars_per_hour']:.2f} an hour "
        f"({price['for']})."
    )


def ladder_table(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the ladder: a row per stage, form and seed; columns by band, decoding."""
    columns: dict[tuple[str, str], None] = {}
    cells: dict[tuple[str, str, str], dict[tuple[str, str], str]] = defaultdict(dict)
    for row in content["ladder"]:
        band, form, decoding = key_of(row)
        columns[band, decoding] = None
        text = f"{percent(row['accuracy'])} {interval(row)}"
        if row.get("checked") is not None:
            text += f" c{100 * row['checked']:.0f}"
        if (row["truncated"] or 0) >= 0.005:  # None for multiple choice
            text += f" t{100 * row['truncated']:.0f}"
        cells[row["stage"], form, str(row["seed"])][band, decoding] = text
    return _by_column(["stage", "form", "seed"], columns, cells)


def _by_column(
    names: list[str],
    columns: dict[tuple[str, str], None],
    cells: dict[Any, dict[tuple[str, str], str]],
) -> tuple[list[str], list[list[str]]]:
    """Header and rows from cells by row and column; ``names`` head the parts of a row's key."""
    head = [*names, *(f"{band} {decoding}" for band, decoding in columns)]
    return head, [[*key, *(found.get(c, "") for c in columns)] for key, found in cells.items()]


def over_seeds_table(content: dict[str, Any]) -> list[Table]:
    """Means over the seeds with intervals, a row per stage and form; no table with one seed."""
    columns: dict[tuple[str, str], None] = {}
    cells: dict[tuple[str, str], dict[tuple[str, str], str]] = defaultdict(dict)
    for row in content["ladder"]:
        if row.get("pooled_accuracy") is not None:
            band, form, decoding = key_of(row)
            columns[band, decoding] = None
            ends = {"low": row["pooled_low"], "high": row["pooled_high"]}
            size = f"{percent(row['pooled_accuracy'])} {interval(ends)}"
            cells[row["stage"], form][band, decoding] = f"{size} df {row['pooled_df']:.0f}"
    if not cells:
        return []
    head, body = _by_column(["stage", "form"], columns, cells)
    title = f"Ladder, mean in % [95 % interval {_of(content)}], df = degrees of freedom"
    return [(title, head, body)]


def _of(content: dict[str, Any]) -> str:
    """Words that say what the report's intervals cover: questions, or seeds and questions."""
    if len(content["seeds"]) > 1:
        return f"for other seeds and questions, Student's t, {len(content['seeds'])} seeds"
    return "of the questions, one seed"


def ladder_text(content: dict[str, Any]) -> str:
    """The ladder for a terminal: one block per band, one line per stage."""
    blocks: dict[str, dict[tuple[str, str, int], dict[str, Any]]] = {}
    for row in content["ladder"]:
        band, form, decoding = key_of(row)
        by_stage = blocks.setdefault(band, {})
        by_stage.setdefault((row["stage"], form, row["seed"]), {})[decoding] = row
    lines = []
    for band, stages in blocks.items():
        lines.append(f"\n{band}: accuracy in % [95 % interval of each seed's questions]")
        for (stage, form, seed), found in stages.items():
            parts = [
                f"{decoding} {percent(r['accuracy']):>5} {interval(r)}"
                for decoding, r in found.items()
            ]
            lines.append(f"  {stage:<18} {form:<5} seed {seed}  {'   '.join(parts)}")
    return "\n".join([*lines, "", *plain_statements(content), time_line(content)])


def tables(content: dict[str, Any]) -> list[Table]:
    """Title, header and rows of every table of the report."""
    stages = [
        [
            s["stage"],
            str(s["seed"]),
            f"{s['wall_seconds']:.0f}",
            f"{s['startup_seconds']:.0f}",
            f"{s['peak_rss_mb']:.0f}",
            f"{s['tokens']:,}",
            *(f"{s['metrics'].get(name, 0):,.0f}" for name in SPEEDS),
            str(s["metrics"].get("headline", "")),
        ]
        for s in content["stages"]
    ]
    environment = [[k, v] for k, v in content["environment"].items()]
    head, body = ladder_table(content)
    replies = [
        [
            *(str(row[name]) for name in ("stage", "seed", "band")),
            row.get("form", "chat"),
            *(str(row[name]) for name in ("decoding", "n")),
            percent(row["accuracy"]),
            percent(row["standard_error"]) if "standard_error" in row else "",
            f"{row['tokens']:.0f}",
            percent(row["truncated"]),
            "" if row["well_formed"] is None else percent(row["well_formed"]),
        ]
        for row in content["ladder"]
        if row["truncated"] is not None
    ]
    return [
        *arms_tables(content),
        *over_seeds_table(content),
        (
            "Ladder, each seed: accuracy in % [95 % interval of its questions], c = % right in "
            "every step, t = % truncated",
            head,
            body,
        ),
        *published_table(content),
        (
            "Stages",
            [
                "stage",
                "seed",
                "seconds",
                "of which start-up",
                "peak MiB",
                "tokens",
                "trained tokens/s",
                "rollout tokens/s",
                "result",
            ],
            stages,
        ),
        (
            "Replies: mean length, and shares in %",
            [
                "stage",
                "seed",
                "band",
                "form",
                "decoding",
                "questions",
                "right",
                "standard error",
                "tokens",
                "truncated",
                "well-formed",
            ],
            replies,
        ),
        ("Environment", ["what", "version"], environment),
    ]


def published_table(content: dict[str, Any]) -> list[Table]:
    """Published scores of the original systems next to measured ones, each with its harness."""
    published: dict[str, dict[str, dict[str, Any]]] = {}
    for row in content["published"]:
        published.setdefault(row["model"], {})[row["band"]] = row
    if not published:
        return []
    bands = list(dict.fromkeys(row["band"] for row in content["published"]))
    body = []
    for row in content["ladder"]:
        name = f"{row['stage']}, seed {row['seed']}"
        if row["band"] in bands and name not in [cells[0] for cells in body]:
            body.append([name, *_measured(content, row, bands), "this run (lm-eval)"])
    for model, found in published.items():
        scores = [percent(found[b]["score"]) if b in found else "" for b in bands]
        body.append([model, *scores, next(iter(found.values()))["harness"]])
    title = "Measured here and published: % [95 % interval]; harnesses differ, and so do scores"
    return [(title, ["model", *bands, "harness"], body)]


def _measured(content: dict[str, Any], of: dict[str, Any], bands: Sequence[str]) -> list[str]:
    own = {
        row["band"]: f"{percent(row['accuracy'])} {interval(row)}"
        for row in content["ladder"]
        if (row["stage"], row["seed"]) == (of["stage"], of["seed"])
    }
    return [own.get(band, "") for band in bands]


def arms_tables(content: dict[str, Any]) -> list[Table]:
    """One table per group of arms, asked through the chat template: accuracy and cost."""
    asked = [row for row in content["arms"] if row.get("form", "chat") == "chat"]
    columns = list(dict.fromkeys((r["band"], r["decoding"]) for r in asked))
    tables = []
    for group in dict.fromkeys(row["group"] for row in content["arms"]):
        body = []
        found = [row for row in asked if row["group"] == group]
        for arm in dict.fromkeys(row["arm"] for row in found):
            own = {(r["band"], r["decoding"]): r for r in found if r["arm"] == arm}
            first = next(iter(own.values()))
            cells = [text for key in columns for text in _arm_cells(own.get(key))]
            body.append([arm, *_cost_cells(first), *cells])
        head = [f"{b} {d}, {what}" for b, d in columns for what in ("%", "difference")]
        cost = ["reply tokens", "minutes", "trained tokens", "trainable parameters", "dollars"]
        tables.append((f"Side by side: {group}", ["arm", *cost, *head], body))
    return tables


def _arm_cells(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["", ""]
    value = f"{percent(row['accuracy'])} {interval(row)}"
    if row.get("difference") is None:
        return [value, "reference" if row["reference"] else ""]
    return [value, points_or_none(*(row[f"difference{end}"] for end in ("", "_low", "_high")))]


def _cost_cells(row: dict[str, Any]) -> list[str]:
    return [
        "" if row["tokens"] is None else f"{row['tokens']:.0f}",
        f"{row.get('training_minutes', 0):.1f}",
        f"{row.get('training_tokens', 0):,.0f}",
        f"{row.get('training_trainable_parameters', 0):,}",
        f"{row.get('training_dollars', 0):.4f}",
    ]


def verdicts(rows: list[dict[str, Any]], form: str) -> list[str]:
    """A sentence on each comparison of later stages in a form."""
    return list(map(verdict, _asked_in(rows, form)))


def _asked_in(rows: list[dict[str, Any]], form: str) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("form", "chat") == form]


def lists(content: dict[str, Any]) -> dict[str, list[str]]:
    """The parts of the report that are sentences: title -> lines."""
    last = content["ladder"][-1]["stage"] if content["ladder"] else ""
    paired = f"paired, 95 % interval {_of(content)}"
    to_last = [row for row in _asked_in(content["pairs"], "chat") if row["to"] == last]
    found = {
        f"From stage to stage ({paired})": verdicts(content["comparisons"], "chat"),
        f"Over the base model in its best form ({paired})": verdicts(content["over_base"], "chat"),
        f"The same stages in plain form: what they unlearn ({paired})": verdicts(
            content["comparisons"], "plain"
        ),
        f"To the last stage ({paired})": list(map(verdict, to_last)),
        "Differences from the original": content["deviations"],
        "Notes": content["notes"],
    }
    return {name: lines for name, lines in found.items() if lines}
