"""The report of a recipe: for people (HTML, Markdown) and for programs (JSON).

It is put together from what the stages left in their folders; nothing is computed
that a stage did not measure, except that differences are pooled over seeds.
"""

from __future__ import annotations

import html
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import plots
from trlm_utils.evaluation.pooling import differences, means, pooled, read_records, seed_folders
from trlm_utils.files import read_json, read_rows, write_json, write_text
from trlm_utils.machine import package_versions
from trlm_utils.stats import interval, percent, points

NEAR_ZERO = 0.05
EXTRAS = ("by_steps", "styles", "pass_at_k", "published")  # further tables of the evaluation
SPEEDS = ("training_tokens_per_second", "rollout_tokens_per_second")


def collect(plan: Any, base: Path, arms: Any = None) -> dict[str, Any]:
    """The content of report.json.

    Args:
        plan: a checked recipe (`recipes.Plan`); gives the order of stages.
        base: folder of the run with seed 0; other seeds lie inside it.
        arms: what the recipe sets side by side (`trlm_utils.evaluation.arms.table`).
    """
    stages, ladder, comparisons, notes = [], [], [], []
    extras: dict[str, list[dict[str, Any]]] = {name: [] for name in EXTRAS}
    seeds: list[int] = []
    places: list[Path] = []
    for seed, folder in seed_folders(base).items():
        found = [_stage_entry(folder / s.stage, seed) for s in plan.stages]
        found = [entry for entry in found if entry]
        if found:
            seeds.append(seed)
        stages += found
        for stage in plan.stages:
            place = folder / stage.stage / "data"
            if (place / "ladder.jsonl").is_file():
                ladder += read_rows(place / "ladder.jsonl")
                rows = read_rows(place / "comparisons.jsonl")
                comparisons += [row | {"seed": seed} for row in rows]
                places.append(place)
                for name in EXTRAS:
                    if (place / f"{name}.jsonl").is_file():
                        rows = read_rows(place / f"{name}.jsonl")
                        extras[name] += [row | {"seed": seed} for row in rows]
    evaluated = list(dict.fromkeys(row["stage"] for row in ladder))
    records = read_records(places, evaluated)
    with_pooled(ladder, [row for stage in evaluated for row in means(stage, records)])
    for entry in stages:
        notes += [f"{entry['stage']}: {n}" for n in entry["metrics"].get("notes", [])]
    price = plan.dollars_per_hour
    return {
        "recipe": plan.recipe,
        "about": plan.about,
        "scale": plan.scale,
        "seeds": seeds,
        "result": plan.result,
        "deviations": list(plan.deviations),
        "price": {"dollars_per_hour": price, "for": plan.machine},
        "totals": totals(stages, price),
        "arms": side_by_side(arms, stages, price) if arms is not None else [],
        "environment": package_versions() | _device(stages),
        "stages": stages,
        "ladder": ladder,
        "comparisons": pooled(comparisons, records) if len(places) > 1 else comparisons,
        "pairs": differences(list(itertools.combinations(evaluated, 2)), records),
        **extras,
        "notes": list(dict.fromkeys(notes)),
    }


def with_pooled(ladder: list[dict[str, Any]], pooled_rows: list[dict[str, Any]]) -> None:
    """Add to each row of the ladder the interval over all seeds of its stage and band."""
    known = {(r["stage"], r["band"], r["decoding"]): r for r in pooled_rows}
    for row in ladder:
        found = known.get((row["stage"], row["band"], row["decoding"]))
        if found:
            row |= {f"pooled_{name}": found[name] for name in ("accuracy", "low", "high", "df")}


def _stage_entry(folder: Path, seed: int) -> dict[str, Any] | None:
    if not (folder / "metrics.json").is_file():
        return None
    manifest, metrics = (read_json(folder / f"{n}.json") for n in ("manifest", "metrics"))
    if manifest.get("status") != "finished":
        return None
    return {
        "stage": folder.name,
        "seed": seed,
        "wall_seconds": manifest["wall_seconds"],
        "startup_seconds": manifest.get("startup_seconds", 0.0),
        "peak_rss_mb": manifest["peak_rss_mb"],
        "tokens": metrics.get("tokens", 0),
        "trainable_parameters": metrics.get("trainable_parameters", 0),
        "joules": manifest.get("joules"),
        "metrics": metrics,
    }


