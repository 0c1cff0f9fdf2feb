"""Mixtures: shards, counts, strata, what is left out, and going on after a stop."""

import json
import random

import pytest

from trlm_utils.curation import mixture, sources
from trlm_utils.files import CourseError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def plain(tmp_path):
    """A source of 40 questions, of which 4 are doubles."""
    rows = [
        {"question": f"What is {i % 36} and 1?", "response": f"It is {i % 36 + 1}."}
        for i in range(40)
    ]
    return {"path": write(tmp_path / "plain.jsonl", rows)}


def questions(rows):
    return [row["messages"][0]["content"] for row in rows]


def test_rows_are_counted_kept_and_traceable(plain, tmp_path):
    folder = tmp_path / "out"
    found = mixture.collect("sft_stage1", {"sources": [plain]}, folder)
    (count,) = found["counts"].values()
    assert (count["read"], count["kept"], count["left_out"]) == (40, 36, {"duplicate": 4})
    rows = mixture.read(folder)
    assert len(rows) == found["rows"] == 36
    assert {row["_source_dataset"] for row in rows} == {plain["path"]}
    assert len({row["id"] for row in rows}) == 36


def test_caps_and_shares(plain, tmp_path):
    more = [{"question": f"Who is number {i}?", "response": "Nobody."} for i in range(40)]
    other = {"path": write(tmp_path / "more.jsonl", more), "share": 0.25}
    spec = {"sources": [plain | {"rows": 30}, other], "rows": 40}
    found = mixture.collect("sft_stage1", spec, tmp_path / "out")
    assert [count["kept"] for count in found["counts"].values()] == [30, 10]
    assert [count["requested"] for count in found["counts"].values()] == [30, 10]


def test_too_few_rows_are_told_by_the_counts(plain, tmp_path):
    found = mixture.collect("sft_stage1", {"sources": [plain | {"rows": 100}]}, tmp_path / "out")
    (count,) = found["counts"].values()
    assert (count["requested"], count["kept"]) == (100, 36)
    assert "| 100 | 40 | 36 | 4 duplicate |" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_left_out_is_kept_aside_with_its_reason(plain, tmp_path):
    bad = [{"question": "no reply here"}] + [
        {"question": f"q{i}", "response": "r"} for i in range(60)
    ]
    source = {"path": write(tmp_path / "bad.jsonl", bad)}
    mixture.collect("sft_stage1", {"sources": [source]}, tmp_path / "out")
    (line,) = (tmp_path / "out" / mixture.REJECTED).read_text().splitlines()
    assert json.loads(line)["reason"] == "no reply"
    assert json.loads(line)["row"]["question"] == "no reply here"


def test_too_many_bad_rows_stop_it_and_say_why(tmp_path):
    rows = [{"question": "q", "response": "r"}, {"question": "q"}]
    source = {"path": write(tmp_path / "bad.jsonl", rows)}
    with pytest.raises(
        CourseError, match="1 of 2 rows are bad, most often: no reply; allowed are 5%"
    ):
        mixture.collect("sft_stage1", {"sources": [source]}, tmp_path / "out")
    assert "no reply" in (tmp_path / "out" / mixture.REJECTED).read_text()
    mixture.collect("sft_stage1", {"sources": [source], "bad_share": 0.5}, tmp_path / "out")


def test_shards_are_named_by_their_bytes_and_damage_is_noticed(plain, tmp_path):
    folder = tmp_path / "out"
    found = mixture.collect("sft_stage1", {"sources": [plain]}, folder, shard_rows=10)
    again = mixture.collect("sft_stage1", {"sources": [plain]}, tmp_path / "two", shard_rows=10)
    assert [s["file"] for s in found["shards"]] == [s["file"] for s in again["shards"]]
    (folder / found["shards"][0]["file"]).write_bytes(b"")
    with pytest.raises(CourseError, match="missing or damaged"):
        mixture.read(folder)


def test_a_stop_in_the_middle_of_a_source_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(mixture, "BATCH", 7)
    rows = [{"question": f"q{i % 50}", "response": f"r{i % 50}"} for i in range(60)]
    rows[3] = {"question": "unfit"}
    source = {"path": write(tmp_path / "a.jsonl", rows)}
    spec = {"sources": [source, source | {"system": "S"}], "bad_share": 0.5}
    whole = mixture.collect("sft_stage1", spec, tmp_path / "whole", shard_rows=10)

    plain_read = sources.read
    left = iter(range(45))

    def stops(*args):
        for row in plain_read(*args):
            if next(left, None) is None:
                raise KeyboardInterrupt
            yield row

    folder = tmp_path / "parts"
    with monkeypatch.context() as patched:
        patched.setattr(mixture.sources, "read", stops)
        for _ in range(2):  # stopped twice
            with pytest.raises(KeyboardInterrupt):
                mixture.collect("sft_stage1", spec, folder, shard_rows=10)
    assert (
        0
        < json.loads((folder / mixture.STATE).read_text())["counts"]["0 " + source["path"]]["read"]
        < 60
    )
    parts = mixture.collect("sft_stage1", spec, folder, shard_rows=10)
    assert parts["counts"] == whole["counts"]
    assert mixture.read(folder) == mixture.read(tmp_path / "whole")
    same = [(p / mixture.REJECTED).read_text() for p in (folder, tmp_path / "whole")]
    assert same[0] == same[1]


