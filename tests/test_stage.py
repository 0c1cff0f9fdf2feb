"""Stage folders: whole files or none, errors that say what to run."""

from types import SimpleNamespace

import pytest

from trlm_utils import files, stage
from trlm_utils.files import CourseError
from trlm_utils.stage import Stage


@pytest.fixture
def opened(tmp_path):
    return Stage("04_dpo", "nano", 0, tmp_path)


def test_a_missing_input_names_the_notebook_to_run(opened):
    with pytest.raises(CourseError, match="run notebook 03_sft_stage2 of recipe nano first"):
        opened.input("03_sft_stage2", "model")


def test_rows_come_back_as_written(opened):
    rows = [{"id": "ü", "n": 1}, {"id": "b\n\u2028\x85c", "n": None}]
    assert opened.save_rows("pairs", rows) == 2
    assert opened.rows("04_dpo", "pairs") == rows


def test_a_truncated_file_names_its_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    with pytest.raises(CourseError, match="line 2, is not complete JSON"):
        files.read_rows(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_json(path, {"old": True})

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_json(path, {"new": True})
    assert files.read_json(path) == {"old": True}


def test_finish_keeps_the_runners_entries_and_removes_checkpoints(opened):
    files.write_json(opened.folder / "manifest.json", {"status": "running", "inputs": "d"})
    (opened.checkpoints / "c").mkdir(parents=True)
    opened.finish({"headline": "x"})
    manifest = files.read_json(opened.folder / "manifest.json")
    assert (manifest["status"], manifest["inputs"]) == ("finished", "d")
    assert not opened.checkpoints.exists()


def test_a_log_is_the_same_whether_its_rows_were_saved_in_between_or_not(opened):
    """Rows that come back from a checkpoint have their keys in alphabetical order."""
    rows = [{"loss": 1.0, "epoch": 0.5, "step": 1}, {"loss": 0.5, "epoch": 1.0, "step": 2}]
    texts = []
    for log in (rows, [dict(sorted(row.items())) for row in rows]):
        opened.save_log(SimpleNamespace(state=SimpleNamespace(log_history=log)))
        texts.append((opened.folder / "log_history.csv").read_text())
    assert texts[0] == texts[1] == "epoch,loss,step\n0.5,1.0,1\n1.0,0.5,2\n"


def test_outputs_digest_sees_content_and_names(tmp_path):
    files.write_text(tmp_path / "data" / "a", "1")
    first = stage.outputs_digest(tmp_path)
    files.write_text(tmp_path / "data" / "a", "2")
    second = stage.outputs_digest(tmp_path)
    (tmp_path / "data" / "a").rename(tmp_path / "data" / "b")
    assert len({first, second, stage.outputs_digest(tmp_path)}) == 3


def test_outputs_are_all_models_and_data_but_no_figures_or_checkpoints(tmp_path):
    before = stage.outputs_digest(tmp_path)
    for name in ("figures/a.csv", "checkpoints/checkpoint-1/optimizer.pt", "manifest.json"):
        files.write_text(tmp_path / name, "1")
    assert stage.outputs_digest(tmp_path) == before
    for name in ("model/a", "process/a", "step_50/model/a", "data/sft_stage1/a"):
        files.write_text(tmp_path / name, "1")
        assert before != (before := stage.outputs_digest(tmp_path)), name


def test_paths_are_shown_without_a_home_folder():
    inside = files.PROJECT_ROOT / "runs" / "nano"
    assert files.shown(inside) == "runs/nano"
    from pathlib import Path

    assert files.shown(Path("/a/b/c/d/e")) == ".../c/d/e"
