"""A mixture of data sources: converted to one schema, filtered, and written as shards.

    sources:
      - {hub: HuggingFaceTB/smoltalk2, subset: SFT, split: train, rows: 30000}
      - {path: my/folder, share: 0.2, columns: {question: problem}}
    rows: 50000                       # for sources with a share
    system: You think before you answer.   # for conversations that have none
    contract: think                        # the format that thoughts are converted to
    checks: {max_tokens: 4096, near_duplicates: 0.8, contamination: 13}
    strata: {length: {at: 1024, long: 1, short: 4}}

`collect` writes Parquet shards, named by the hash of their bytes, and saves its state after
each shard, so an interrupted collection resumes in the middle of a source. Rejected rows are
counted by reason and written to ``rejected.jsonl``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import chat
from trlm_utils.curation import card, filters, schema, shards, sources, strata
from trlm_utils.curation.sources import BadRow, Row
from trlm_utils.curation.strata import quota
from trlm_utils.files import (
    CourseError,
    file_digest,
    free_name,
    read_json,
    shown,
    write_json,
    write_text,
)
from trlm_utils.stage import STARTED

BATCH, SHARD_ROWS = 500, 5000
BAD_SHARE = 0.05  # largest share of bad rows in a source; more stop the collection
KEYS = ("sources", "rows", "checks", "strata", "bad_share", "system", "contract")
FOR_ALL = ("system", "contract")  # options of a mixture that hold for all its sources
STATE, METADATA, REJECTED = "state.json", "metadata.json", "rejected.jsonl"


def placed(spec: Row, folder: str) -> Row:
    """The mixture with ``{DATA_DIR}`` in its paths replaced by a folder."""
    return spec | {"sources": [sources.placed(source, folder) for source in spec["sources"]]}


def validate(name: str, spec: Row, mirror: str = "", folder: str = "") -> None:
    """Check that a mixture can be collected, before anything is collected.

    Args:
        mirror: folder used instead of the Hub; its files and local files must exist.
        folder: replaces ``{DATA_DIR}`` in paths.

    Raises:
        CourseError: says which data set and what is wrong with it, in one line.
    """
    try:
        if not isinstance(spec, dict) or not isinstance(spec.get("sources"), list):
            raise CourseError("a mixture has a list of sources")
        if unknown := sorted(set(spec) - set(KEYS)):
            raise CourseError(f"unknown key {unknown[0]!r}; there are: {', '.join(KEYS)}")
        for source in spec["sources"]:
            if not isinstance(source, dict):
                raise CourseError(f"{source!r} is no source")
            sources.kind_of(source)
            if "share" in source and "rows" not in spec:
                raise CourseError(f"{sources.name_of(source)} has a share, the mixture no rows")
            contract = source.get("contract", spec.get("contract", "think"))
            if contract not in chat.CONTRACTS:
                raise CourseError(f"contract {contract!r} is none of {', '.join(chat.CONTRACTS)}")
            forms = {"answer_form": schema.ANSWER_FORMS, "thought_form": schema.THOUGHT_FORMS}
            for option, known in forms.items():
                if (form := source.get(option)) and form not in known:
                    raise CourseError(f"{option} {form!r} is none of {', '.join(known)}")
            if odd := sorted(set(source.get("columns") or {}) - set(schema.NAMES)):
                raise CourseError(f"columns names {odd[0]!r}; there are: {', '.join(schema.NAMES)}")
            sources.check(sources.placed(source, folder), mirror)
        checks = spec.get("checks") or {}
        filters.validate(checks)
        strata.validate(spec)
    except CourseError as error:
        raise CourseError(f"{name}: {error}") from None


def collect(
    name: str,
    spec: Row,
    folder: Path,
    *,
    seed: int = 0,
    tokenizer: Any = None,
    questions: Iterable[str] = (),
    mirror: str = "",
    shard_rows: int = SHARD_ROWS,
) -> Row:
    """Collect a mixture into a folder, unless this was finished before with the same inputs.

    Args:
        name: the data set's name; it determines the columns of its rows (`schema.kind_of`).
        spec: the mixture, see the module's description.
        questions: evaluation questions, for the contamination check.
        mirror: folder used instead of the Hub.
        shard_rows: rows per shard; so many are held in memory.

    Returns:
        The content of ``metadata.json``: requested and actual rows of each source, rejected
        rows by reason, seconds of each check, and the shards.

    Raises:
        CourseError: see `validate`; or a source has more bad rows than ``bad_share``.
    """
    validate(name, spec, mirror)
    shared = {key: spec[key] for key in FOR_ALL if key in spec}
    spec = spec | {"sources": [shared | source for source in spec["sources"]]}
    questions = list(questions)
    digest = _digest(name, spec, seed, questions, shard_rows, mirror)
    state = _open(folder, digest)
    if "finished" in state:
        return state
    checks = filters.build(spec.get("checks") or {}, tokenizer, questions)
    comparing = filters.build_comparing(spec.get("checks") or {})
    parts = strata.Strata(spec, state["strata"])
    _remember(comparing, folder, state)
    kind = schema.kind_of(name)
    wanted = [quota(source, spec) for source in spec["sources"]]
    bar = _bar(name, sum(n or 0 for n in wanted), sum(s["rows"] for s in state["shards"]))
    kept: list[Any] = []  # Arrow tables: many rows as Python objects would slow down all steps
    aside: list[bytes] = []

    def flush() -> None:
        if sum(map(len, kept)):
            state["shards"].append(shards.write(folder, kept))
        _set_aside(folder, aside, state)
        kept.clear()
        aside.clear()
        write_json(folder / STATE, state)

    def take(rows: Iterator[Row | BadRow], source: Row, count: Row, limit: int) -> bool:
        """Collect the next batch; False when there is none.

        It is a separate function so that its rows are freed before the next batch is read;
        then Python's garbage collector has few objects to search.
        """
        batch = itertools.islice(rows, BATCH)
        good, bad = _brought(batch, kind, source, count["read"])
        found = len(good) + len(bad)
        good, failed = _checked(good, checks, state["seconds"])
        good, full = _chosen(good, comparing, parts, limit - count["kept"], state["seconds"])
        count["read"] += found
        count["kept"] += len(good)
        for group, gone in (("bad", bad), ("left_out", [*failed, *full])):
            for reason, row in gone:
                count[group][reason] = count[group].get(reason, 0) + 1
                aside.append(_aside_line(reason, row))
        kept.append(shards.as_table(good))
        bar.update(len(good))
        return found > 0

    for place, source in enumerate(spec["sources"]):
        if place < state["source"]:
            continue
        label = f"{place} {sources.name_of(source)}"
        count = state["counts"].setdefault(label, _nothing(wanted[place]))
        rows = sources.read(source, seed + place, count["read"], mirror)
        limit = wanted[place] if wanted[place] is not None else sys.maxsize
        while count["kept"] < limit and take(rows, source, count, limit):
            if sum(map(len, kept)) >= shard_rows:
                flush()
        if sum(count["bad"].values()):
            flush()  # so that the user can inspect the bad rows
        _not_too_bad(label, count, spec.get("bad_share", BAD_SHARE), folder)
        state["source"] = place + 1
    flush()
    bar.close()
    state |= {"name": name, "seed": seed, "checks": filters.DEFAULTS | (spec.get("checks") or {})}
    state |= {"rows": sum(shard["rows"] for shard in state["shards"]), "finished": True}
    write_json(folder / METADATA, state)
    write_text(folder / "README.md", card.as_markdown(state))
    (folder / STATE).unlink()
    return state


def read(folder: Path, seed: int | None = None) -> list[Row]:
    """All rows of a collected mixture; columns that a row does not have are left out.

    Args:
        seed: seed of a shuffle that mixes the sources; by default one source after another.

    Raises:
        CourseError: when the collection is not finished, or a shard is missing or damaged.
    """
    found = read_json(folder / METADATA)["shards"]
    for shard in found:
        path = folder / shard["file"]
        if not path.is_file() or file_digest(path) != shard["sha256"]:
            raise CourseError(f"{shown(path)} is missing or damaged: collect {folder.name} again")
    rows = list(shards.rows_of(folder, found))
    if seed is not None:
        random.Random(f"mixture/{seed}").shuffle(rows)
    return rows


def _brought(
    batch: Iterable[Row | BadRow], kind: str, source: Row, first: int
) -> tuple[list[Row], list[tuple[str, Any]]]:
    """Rows converted to the schema, and the bad rows, each with its reason."""
    good, bad = [], []
    is_world = "nanoworld" in source
    name, columns = sources.name_of(source), source.get("columns") or {}
    for number, row in enumerate(batch, first):
        if isinstance(row, BadRow):
            bad.append((row.reason, row.content))
            continue
        try:
            content = schema.bring(row, kind, source)
        except schema.Unfit as error:
            bad.append((str(error), row))
            continue
        if "answer" not in content and "answer" in columns:
            content["answer"] = schema.gold(row, source)
        if "difficulty" in columns:
            content["difficulty"] = str(row.get(columns["difficulty"]))
        content["id"] = row["id"] if is_world else f"{name}/{number}"
        content["source"] = row["source"] if is_world else name
        for key in shards.ORIGIN:
            content[key] = row[key]
        good.append(content)
    return good, bad


def _checked(
    rows: list[Row], checks: dict[str, filters.Check], seconds: dict[str, float]
) -> tuple[list[Row], list[tuple[str, Row]]]:
    """Rows that pass all checks, and the other rows, each with its reason."""
    left_out: list[tuple[str, Row]] = []
    for name, check in checks.items():
        began = time.perf_counter()
        reasons = check(rows)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        left_out += [(why, row) for why, row in zip(reasons, rows, strict=True) if why]
        rows = [row for why, row in zip(reasons, rows, strict=True) if not why]
    return rows, left_out


def _chosen(
    rows: Sequence[Row],
    comparing: dict[str, filters.Duplicates | filters.NearDuplicates],
    parts: strata.Strata,
    most: int,
    seconds: dict[str, float],
) -> tuple[list[Row], list[tuple[str, Row]]]:
    """Rows that are new and within the quotas, and the other rows, each with its reason.

    The checks for duplicates remember only kept rows. So a row that a full source or stratum
    rejects may still come from a later source. And a resumed collection, which knows only the
    kept rows, gives the same result as an uninterrupted one.
    """
    kept: list[Row] = []
    left_out: list[tuple[str, Row]] = []
    for row in rows:
        reason = parts.full(row) or ("source: enough" if len(kept) == most else None)
        keys = {}
        for name, check in comparing.items() if reason is None else ():
            began = time.perf_counter()
            keys[name] = check.key(row)
            seen = check.known(keys[name])
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
            if seen:
                reason = check.reason
                break
        if reason is not None:
            left_out.append((reason, row))
            continue
        for name, key in keys.items():
            comparing[name].keep(key)
        parts.take(row)
        kept.append(row)
    return kept, left_out


def _nothing(requested: int | None) -> Row:
    return {"requested": requested, "read": 0, "kept": 0, "bad": {}, "left_out": {}}


def _digest(
    name: str, spec: Row, seed: int, questions: Sequence[str], shard_rows: int, mirror: str
) -> str:
    """Hash of all that a collection depends on, including the contents of local files."""
    asked = hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()
    files = [
        file_digest(path) for source in spec["sources"] for path in sources.files_of(source, mirror)
    ]
    whole = json.dumps([name, spec, seed, asked, shard_rows, files], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _open(folder: Path, digest: str) -> Row:
    """State of an earlier collection with the same inputs; else a new state, in an empty folder.

    Files of a collection with other inputs are moved to another folder, not deleted.
    """
    for name in (METADATA, STATE):
        if (folder / name).is_file():
            state = read_json(folder / name)
            if state.get("digest") == digest:
                return state
    if folder.is_dir() and any(folder.iterdir()):
        aside = free_name(folder.parent / ".previous" / folder.name)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
        print(f"{folder.name}: its inputs changed; what was collected is kept in {shown(aside)}")
    folder.mkdir(parents=True, exist_ok=True)
    fresh: Row = {"digest": digest, "source": 0, "counts": {}, "strata": {}, "shards": []}
    return fresh | {"seconds": {}, "rejected_bytes": 0}


def _remember(
    comparing: dict[str, filters.Duplicates | filters.NearDuplicates], folder: Path, state: Row
) -> None:
    """Let the checks for duplicates remember the rows of earlier shards."""
    for row in shards.rows_of(folder, state["shards"]) if comparing else ():
        for check in comparing.values():
            check.keep(check.key(row))
    aside = folder / REJECTED
    if aside.is_file():  # lines after the last shard belong to rows that will be read again
        os.truncate(aside, state["rejected_bytes"])


def _aside_line(reason: str, row: Any) -> bytes:
    import orjson

    return orjson.dumps(
        {"reason": reason, "row": row}, default=str, option=orjson.OPT_APPEND_NEWLINE
    )


def _set_aside(folder: Path, lines: Sequence[bytes], state: Row) -> None:
    with (folder / REJECTED).open("ab") as file:
        file.writelines(lines)
        state["rejected_bytes"] = file.tell()


def _not_too_bad(label: str, count: Row, allowed: float, folder: Path) -> None:
    """Raise CourseError when more than the allowed share of the rows read is bad."""
    bad = sum(count["bad"].values())
    if bad > allowed * count["read"]:
        worst = max(count["bad"], key=count["bad"].__getitem__)
        raise CourseError(
            f"{card.source_in(label)}: {bad} of {count['read']} rows are bad, most often: "
            f"{worst}; allowed are {allowed:.0%} (bad_share); see {shown(folder / REJECTED)}"
        )


def _bar(name: str, total: int, done: int) -> Any:
    """A progress bar; disabled when the runner executes the notebook."""
    from tqdm.auto import tqdm

    hidden = True if os.environ.get(STARTED) else None
    return tqdm(total=total or None, initial=done, desc=name, unit=" rows", disable=hidden)