@pytest.mark.parametrize("stop", random.Random("stops").sample(range(1, 130), 12))
def test_interrupted_at_any_row_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch, stop):
    """Two sources that share rows, a quota and strata: what is kept depends on all before."""
    monkeypatch.setattr(mixture, "BATCH", 7)
    rows = [{"problem": f"q{i % 40}", "answer": "4", "level": i % 5 + 1} for i in range(90)]
    source = {
        "path": write(tmp_path / "a.jsonl", rows),
        "rows": 24,
        "columns": {"difficulty": "level"},
    }
    spec = {
        "sources": [source, source | {"rows": 30}],
        "strata": {"difficulty": {"easy": [1, 2], "hard": [3, 4, 5], "ratio": [1, 2]}},
    }
    whole = mixture.collect("grpo_prompts", spec, tmp_path / "whole", shard_rows=5)
    read, left = sources.read, iter(range(stop))

    def stops(*args):
        for row in read(*args):
            if next(left, None) is None:
                raise KeyboardInterrupt
            yield row

    with monkeypatch.context() as patched:
        patched.setattr(mixture.sources, "read", stops)
        with pytest.raises(KeyboardInterrupt):
            mixture.collect("grpo_prompts", spec, tmp_path / "parts", shard_rows=5)
    parts = mixture.collect("grpo_prompts", spec, tmp_path / "parts", shard_rows=5)
    assert parts["counts"] == whole["counts"] and parts["strata"] == whole["strata"]
    assert mixture.read(tmp_path / "parts") == mixture.read(tmp_path / "whole")


def test_rows_that_a_full_source_leaves_out_may_come_from_the_next(plain, tmp_path):
    """Each of the 36 different questions is in both sources; the first wants 6 of them."""
    spec = {"sources": [plain | {"rows": 6}, plain]}
    found = mixture.collect("sft_stage1", spec, tmp_path / "out")
    assert [count["kept"] for count in found["counts"].values()] == [6, 30]


def test_rows_that_a_check_leaves_out_are_no_duplicates(tmp_path):
    """The same content twice: a wrong answer, then verified against its gold answer."""
    rows = [{"question": "2 + 2?", "response": "The answer is 4.", "answer": gold} for gold in "54"]
    source = [{"path": write(tmp_path / f"{n}.jsonl", [row])} for n, row in enumerate(rows)]
    columns = {"columns": {"answer": "answer"}}
    spec = {"sources": [s | columns for s in source], "checks": {"verified": True}}
    found = mixture.collect("sft_stage1", spec, tmp_path / "out")
    assert [count["kept"] for count in found["counts"].values()] == [0, 1]


def test_a_changed_file_is_noticed_and_the_old_rows_are_kept_aside(tmp_path, capsys):
    rows = [{"question": f"q{i}", "response": "r"} for i in range(10)]
    spec = {"sources": [{"path": write(tmp_path / "a.jsonl", rows)}]}
    assert mixture.collect("sft_stage1", spec, tmp_path / "out")["rows"] == 10
    write(tmp_path / "a.jsonl", rows[:3])
    assert mixture.collect("sft_stage1", spec, tmp_path / "out")["rows"] == 3
    assert len(mixture.read(tmp_path / ".previous" / "out-1")) == 10
    assert capsys.readouterr().out.count("\n") == 1


def test_a_finished_collection_is_left_alone_and_another_mixture_is_not(
    plain, tmp_path, monkeypatch
):
    folder = tmp_path / "out"
    first = mixture.collect("sft_stage1", {"sources": [plain]}, folder)
    with monkeypatch.context() as patched:
        patched.setattr(mixture.sources, "read", None)
        assert mixture.collect("sft_stage1", {"sources": [plain]}, folder)["rows"] == first["rows"]
    fewer = mixture.collect("sft_stage1", {"sources": [plain | {"rows": 5}]}, folder)
    assert fewer["rows"] == len(mixture.read(folder)) == 5


def test_length_strata_take_four_short_rows_for_a_long_one(tmp_path, tokenizer):
    rows = [{"question": f"q{i}", "response": "word " * (60 if i % 2 else 1)} for i in range(60)]
    spec = {
        "sources": [{"path": write(tmp_path / "a.jsonl", rows), "rows": 20}],
        "checks": {"max_tokens": 500},
        "strata": {"length": {"at": 50, "long": 1, "short": 4}},
    }
    mixture.collect("sft_stage2", spec, tmp_path / "out", tokenizer=tokenizer)
    long = [len(row["messages"][1]["content"]) > 100 for row in mixture.read(tmp_path / "out")]
    assert (len(long), sum(long)) == (20, 4)


