"""A mixture: several sources, brought to one schema, checked, and written as shards.

    sources:
      - {hub: HuggingFaceTB/smoltalk2, subset: SFT, split: train, rows: 30000}
      - {path: my/folder, share: 0.2, columns: {question: problem}}
    rows: 50000                       # for sources with a share
    system: You think before you answer.   # for conversations that have none
    contract: think                        # the form that thoughts are brought to
    checks: {max_tokens: 4096, near_duplicates: 0.8, contamination: 13}
    strata: {length: {at: 1024, long: 1, short: 4}}

`collect` writes Parquet shards, named by the hash of their bytes, and after each one how
far it got; started again it goes on in the middle of a source. What is left out is
counted by reason and kept aside in ``rejected.jsonl``.
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
from trlm_utils.curation import filters, schema, sources
from trlm_utils.curation.sources import BadRow, Row
from trlm_utils.files import CourseError, read_json, shown, write_json, write_text
from trlm_utils.stage import STARTED

BATCH, SHARD_ROWS = 500, 5000
BAD_SHARE = 0.05  # of a source's rows; more bad ones stop the collection
KEYS = ("sources", "rows", "checks", "strata", "bad_share", "system", "contract")
FOR_ALL = ("system", "contract")  # what a mixture may say for all its sources
ORIGIN = ("_source_dataset", "_source_subset", "_source_split")
STATE, METADATA, REJECTED = "state.json", "metadata.json", "rejected.jsonl"


def placed(spec: Row, folder: str) -> Row:
    """The mixture with ``{DATA_DIR}`` in its paths replaced by a folder."""
    return spec | {"sources": [sources.placed(source, folder) for source in spec["sources"]]}


def validate(name: str, spec: Row, mirror: str = "", folder: str = "") -> None:
    """Refuse a mixture that cannot be collected, before anything is collected.

    Args:
        mirror: a folder that stands in for the Hub; its files and local ones must exist.
        folder: what ``{DATA_DIR}`` in a path stands for.

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
            form = source.get("answer_form", "plain")
            if form not in schema.ANSWER_FORMS:
                raise CourseError(
                    f"answer_form {form!r} is none of {', '.join(schema.ANSWER_FORMS)}"
                )
            if odd := sorted(set(source.get("columns") or {}) - set(schema.NAMES)):
                raise CourseError(f"columns names {odd[0]!r}; there are: {', '.join(schema.NAMES)}")
            sources.check(sources.placed(source, folder), mirror)
        checks = spec.get("checks") or {}
        filters.validate(checks)
        if "length" in (spec.get("strata") or {}) and "max_tokens" not in checks:
            raise CourseError("stratum length needs the check max_tokens, which counts the tokens")
        for stratum, parts in (spec.get("strata") or {}).items():
            _ratios(stratum, parts)
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
    """Collect a mixture into a folder; a finished one with the same inputs is left alone.

    Args:
        name: the data set's name, which says what its rows look like (`schema.kind_of`).
        spec: see the module's description.
        questions: what is asked in evaluation, for the check of contamination.
        mirror: a folder that stands in for the Hub.
        shard_rows: rows of a shard; as many are held in memory.

    Returns:
        The metadata that also stands in ``metadata.json``: requested and actual rows of
        each source, what was left out and why, seconds of each check, and the shards.

    Raises:
        CourseError: see `validate`; or a source has more bad rows than ``bad_share``.
    """
    validate(name, spec, mirror)
    shared = {key: spec[key] for key in FOR_ALL if key in spec}
    spec = spec | {"sources": [shared | source for source in spec["sources"]]}
    questions = list(questions)
    digest = _digest(name, spec, seed, questions, shard_rows)
    state = _open(folder, digest)
    if "finished" in state:
        return state
    checks = filters.build(spec.get("checks") or {}, tokenizer, questions)
    strata = Strata(spec, state["strata"])
    _remember(checks, folder, state)
    kind = schema.kind_of(name)
    wanted = [_quota(source, spec) for source in spec["sources"]]
    bar = _bar(name, sum(n or 0 for n in wanted), sum(s["rows"] for s in state["shards"]))
    kept: list[Any] = []  # Arrow tables: rows as Python objects would slow down everything
    aside: list[bytes] = []

    def flush() -> None:
        if sum(map(len, kept)):
            state["shards"].append(_write_shard(folder, kept))
        _set_aside(folder, aside, state)
        kept.clear()
        aside.clear()
        write_json(folder / STATE, state)

    def take(rows: Iterator[Row | BadRow], source: Row, count: Row, limit: int) -> bool:
        """Collect the next batch; False when there is none.

        A function of its own: its rows are gone before the next are read, so Python's search
        for cycles has few to go through.
        """
        batch = itertools.islice(rows, BATCH)
        good, bad = _brought(batch, kind, source, count["read"])
        found = len(good) + len(bad)
        good, failed = _checked(good, checks, state["seconds"])
        good, full = strata.choose(good, limit - count["kept"])
        count["read"] += found
        count["kept"] += len(good)
        for group, gone in (("bad", bad), ("left_out", [*failed, *full])):
            for reason, row in gone:
                count[group][reason] = count[group].get(reason, 0) + 1
                aside.append(_aside_line(reason, row))
        kept.append(_table(good))
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
            flush()  # so that the bad rows can be looked at
        _not_too_bad(label, count, spec.get("bad_share", BAD_SHARE), folder)
        state["source"] = place + 1
    flush()
    bar.close()
    state |= {"name": name, "seed": seed, "checks": filters.DEFAULTS | (spec.get("checks") or {})}
    state |= {"rows": sum(shard["rows"] for shard in state["shards"]), "finished": True}
    write_json(folder / METADATA, state)
    write_text(folder / "README.md", card(state))
    (folder / STATE).unlink()
    return state


