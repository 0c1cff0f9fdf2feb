"""Questions put to a model beside the next one's training: the same numbers, or none."""

import json
import os
import subprocess
import sys
import time

import pytest

from trlm_utils.evaluation import ahead, held_out
from trlm_utils.files import PROJECT_ROOT, read_json, write_rows
from trlm_utils.models import save_model
from trlm_utils.runner import recipes
from trlm_utils.runner.beside import Beside

ROWS = [
    {"id": f"{band}-{i}", "band": band, "question": f"{i} + 4 =", "answer": str(i + 4)}
    for band in ("in_distribution", "longer", "longest")
    for i in range(3)
]
PARAMETERS = {
    "STAGE": "07_evaluation",
    "DATA_FROM": "01_data_curation",
    "BANDS": ["in_distribution", "longer"],
    "SAMPLES": 2,
    "PLAIN_SAMPLES": 1,
    "MAX_NEW_TOKENS": 6,
    "EVAL_BATCH": 4,
    "SEED": 3,
    "SYSTEM_PROMPT": "",
    "ATTENTION": "",
    "DTYPE": "float32",
    "ROLLOUTS": "course",
    "PASS_STAGES": ["06_grpo"],
    "PASS_BANDS": ["longer"],
    "PASS_QUESTIONS": 2,
    "PASS_SAMPLES": 3,
}
HOW = {"max_new_tokens": 6, "batch_size": 4, "seed": 3, "system": "", "engine": "course"}
TWICE = {"samples": 2, "plain_samples": 1}
LOADED = {"attention": "", "dtype": "float32"}
ASKED = [row for row in ROWS if row["band"] != "longest"]


@pytest.fixture
def run(tmp_path, model, tokenizer):
    """A run with a model and the questions of its evaluation."""
    save_model(model, tokenizer, tmp_path / "06_grpo" / "model")
    write_rows(tmp_path / "01_data_curation" / "data" / "eval.jsonl", ROWS)
    return tmp_path


def test_what_was_asked_ahead_is_what_the_evaluation_would_find(run, model, tokenizer):
    """Every field of every record, to the last digit, and pass@k's counts."""
    ahead.ask(run, "06_grpo", PARAMETERS)
    found = ahead.take(run, "06_grpo", "records", ASKED, HOW | LOADED | TWICE)
    questions = run / "questions.jsonl"
    write_rows(questions, ASKED)
    assert found == held_out.evaluate(model, tokenizer, questions, **TWICE, **HOW)
    counts = ahead.take(run, "06_grpo", "counts", ASKED[3:5], HOW | LOADED | {"samples": 3})
    assert counts == held_out.count_right(model, tokenizer, ASKED[3:5], samples=3, **HOW)


def test_other_questions_settings_or_weights_are_asked_anew(run, model, tokenizer):
    ahead.ask(run, "06_grpo", PARAMETERS, ["counts"])
    how = HOW | LOADED | {"samples": 3}

    def found(rows=ASKED[3:5], how=how, model="06_grpo"):
        return ahead.take(run, model, "counts", rows, how) is not None

    assert found()
    assert not found(rows=ASKED[3:4])
    assert not found(how=how | {"seed": 4})
    assert not found(how=how | {"dtype": "bfloat16"})
    assert not found(model="04_dpo")
    next(model.parameters()).data[0] += 1
    save_model(model, tokenizer, run / "06_grpo" / "model")
    assert not found()


def test_only_a_model_that_pass_at_k_asks_is_counted():
    assert list(ahead.jobs(PARAMETERS, ROWS, "06_grpo")) == ["records", "counts"]
    assert list(ahead.jobs(PARAMETERS, ROWS, "04_dpo")) == ["records"]
    assert list(ahead.jobs(PARAMETERS | {"PASS_QUESTIONS": 0}, ROWS, "06_grpo")) == ["records"]


def test_what_the_evaluation_has_is_not_asked(run):
    write_rows(run / "07_evaluation" / "data" / "pass_06_grpo.jsonl", [])
    ahead.ask(run, "06_grpo", PARAMETERS, ["counts"])
    assert not ahead.place(run, "06_grpo", "counts").exists()


def test_a_large_model_is_left_to_the_evaluation(run, monkeypatch):
    monkeypatch.setattr(ahead.machine, "MANY", 1)
    monkeypatch.setattr(ahead.machine, "cores", lambda: 2)
    ahead.ask(run, "06_grpo", PARAMETERS)
    assert not (run / ahead.FOLDER).exists()


