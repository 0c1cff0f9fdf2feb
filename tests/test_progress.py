"""Progress: what a stage tells while it works, and how a looker-on shows it."""

import io
import json
import time

import pytest

from trlm_utils import generation, progress
from trlm_utils.runner import progress as shown


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A stage's folder that this process reports to, as often as there is news."""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    progress.follow(tmp_path)
    yield tmp_path
    progress.follow(None)


def told(folder):
    return json.loads((folder / progress.NAME).read_text())


def test_a_task_tells_its_step_and_total(folder):
    with progress.task("rows", 8) as task:
        task.step(2)
        found = told(folder)
    assert (found["what"], found["step"], found["total"], found["share"]) == ("rows", 2, 8, 0.25)
    assert not list(folder.glob("*.partial"))


def test_an_inner_task_counts_within_its_part_of_the_outer_one(folder):
    with progress.task("models", 4) as models:
        models.step()
        with models.part(2), progress.task("completions", 10) as inner:
            inner.step(5)
            found = told(folder)
    assert found["what"] == "models"
    assert found["share"] == (1 + 0.5 * 2) / 4


def test_an_inner_task_outside_a_part_tells_nothing(folder):
    """A trainer's rollouts are no step of the training."""
    with progress.task("training steps", 4) as training:
        training.step()
        with progress.task("completions", 10) as inner:
            inner.step(9)
            found = told(folder)
    assert (found["what"], found["share"]) == ("training steps", 0.25)


def test_an_error_closes_the_task(folder):
    with pytest.raises(RuntimeError), progress.task("rows", 8):
        raise RuntimeError
    with progress.task("models", 2):
        assert told(folder)["what"] == "models"


def test_a_loop_that_is_left_early_closes_its_task(folder):
    for _ in progress.track(range(5), "tokens"):
        break
    with progress.task("models", 2):
        assert told(folder)["what"] == "models"


def test_writes_are_as_rare_as_asked(folder, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 3600.0)
    with progress.task("rows", 8) as task:
        task.step(5)
        assert told(folder)["step"] == 0  # the opening was written, and that was just now
    assert told(folder)["step"] == 5  # the end is written whatever the time


def test_nothing_is_written_without_a_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress.follow(None)
    with progress.task("rows", 2) as task:
        task.step()
    assert not list(tmp_path.iterdir())


def test_seconds_left_go_by_what_this_process_did():
    """Resumed at 60 %, 80 % after 10 s: 2 % a second, so 10 s more; 4 of them have passed."""
    found = {"share": 0.8, "first": 0.6, "started": 1000.0, "written": 1010.0}
    assert progress.seconds_left(found, 1014.0) == pytest.approx(6.0)
    assert progress.seconds_left(found | {"share": 0.6}, 1014.0) is None


def test_sampling_tells_completions_and_the_time_they_took(folder, model, tokenizer):
    generation.sample(model, tokenizer, ["3 + 4 is", "1 + 1 is"], max_new_tokens=3, batch_size=1)
    found = told(folder)
    assert (found["what"], found["step"], found["total"]) == ("completions", 2, 2)
    assert 0 < progress.spent("completions") <= time.time() - found["started"]


def test_a_trainer_tells_its_steps_from_where_it_went_on(folder):
    from types import SimpleNamespace

    from trlm_utils.training import callbacks

    callback = callbacks.step_progress()
    state = SimpleNamespace(global_step=6, max_steps=10)
    callback.on_train_begin(None, state, None)
    state.global_step = 8
    callback.on_step_end(None, state, None)
    found = told(folder)
    callback.on_train_end(None, state, None)
    assert (found["step"], found["total"], found["first"]) == (8, 10, 0.6)


# --- looking on -----------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_says_step_total_and_time_left():
    found = {"what": "training steps", "step": 1500, "total": 2000, "share": 0.75}
    found |= {"first": 0.0, "started": 0.0, "written": 270.0}
    assert shown.line(found, 270.0) == "training steps 1,500 of 2,000, 1.5 minutes left"


def test_a_looker_on_reads_nothing_of_an_earlier_process(folder):
    with progress.task("rows", 2):
        pass
    assert shown.read(folder)["what"] == "rows"
    assert shown.read(folder, since=time.time() + 1) is None
    (folder / progress.NAME).write_text("{")
    assert shown.read(folder) is None


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["plain", "terminal"])
def test_a_running_stage_is_shown(folder, monkeypatch, stream):
    monkeypatch.setattr(shown, "EVERY", 0.05)
    monkeypatch.setattr(shown, "LOOK", 0.05)
    with shown.watching(folder, "[3/8] 02_sft", stream), progress.task("rows", 8) as task:
        task.step(2)
        deadline = time.time() + 10
        while "rows 2 of 8" not in stream.getvalue():
            assert time.time() < deadline, stream.getvalue()
            time.sleep(0.02)
    assert "[3/8] 02_sft" in stream.getvalue()
    lines = stream.getvalue().splitlines()
    if not stream.isatty():  # told once, as nothing was new
        assert sum("rows 2 of 8" in line for line in lines) == 1, lines


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 seconds"), (1.2, "1 second"), (59.4, "59 seconds"), (90, "1.5 minutes")],
)
def test_a_duration_is_told_in_words(seconds, told):
    assert shown.duration(seconds) == told