def read(folder: Path, seed: int | None = None) -> list[Row]:
    """All rows of a collected mixture; columns that a row does not have are left out.

    Args:
        seed: of the order, in which sources are mixed; by default one source after another.

    Raises:
        CourseError: when the collection is not finished, or a shard is missing or damaged.
    """
    shards = read_json(folder / METADATA)["shards"]
    for shard in shards:
        path = folder / shard["file"]
        if not path.is_file() or _file_digest(path) != shard["sha256"]:
            raise CourseError(f"{shown(path)} is missing or damaged: collect {folder.name} again")
    rows = list(_rows_of(folder, shards))
    if seed is not None:
        random.Random(f"mixture/{seed}").shuffle(rows)
    return rows


def card(metadata: Row) -> str:
    """A data set card: what was asked for, what came, and what was left out."""
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
            f"| {_source_in(label)} | {requested} | {count['read']} | {count['kept']} | {reasons} |"
        )
    return "\n".join(lines) + "\n"


def _source_in(label: str) -> str:
    """The name in a label of `collect`, which is a source's place and its name."""
    return label.partition(" ")[2]


def _reasons(count: Row) -> str:
    both = [f"{n} {why}" for group in ("bad", "left_out") for why, n in count[group].items()]
    return ", ".join(both) or "none"