def test_difficulty_strata_take_three_hard_rows_for_an_easy_one(tmp_path):
    rows = [{"problem": f"q{i}", "answer": "4", "level": i % 5 + 1} for i in range(60)]
    source = {
        "path": write(tmp_path / "a.jsonl", rows),
        "rows": 16,
        "columns": {"difficulty": "level"},
    }
    strata = {"difficulty": {"easy": [1, 2], "hard": [4, 5], "ratio": [1, 3]}}
    found = mixture.collect(
        "grpo_prompts", {"sources": [source], "strata": strata}, tmp_path / "out"
    )
    levels = [row["difficulty"] for row in mixture.read(tmp_path / "out")]
    assert (sum(x in "12" for x in levels), sum(x in "45" for x in levels)) == (4, 12)
    (count,) = found["counts"].values()
    assert count["left_out"]["difficulty unknown: enough"] > 0  # level 3 is neither


def test_world_rows_keep_their_ids(tmp_path):
    source = {"nanoworld": "thinking", "rows": 4}
    source["options"] = {"teachers": {"careful": 1.0}, "lengths": [1, 1, 1, 1]}
    mixture.collect("sft_stage2", {"sources": [source]}, tmp_path / "out")
    assert {row["id"].split("/")[0] for row in mixture.read(tmp_path / "out")} == {"sft_stage2"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ([], "a mixture has a list of sources"),
        ({"sources": ["a"]}, "'a' is no source"),
        ({"sources": [], "filters": {}}, "unknown key 'filters'"),
        ({"sources": [{"nanoworld": "talk", "share": 0.5}]}, "has a share, the mixture no rows"),
        ({"sources": [{"path": "a", "answer_form": "tex"}]}, "answer_form 'tex' is none of"),
        ({"sources": [{"path": "a", "thought_form": "code"}]}, "thought_form 'code' is none of"),
        ({"sources": [{"path": "a", "columns": {"gold": "x"}}]}, "columns names 'gold'"),
        ({"sources": [], "checks": {"speed": 1}}, "unknown check 'speed'"),
        ({"sources": [], "strata": {"length": {"at": 5}}}, "length needs the check max_tokens"),
        ({"sources": [], "strata": {"difficulty": {"easy": [1]}}}, "not of the form"),
        ({"sources": [], "strata": {"topic": {}}}, "unknown stratum 'topic'"),
        (
            {
                "sources": [{"nanoworld": "talk"}],
                "checks": {"max_tokens": 9},
                "strata": {"length": {"at": 5, "long": 1, "short": 1}},
            },
            "length divides nanoworld/talk, which has neither rows nor a share",
        ),
    ],
)
def test_bad_mixtures_are_refused_in_one_line(spec, said):
    with pytest.raises(CourseError, match=f"^sft_stage1: .*{said}") as caught:
        mixture.validate("sft_stage1", spec)
    assert "\n" not in str(caught.value)


def test_rows_are_read_in_order_or_mixed_by_a_seed(plain, tmp_path):
    mixture.collect("sft_stage1", {"sources": [plain]}, tmp_path / "out")
    in_order = questions(mixture.read(tmp_path / "out"))
    mixed = questions(mixture.read(tmp_path / "out", seed=1))
    assert mixed != in_order and sorted(mixed) == sorted(in_order)
    assert mixed == questions(mixture.read(tmp_path / "out", seed=1))


def test_rows_without_a_difficulty_are_not_divided_by_it(tmp_path):
    hard = [{"problem": f"q{i}", "answer": "4", "level": "Hard"} for i in range(20)]
    open_ended = [{"question": f"Say {i}", "reference": "Well."} for i in range(5)]
    spec = {
        "sources": [
            {
                "path": write(tmp_path / "a.jsonl", hard),
                "rows": 8,
                "columns": {"difficulty": "level"},
            },
            {"path": write(tmp_path / "b.jsonl", open_ended)},
        ],
        "strata": {"difficulty": {"easy": ["Easy"], "hard": ["Hard"], "ratio": [1, 3]}},
    }
    found = mixture.collect("grpo_prompts", spec, tmp_path / "out")
    assert [count["kept"] for count in found["counts"].values()] == [6, 5]


def test_a_folder_is_filled_in_and_missed_in_one_line(tmp_path):
    write(tmp_path / "a.jsonl", [{"question": "q", "response": "r"}])
    spec = {"sources": [{"path": "{DATA_DIR}/a.jsonl"}]}
    mixture.validate("sft_stage1", spec, folder=str(tmp_path))
    placed = mixture.placed(spec, str(tmp_path))
    assert mixture.collect("sft_stage1", placed, tmp_path / "out")["rows"] == 1
    with pytest.raises(CourseError, match="DATA_DIR is not set"):
        mixture.validate("sft_stage1", spec)