def totals(stages: list[dict[str, Any]], dollars_per_hour: float) -> dict[str, Any]:
    """What one seed took, on average: minutes, tokens, dollars, joules, parameters.

    Joules are None where a stage's machine did not tell; trainable parameters are the
    most of any stage.
    """
    seeds = max(1, len({stage["seed"] for stage in stages}))
    seconds = sum(stage["wall_seconds"] for stage in stages) / seeds
    joules = [stage["joules"] for stage in stages]
    return {
        "minutes": seconds / 60,
        "tokens": sum(stage["tokens"] for stage in stages) / seeds,
        "dollars": seconds / 3600 * dollars_per_hour,
        "joules": None if None in joules or not joules else sum(joules) / seeds,
        "trainable_parameters": max((s["trainable_parameters"] for s in stages), default=0),
    }


def side_by_side(
    arms: Any, stages: list[dict[str, Any]], dollars_per_hour: float
) -> list[dict[str, Any]]:
    """Rows of `trlm_utils.evaluation.arms.table` with what the arm's own training took."""
    taken = {
        name: totals([s for s in stages if s["stage"] == name], dollars_per_hour)
        for name in {stage["stage"] for stage in stages}
    }
    steps = {stage["stage"]: stage["metrics"].get("steps") for stage in stages}
    rows = []
    for row in arms.to_dict("records"):
        kept = {k: (None if v != v else v) for k, v in row.items()}  # NaN is no JSON
        stage, _, step = row["stage"].partition("/step_")
        cost = {f"training_{name}": v for name, v in taken.get(stage, {}).items()}
        if step and steps.get(stage):  # a checkpoint took its share of the stage
            part = int(step) / steps[stage]
            cost |= {
                f"training_{n}": part * taken[stage][n] for n in ("minutes", "tokens", "dollars")
            }
        rows.append(kept | cost)
    return rows


def _device(stages: list[dict[str, Any]]) -> dict[str, str]:
    devices = {s["metrics"]["device"] for s in stages if "device" in s["metrics"]}
    return {"device": ", ".join(sorted(devices))} if devices else {}


def verdict(row: dict[str, Any]) -> str:
    """One sentence on a comparison, allowed to say that nothing was seen."""
    where = f"{row['from']} to {row['to']}, {row['band']}, {row['decoding']}"
    size = f"{100 * row['difference']:+.1f} points {interval(row)}"
    if row["low"] <= 0 <= row["high"]:
        return f"{where}: no difference detected ({size})"
    return f"{where}: {size}"


def plain_statements(content: dict[str, Any]) -> list[str]:
    """What a reader must not overlook: accuracies that are close to nothing."""
    if not content["ladder"]:
        return ["No stage was evaluated."]
    last = content["ladder"][-1]["stage"]
    lines = []
    for row in content["ladder"]:
        if row["stage"] == last and row["high"] < NEAR_ZERO:
            lines.append(
                f"After {last}, accuracy on {row['band']} ({row['decoding']}, seed "
                f"{row['seed']}) is near zero: {percent(row['accuracy'])} % "
                f"{interval(row)} on {row['n']} questions. "
                "This model does not solve these problems."
            )
    return lines


def time_line(content: dict[str, Any]) -> str:
    """Time of all stages, and the share that went into starting kernels and imports."""
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
    """Header and rows: a row per stage and seed, a column per band and decoding."""
    columns: dict[tuple[str, str], None] = {}
    cells: dict[tuple[str, int], dict[tuple[str, str], str]] = defaultdict(dict)
    for row in content["ladder"]:
        key = (row["band"], row["decoding"])
        columns[key] = None
        text = f"{percent(row['accuracy'])} {interval(row)}"
        if (row["truncated"] or 0) >= 0.005:  # None where nothing was written
            text += f" t{100 * row['truncated']:.0f}"
        cells[row["stage"], row["seed"]][key] = text
    head = ["stage", "seed", *(f"{band} {decoding}" for band, decoding in columns)]
    body = [
        [stage, str(seed), *(found.get(key, "") for key in columns)]
        for (stage, seed), found in cells.items()
    ]
    return head, body


def ladder_text(content: dict[str, Any]) -> str:
    """The ladder for a terminal: a block per band, a line per stage."""
    blocks: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for row in content["ladder"]:
        by_stage = blocks.setdefault(row["band"], {})
        by_stage.setdefault((row["stage"], row["seed"]), {})[row["decoding"]] = row
    lines = []
    for band, stages in blocks.items():
        lines.append(f"\n{band}: accuracy in % [95 % interval]")
        for (stage, seed), found in stages.items():
            parts = [
                f"{decoding} {percent(r['accuracy']):>5} {interval(r)}"
                for decoding, r in found.items()
            ]
            lines.append(f"  {stage:<18} seed {seed}  {'   '.join(parts)}")
    return "\n".join([*lines, "", *plain_statements(content), time_line(content)])


def write(plan: Any, base: Path, arms: Any = None) -> Path:
    """Write report.json, report.md and report.html; returns their folder."""
    content = collect(plan, base, arms)
    write_json(base / "report.json", content)
    write_text(base / "report.md", as_markdown(content))
    write_text(base / "report.html", as_html(content))
    return base