def overview(metadata: Sequence[Row]) -> Any:
    """Data frame of several collections: requested and actual rows, and why rows went."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"data set": one["name"], "source": _source_in(label)}
            | {k: count[k] for k in ("requested", "read", "kept")}
            | {"left out": _reasons(count)}
            for one in metadata
            for label, count in one["counts"].items()
        ]
    )


def push(folder: Path, repository: str) -> str:
    """Upload a finished collection to the Hub, privately; returns its address.

    Needs a token in the environment (HF_TOKEN), which is never printed or stored.

    Raises:
        CourseError: when the collection is not finished.
    """
    from huggingface_hub import HfApi

    if not (folder / METADATA).is_file():
        raise CourseError(f"{shown(folder)} is not a finished collection")
    api = HfApi()
    made = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
    api.upload_folder(
        folder_path=folder,
        repo_id=made.repo_id,
        repo_type="dataset",
        ignore_patterns=[REJECTED],
    )
    return str(made)


# --- strata -----------------------------------------------------------------------


class Strata:
    """Shares of kinds of rows, such as one long for four short ones.

    ``length: {at: 1024, long: 1, short: 4}`` tells rows of at most ``at`` tokens from
    longer ones; ``difficulty: {easy: [1, 2], hard: [4, 5], ratio: [1, 3]}`` tells them by
    the value of their difficulty column. A row of a kind that is full is left out.
    """

    def __init__(self, spec: Row, taken: dict[str, int]):
        self.spec, self.taken = spec.get("strata") or {}, taken
        self.room = {
            f"{stratum} {part}": round(self._total(stratum, spec) * ratio)
            for stratum, parts in self.spec.items()
            for part, ratio in _ratios(stratum, parts).items()
        }

    @staticmethod
    def _total(stratum: str, spec: Row) -> int:
        """Rows wanted of the sources that a stratum divides."""
        divided = [
            source
            for source in spec["sources"]
            if stratum == "length" or "difficulty" in (source.get("columns") or {})
        ]
        return sum(_quota(source, spec) or 0 for source in divided)

    def choose(self, rows: Sequence[Row], most: int) -> tuple[list[Row], list[tuple[str, Row]]]:
        """The rows there is room for, and those left out with the reason."""
        if not self.spec and len(rows) <= most:
            return list(rows), []
        kept, left_out = [], []
        for row in rows:
            parts = [part for stratum in self.spec if (part := self._part(stratum, row))]
            full = [part for part in parts if self.taken.get(part, 0) >= self.room.get(part, 0)]
            if len(kept) == most or full:
                left_out.append((f"{full[0]}: enough" if full else "source: enough", row))
                continue
            for part in parts:
                self.taken[part] = self.taken.get(part, 0) + 1
            kept.append(row)
        return kept, left_out

    def _part(self, stratum: str, row: Row) -> str | None:
        """The part a row belongs to; None where its source has no difficulty."""
        parts = self.spec[stratum]
        if stratum == "length":
            return f"length {'short' if row.get('_tokens', 0) <= parts['at'] else 'long'}"
        if "difficulty" not in row:
            return None
        value = row["difficulty"]
        for part in ("easy", "hard"):
            if value in map(str, parts[part]):
                return f"difficulty {part}"
        return "difficulty unknown"


def _ratios(stratum: str, parts: Any) -> dict[str, float]:
    """Part -> its share of the rows.

    Raises:
        CourseError: when it is not of the form that `Strata` describes.
    """
    try:
        if stratum == "length":
            weights = {part: float(parts[part]) for part in ("long", "short")}
            assert int(parts["at"]) > 0
        elif stratum == "difficulty":
            easy, hard = parts["ratio"]
            weights = {"easy": float(easy), "hard": float(hard)}
            assert list(parts["easy"]) and list(parts["hard"])
        else:
            raise CourseError(f"unknown stratum {stratum!r}; there are: length, difficulty")
        assert min(weights.values()) > 0
    except (KeyError, TypeError, ValueError, AssertionError):
        form = {"length": "{at: 1024, long: 1, short: 4}"}
        usual = form.get(stratum, "{easy: [1, 2], hard: [4, 5], ratio: [1, 3]}")
        raise CourseError(f"stratum {stratum} is not of the form {usual}") from None
    return {part: weight / sum(weights.values()) for part, weight in weights.items()}


# --- pieces -----------------------------------------------------------------------


def _brought(
    batch: Iterable[Row | BadRow], kind: str, source: Row, first: int
) -> tuple[list[Row], list[tuple[str, Any]]]:
    """Rows in the schema, and the bad ones with the reason."""
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
        for key in ORIGIN:
            content[key] = row[key]
        good.append(content)
    return good, bad


def _checked(
    rows: list[Row], checks: dict[str, filters.Check], seconds: dict[str, float]
) -> tuple[list[Row], list[tuple[str, Row]]]:
    """Rows that pass all checks, and the others with the reason."""
    left_out: list[tuple[str, Row]] = []
    for name, check in checks.items():
        began = time.perf_counter()
        reasons = check(rows)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        left_out += [(why, row) for why, row in zip(reasons, rows, strict=True) if why]
        rows = [row for why, row in zip(reasons, rows, strict=True) if not why]
    return rows, left_out


def _quota(source: Row, spec: Row) -> int | None:
    """Rows wanted of a source; None for all of them."""
    limits = [source["rows"]] if "rows" in source else []
    if "share" in source:
        limits.append(round(source["share"] * spec["rows"]))
    return min(limits) if limits else None


def _nothing(requested: int | None) -> Row:
    return {"requested": requested, "read": 0, "kept": 0, "bad": {}, "left_out": {}}


def _digest(name: str, spec: Row, seed: int, questions: Sequence[str], shard_rows: int) -> str:
    asked = hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()
    whole = json.dumps([name, spec, seed, asked, shard_rows], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _open(folder: Path, digest: str) -> Row:
    """How far an earlier collection with the same inputs got; else an emptied folder."""
    for name in (METADATA, STATE):
        if (folder / name).is_file():
            state = read_json(folder / name)
            if state.get("digest") == digest:
                return state
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    fresh: Row = {"digest": digest, "source": 0, "counts": {}, "strata": {}, "shards": []}
    return fresh | {"seconds": {}, "rejected_bytes": 0}


def _remember(checks: dict[str, filters.Check], folder: Path, state: Row) -> None:
    """Show rows of earlier shards to the checks that compare with them."""
    comparing = [checks[n] for n in ("duplicates", "near_duplicates") if n in checks]
    for row in _rows_of(folder, state["shards"]) if comparing else ():
        for check in comparing:
            check([row])
    aside = folder / REJECTED
    if aside.is_file():  # lines behind the last shard belong to rows that are read again
        os.truncate(aside, state["rejected_bytes"])


def _rows_of(folder: Path, shards: Sequence[Row]) -> Iterator[Row]:
    """Rows of shards; columns that a row does not have are left out."""
    import pyarrow.parquet as parquet

    for shard in shards:
        for row in parquet.read_table(folder / shard["file"]).to_pylist():
            yield {k: v for k, v in row.items() if v is not None}


def _table(rows: Sequence[Row]) -> Any:
    """Rows as an Arrow table."""
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=_arrow())


def _write_shard(folder: Path, tables: Sequence[Any]) -> Row:
    """Write tables as Parquet under a name that holds the hash of its bytes."""
    import pyarrow
    import pyarrow.parquet as parquet

    whole = pyarrow.concat_tables(tables)
    partial = folder / "shard.partial"
    parquet.write_table(whole.combine_chunks(), partial, compression="zstd")
    digest = _file_digest(partial)
    file = f"{digest[:16]}.parquet"
    os.replace(partial, folder / file)
    return {"file": file, "rows": len(whole), "sha256": digest}


def _arrow() -> Any:
    """All columns that a row of any kind may have."""
    import pyarrow

    text = pyarrow.string()
    turns = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    named = dict.fromkeys(("messages", "prompt", "chosen", "rejected"), turns)
    plain = ("id", "source", "question", "answer", "reference", "band", "difficulty", *ORIGIN)
    return pyarrow.schema(list((named | dict.fromkeys(plain, text)).items()))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Raises CourseError when more than the allowed share of the rows read is bad."""
    bad = sum(count["bad"].values())
    if bad > allowed * count["read"]:
        worst = max(count["bad"], key=count["bad"].__getitem__)
        raise CourseError(
            f"{_source_in(label)}: {bad} of {count['read']} rows are bad, most often: "
            f"{worst}; allowed are {allowed:.0%} (bad_share); see {shown(folder / REJECTED)}"
        )


def _bar(name: str, total: int, done: int) -> Any:
    """A progress bar; none where a runner has no one to show it to."""
    from tqdm.auto import tqdm

    hidden = True if os.environ.get(STARTED) else None
    return tqdm(total=total or None, initial=done, desc=name, unit=" rows", disable=hidden)
