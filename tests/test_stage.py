"""Stage folders: whole files or none, errors that say what to run."""

import pytest

from trlm_utils import stage
from trlm_utils.stage import Stage, StageError


@pytest.fixture
def opened(tmp_path):
    return Stage("04_dpo", "nano", 0, tmp_path)


def test_a_missing_input_names_the_notebook_to_run(opened):
    with pytest.raises(StageError, match="run notebook 03_sft_stage2 of recipe nano first"):
        opened.input("03_sft_stage2", "model")


def test_rows_come_back_as_written(opened):
    rows = [{"id": "ü", "n": 1}, {"id": "b\n\u2028\x85c", "n": None}]
    assert opened.save_rows("pairs", rows) == 2
    assert opened.rows("04_dpo", "pairs") == rows


def test_a_truncated_file_names_its_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    with pytest.raises(StageError, match="line 2, is not complete JSON"):
        stage.read_rows(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    stage.write_json(path, {"old": True})

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.write_json(path, {"new": True})
    assert stage.read_json(path) == {"old": True}


def test_finish_keeps_the_runners_entries_and_removes_checkpoints(opened):
    stage.write_json(opened.folder / "manifest.json", {"status": "running", "inputs": "d"})
    (opened.checkpoints / "c").mkdir(parents=True)
    opened.finish({"headline": "x"})
    manifest = stage.read_json(opened.folder / "manifest.json")
    assert (manifest["status"], manifest["inputs"]) == ("finished", "d")
    assert not opened.checkpoints.exists()


def test_outputs_digest_sees_content_and_names(tmp_path):
    stage.write_text(tmp_path / "data" / "a", "1")
    first = stage.outputs_digest(tmp_path)
    stage.write_text(tmp_path / "data" / "a", "2")
    second = stage.outputs_digest(tmp_path)
    (tmp_path / "data" / "a").rename(tmp_path / "data" / "b")
    assert len({first, second, stage.outputs_digest(tmp_path)}) == 3


def test_paths_are_shown_without_a_home_folder():
    inside = stage.PROJECT_ROOT / "runs" / "nano"
    assert stage.shown(inside) == "runs/nano"
    from pathlib import Path

    assert stage.shown(Path("/a/b/c/d/e")) == ".../c/d/e"
