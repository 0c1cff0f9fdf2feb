"""Summaries of a collected mixture: a data set card and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils.curation.sources import Row


def as_markdown(metadata: Row) -> str:
    """A data set card in Markdown: requested rows, collected rows, and rejected rows.

    Args:
        metadata: what `mixture.collect` returns.
    """
    lines = [
        "---",
        f"pretty_name: {metadata['name']}",
        "tags: [trlm, curated]",
        "---",
        f"# {metadata['name']}",
        "",
        f"{metadata['rows']} rows, seed {metadata['seed']}, checks {metadata['checks']}. "
        "Every row names its origin in `_source_dataset`, `_source_subset`, `_source_split`; "
        "the licences are those of the sources.",
        "",
        "| source | requested | read | kept | left out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, count in metadata["counts"].items():
        reasons = _reasons(count)
        requested = "all" if count["requested"] is None else count["requested"]
        lines.append(
            f"| {source_in(label)} | {requested} | {count['read']} | {count['kept']} | {reasons} |"
        )
    return "\n".join(lines) + "\n"


def source_in(label: str) -> str:
    """The source's name in a label of `mixture.collect`, which is its number and its name."""
    return label.partition(" ")[2]


def _reasons(count: Row) -> str:
    both = [f"{n} {why}" for group in ("bad", "left_out") for why, n in count[group].items()]
    return ", ".join(both) or "none"


def overview(metadata: Sequence[Row]) -> Any:
    """Data frame of several collections: requested and actual rows, and reasons of rejections."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"data set": one["name"], "source": source_in(label)}
            | {k: count[k] for k in ("requested", "read", "kept")}
            | {"left out": _reasons(count)}
            for one in metadata
            for label, count in one["counts"].items()
        ]
    )
