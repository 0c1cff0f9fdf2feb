"""How far each stage is, from folders made by hand."""

import os
import subprocess
import sys
import time

import pytest

from trlm_utils import progress
from trlm_utils.files import write_json
from trlm_utils.runner import command, status


def stage(folder, state, age=0.0, step=None, headline=""):
    """A stage's folder whose last sign is so many seconds old."""
    now = time.time()
    write_json(folder / "manifest.json", {"status": state, "wall_seconds": 90.0})
    os.utime(folder / "manifest.json", (now - age, now - age))
    if headline:
        write_json(folder / "metrics.json", {"headline": headline})
    if step is not None:
        found = {"what": "training steps", "step": step, "total": 60, "share": step / 60}
        found |= {"first": 0.0, "started": now - age - 45, "written": now - age}
        write_json(folder / progress.NAME, found)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"state": "finished", "headline": "greedy 97 %"}, "finished in 1.5 minutes  greedy 97 %"),
        ({"state": "finished"}, "finished in 1.5 minutes  "),
        ({"state": "running", "step": 20}, "training steps 20 of 60, 1.5 minutes left"),
        ({"state": "running"}, "no step yet"),
        (
            {"state": "running", "step": 20, "age": 600},
            "no sign for 10.0 minutes (interrupted?): training steps 20 of 60",
        ),
    ],
)
def test_one_stage(tmp_path, how, told):
    stage(tmp_path / "a", **how)
    assert status.of_stage(tmp_path / "a", time.time()) == told


def test_a_stage_that_is_not_there(tmp_path):
    assert status.of_stage(tmp_path / "a", time.time()) == "not begun"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    return tmp_path


def test_all_seeds_in_order(runs, capsys):
    stage(runs / "smoke" / "00_start_here", "finished")
    stage(runs / "smoke" / "seed-1" / "00_start_here", "running", step=1)
    assert command.main(["status", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18  # nine stages of two seeds
    assert lines[0].startswith("smoke, seed 0  00_start_here      finished in 1.5")
    assert lines[1].split() == ["smoke,", "seed", "0", "01_data_curation", "not", "begun"]
    assert lines[9].startswith("smoke, seed 1  00_start_here      training steps 1 of 60")


def test_of_a_continued_recipe_only_what_was_begun(runs, capsys):
    stage(runs / "nano" / "00_start_here", "finished")
    assert command.main(["status", "careful"]) == 0
    told = [line.split()[3] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "00_start_here",
        "careful_data",
        "careful",
        "careful_grpo",
        "careful_evaluation",
    ]


def test_a_recipe_that_asks_for_a_folder_needs_none_here(runs, capsys):
    stage(runs / "gsm8k" / "01_data_curation", "finished")
    assert command.main(["status", "gsm8k"]) == 0
    assert "01_data_curation   finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["smoke"], "smoke was not run yet: there is nothing in"),
        (["smoke", "--scale", "big"], "not run yet"),
        (["smok"], "no recipe 'smok'; did you mean smoke"),
    ],
)
def test_bad_requests_are_one_line(runs, capsys, asked, said):
    assert command.main(["status", *asked]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_a_reader_that_leaves_early_gets_no_traceback():
    words = [sys.executable, "-m", "trlm_utils", "show", "tina", "--scale", "full"]
    told = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told.stdout.close()
    assert (told.stderr.read(), told.wait()) == ("", 0)