def _tables(content: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
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
            *(str(row[name]) for name in ("stage", "seed", "band", "decoding", "n")),
            percent(row["accuracy"]),
            percent(row["standard_error"]) if "standard_error" in row else "",
            f"{row['tokens']:.0f}",
            percent(row["truncated"]),
            percent(row["well_formed"]),
        ]
        for row in content["ladder"]
        if row["truncated"] is not None
    ]
    return [
        *arms_tables(content),
        ("Ladder: accuracy in % [95 % interval], t = % truncated", head, body),
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


def published_table(content: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """What the originals published beside what was measured here, each with its harness."""
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


def arms_tables(content: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """A table for each group of arms: what each reached, and what it took."""
    columns = list(dict.fromkeys((r["band"], r["decoding"]) for r in content["arms"]))
    tables = []
    for group in dict.fromkeys(row["group"] for row in content["arms"]):
        body = []
        found = [row for row in content["arms"] if row["group"] == group]
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
    low, high = row["difference_low"], row["difference_high"]
    size = points(row["difference"], low, high)
    return [value, f"{size}, none detected" if low <= 0 <= high else size]


def _cost_cells(row: dict[str, Any]) -> list[str]:
    return [
        "" if row["tokens"] is None else f"{row['tokens']:.0f}",
        f"{row.get('training_minutes', 0):.1f}",
        f"{row.get('training_tokens', 0):,.0f}",
        f"{row.get('training_trainable_parameters', 0):,}",
        f"{row.get('training_dollars', 0):.4f}",
    ]


def as_markdown(content: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# {content['recipe']} ({content['scale']})", "", content["about"], ""]
    lines += [f"Seeds: {', '.join(map(str, content['seeds']))}.", ""]
    lines += [f"**{line}**\n" for line in plain_statements(content)]
    lines += [time_line(content), ""]
    for title, head, body in _tables(content):
        lines += [
            f"## {title}",
            "",
            f"| {' | '.join(head)} |",
            "|" + " --- |" * len(head),
        ]
        lines += [f"| {' | '.join(row)} |" for row in body] + [""]
    for title, found in _lists(content).items():
        lines += [f"## {title}", "", *(f"- {line}" for line in found), ""]
    return "\n".join(lines).rstrip() + "\n"


def _ladder_svg(content: dict[str, Any]) -> str:
    """The ladder as an SVG element; empty without evaluations."""
    if not content["ladder"]:
        return ""
    import pandas as pd

    ladder = pd.DataFrame(content["ladder"])
    return plots.svg(plots.plot_ladder(ladder, joined=not content["arms"]))


PAGE_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; color: #111; background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .7rem; text-align: left;
  white-space: nowrap; font-variant-numeric: tabular-nums }
svg { max-width: 100%; height: auto } .plain { border-left: 4px solid #D55E00;
  padding-left: .8rem }
"""


def as_html(content: dict[str, Any]) -> str:
    """The report as one self-contained page."""
    title = f"{content['recipe']} ({content['scale']})"
    seeds = ", ".join(map(str, content["seeds"]))
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(content['about'])}</p>",
        f"<p>Seeds: {seeds}.</p>",
        _ladder_svg(content),
    ]
    for line in plain_statements(content):
        parts.append(f'<p class="plain">{html.escape(line)}</p>')
    parts.append(f"<p>{html.escape(time_line(content))}</p>")
    for name, head, body in _tables(content):
        parts.append(f"<h2>{html.escape(name)}</h2>{html_table(head, body)}")
    for name, lines in _lists(content).items():
        parts.append(f"<h2>{name}</h2>{html_list(lines)}")
    return html_page(title, parts)


def _lists(content: dict[str, Any]) -> dict[str, list[str]]:
    """Title -> lines of what the report says in sentences."""
    last = content["ladder"][-1]["stage"] if content["ladder"] else ""
    to_last = [row for row in content["pairs"] if row["to"] == last]
    lists = {
        "From stage to stage (paired, 95 % interval)": list(map(verdict, content["comparisons"])),
        "To the last stage (paired, 95 % interval)": list(map(verdict, to_last)),
        "Differences from the original": content["deviations"],
        "Notes": content["notes"],
    }
    return {name: lines for name, lines in lists.items() if lines}


def html_page(title: str, parts: Sequence[str]) -> str:
    """A self-contained page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{PAGE_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    rows = [f"<tr>{_cells('th', head)}</tr>", *(f"<tr>{_cells('td', row)}</tr>" for row in body)]
    return f"<table>{''.join(rows)}</table>"


def html_list(lines: Sequence[str]) -> str:
    """A list of texts; nothing without one."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