def test_a_process_that_is_still_asking_is_waited_for(run):
    """And one that was killed is not, though its lock file is left."""
    file = ahead.place(run, "06_grpo", "counts")
    found = {"key": ahead.key(run, "06_grpo", "counts", [], {}), "rows": [{"right": 1}]}
    code = (
        "import pathlib, sys, time\n"
        "from trlm_utils.evaluation import ahead\n"
        "with ahead._lock(pathlib.Path(sys.argv[1]), alone=True):\n"
        "    print(flush=True)\n"
        "    time.sleep(float(sys.argv[2]))\n"
        "    pathlib.Path(sys.argv[3]).write_text(sys.argv[4])\n"
    )
    file.parent.mkdir()

    def asking(seconds, text):
        where = (file.with_suffix(".lock"), str(seconds), file, text)
        other = subprocess.Popen([sys.executable, "-c", code, *where], stdout=subprocess.PIPE)
        other.stdout.readline()
        return other

    other = asking(1.0, json.dumps(found))
    assert not file.exists()
    assert ahead.take(run, "06_grpo", "counts", [], {}) == [{"right": 1}]
    other.wait()
    other = asking(600.0, "{")
    other.kill()  # not waited for: a zombie holds no lock
    assert ahead.take(run, "06_grpo", "counts", [], {}) == [{"right": 1}]
    other.wait()
    file.write_text("{")
    assert ahead.take(run, "06_grpo", "counts", [], {}) is None  # damaged: asked anew


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """The runner is killed, so that it can end nothing; the input stays open."""
    code = (
        "import os, subprocess, sys, time\n"
        "args = [sys.executable, '-m', 'trlm_utils.evaluation.ahead', str(os.getpid())]\n"
        "print(subprocess.Popen(args).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, **pipe)
    pid = int(runner.stdout.readline())
    os.kill(pid, 0)  # it is there
    runner.kill()
    runner.wait()
    deadline = time.time() + 120
    while gone(pid) is False:
        assert time.time() < deadline
        time.sleep(0.1)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # ended, but nobody has asked how
        return file.read().rpartition(")")[2].split()[0] == "Z"


# --- what the runner asks when ----------------------------------------------------------


@pytest.fixture
def plan(tmp_path):
    return recipes.load_plan("nano", "nano", 0, [], str(tmp_path / "nano"))


def due(beside):
    return [(model, kinds) for _, model, kinds in beside.due()]


def test_a_model_is_asked_when_it_and_the_questions_are_there(plan, tmp_path):
    beside = Beside(plan, tmp_path, plan.stages)
    told = {}
    for stage in plan.stages:
        beside.finished.add(stage.stage)
        told[stage.stage] = due(beside)
    both, counts = ("records", "counts"), ("counts",)
    assert told == {
        "00_start_here": [],  # no questions yet
        "01_data_curation": [("00_start_here", both)],
        "02_sft_stage1": [("02_sft_stage1", both)],
        "03_sft_stage2": [("03_sft_stage2", both)],
        "04_dpo": [("04_dpo", both)],
        "05_grpo_rewards": [],
        "06_grpo": [("06_grpo", counts)],  # the evaluation itself comes next
        "07_evaluation": [],
        "08_use_it": [],
    }


def test_a_model_of_an_earlier_run_is_not_asked_before_it_is_made_anew(plan, tmp_path):
    beside = Beside(plan, tmp_path, plan.stages[4:])  # from 04_dpo on
    assert [model for model, _ in due(beside)] == ["00_start_here", "02_sft_stage1"] + [
        "03_sft_stage2"
    ]


def test_without_an_evaluation_to_come_nothing_is_asked(plan, tmp_path):
    beside = Beside(plan, tmp_path, plan.stages[:-1])
    beside.finished |= {stage.stage for stage in plan.stages}
    assert due(beside) == []


def test_the_process_asks_ends_and_leaves_what_it_found(plan, run, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr("trlm_utils.machine.cores", lambda: 2)
    stages = [
        replace(s, parameters=s.parameters | PARAMETERS | {"EVALUATE": ["06_grpo"]})
        if s.stage == "07_evaluation"
        else s
        for s in plan.stages
    ]
    beside = Beside(replace(plan, stages=tuple(stages)), run, stages[6:])
    beside.go_on("06_grpo")
    file = ahead.place(run, "06_grpo", "counts")
    deadline = time.time() + 300
    while not file.exists():
        assert beside.process.poll() is None, (run / ahead.FOLDER / "log.txt").read_text()
        assert time.time() < deadline
        time.sleep(0.1)
    assert len(read_json(file)["rows"]) == 2
    process = beside.process
    beside.end()
    assert process.poll() is not None
    assert file.exists()  # the evaluation was not run, so it may still take it
    beside.finished.add("07_evaluation")
    beside.end()
    assert not (run / ahead.FOLDER).exists()
