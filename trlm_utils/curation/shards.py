"""Shards of a collected data set: Parquet files, each named by the hash of its content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trlm_utils.curation.sources import Row
from trlm_utils.files import file_digest

ORIGIN = ("_source_dataset", "_source_subset", "_source_split")


def rows_of(folder: Path, shards: Sequence[Row]) -> Iterator[Row]:
    """The rows of shards; columns that a row does not have are left out."""
    import pyarrow.parquet as parquet

    for shard in shards:
        for row in parquet.read_table(folder / shard["file"]).to_pylist():
            yield {k: v for k, v in row.items() if v is not None}


def as_table(rows: Sequence[Row]) -> Any:
    """Rows as an Arrow table."""
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=_arrow())


def write(folder: Path, tables: Sequence[Any]) -> Row:
    """Write tables as one Parquet file, with the hash of its bytes in the name."""
    import pyarrow
    import pyarrow.parquet as parquet

    whole = pyarrow.concat_tables(tables)
    partial = folder / "shard.partial"
    parquet.write_table(whole.combine_chunks(), partial, compression="zstd")
    digest = file_digest(partial)
    file = f"{digest[:16]}.parquet"
    os.replace(partial, folder / file)
    return {"file": file, "rows": len(whole), "sha256": digest}


def _arrow() -> Any:
    """The Arrow schema: all columns that a row of any kind may have."""
    import pyarrow

    text = pyarrow.string()
    turns = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    named = dict.fromkeys(("messages", "prompt", "chosen", "rejected"), turns)
    plain = ("id", "source", "question", "answer", "reference", "band", "difficulty", *ORIGIN)
    return pyarrow.schema(list((named | dict.fromkeys(plain, text)).items()))
