"""Sources of a mixture: every format, a random order, bad lines, resuming."""

import json

import pytest

from trlm_utils.curation import sources
from trlm_utils.curation.sources import BadRow
from trlm_utils.files import CourseError


def lines(path, n, start=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"question": f"q{start + i}"}) + "\n" for i in range(n)))
    return path


def asked(rows):
    return [row["question"] for row in rows]


def test_jsonl_comes_shuffled_complete_and_with_its_origin(tmp_path):
    source = {"path": str(lines(tmp_path / "a.jsonl", 50)), "split": "train"}
    rows = list(sources.read(source, seed=0))
    assert sorted(asked(rows)) == sorted(f"q{i}" for i in range(50))
    assert asked(rows) != [f"q{i}" for i in range(50)]
    assert rows[0]["_source_dataset"] == source["path"]
    assert rows[0]["_source_split"] == "train"


def test_another_seed_is_another_order_and_the_same_seed_goes_on_in_the_middle(tmp_path):
    source = {"path": str(lines(tmp_path / "a.jsonl", 50))}
    whole = asked(sources.read(source, seed=1))
    assert asked(sources.read(source, seed=1, start=20)) == whole[20:]
    assert asked(sources.read(source, seed=2)) != whole


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_other_formats(tmp_path, form):
    import pandas as pd

    frame = pd.DataFrame({"question": [f"q{i}" for i in range(9)], "level": range(9)})
    path = tmp_path / f"a.{form}"
    {
        "json": lambda: frame.to_json(path, orient="records"),
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
    }[form]()
    rows = list(sources.read({"path": str(path)}, seed=0))
    assert sorted((row["question"], row["level"]) for row in rows) == [
        (f"q{i}", i) for i in range(9)
    ]


def test_a_folder_of_single_objects_is_one_source(tmp_path):
    for i in range(3):
        place = tmp_path / "train" / f"subject{i}" / "1.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps({"problem": f"p{i}"}))
    lines(tmp_path / "more.jsonl", 2)
    rows = list(sources.read({"path": str(tmp_path)}, seed=0))
    assert sorted(row.get("problem") or row["question"] for row in rows) == [
        "p0",
        "p1",
        "p2",
        "q0",
        "q1",
    ]


def test_lines_that_are_cut_off_or_no_objects_are_bad_rows_not_errors(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"question": "q0"}\n\n[1]\n{"question": "cut\n{"question": "\xff"}\n{"a": 1}'
    )
    rows = list(sources.read({"path": str(path)}, seed=0))
    reasons = sorted(row.reason for row in rows if isinstance(row, BadRow))
    assert reasons == ["not a JSON object", "not complete JSON", "not complete JSON"]
    assert len(rows) == 5  # the empty line is none


def test_a_damaged_table_is_one_bad_row(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (row,) = sources.read({"path": str(tmp_path / "a.parquet")}, seed=0)
    assert row.reason == "not a readable parquet file"


def test_columns_are_dropped_and_renamed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": 2, "c": 3}\n')
    source = {"path": str(path), "drop_columns": ["a"], "rename_columns": {"b": "question"}}
    (row,) = sources.read(source, seed=0)
    assert {k: v for k, v in row.items() if k[0] != "_"} == {"question": 2, "c": 3}


def test_the_mirror_stands_in_for_the_hub(tmp_path):
    lines(tmp_path / "me__set" / "sub" / "train.jsonl", 3)
    source = {"hub": "me/set", "subset": "sub", "split": "train"}
    rows = list(sources.read(source, 0, mirror=str(tmp_path)))
    assert len(rows) == 3 and rows[0]["_source_dataset"] == "me/set"


def test_the_hub_is_streamed_shuffled_and_skipped(monkeypatch):
    import datasets

    seen = {}

    def load(name, subset, split, streaming):
        seen.update(name=name, subset=subset, split=split, streaming=streaming)
        whole = datasets.Dataset.from_list([{"question": f"q{i}"} for i in range(30)])
        return whole.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = {"hub": "me/set", "split": "train"}
    whole = asked(sources.read(source, 0))
    assert seen == {"name": "me/set", "subset": None, "split": "train", "streaming": True}
    assert asked(sources.read(source, 0, start=10)) == whole[10:]
    assert whole != sorted(whole)


def test_world_rows_have_options(tmp_path):
    source = {
        "nanoworld": "thinking",
        "rows": 5,
        "options": {"teachers": {"careful": 1.0}, "lengths": [1, 1, 1, 1]},
    }
    rows = list(sources.read(source, seed=0))
    assert len(rows) == 5 and rows[0]["source"] == "nanoworld/careful"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "one of hub, path, nanoworld"),
        ({"hub": "a", "path": "b"}, "one of hub, path, nanoworld"),
        ({"path": "nowhere.jsonl"}, "no file"),
        ({"path": "README.md"}, "README.md is none of jsonl"),
        ({"path": "x", "row": 3}, "unknown option 'row'"),
        ({"path": "x", "rows": "many"}, "rows is 'many', not a int"),
        ({"nanoworld": "thought"}, "nanoworld has no 'thought'"),
        ({"nanoworld": "thinking", "options": {"teacher": 1}}, "teacher"),
    ],
)
def test_bad_sources_are_refused_in_one_line(source, said):
    with pytest.raises(CourseError, match=said) as caught:
        list(sources.read(source, 0))
    assert "\n" not in str(caught.value)
