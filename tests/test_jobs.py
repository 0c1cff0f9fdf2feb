"""Several stages at once: order, failures, a killed worker, what each worker may use.

The tasks here stand in for stages; test_sequence.py runs real ones.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from trlm_utils import machine
from trlm_utils.files import PROJECT_ROOT, write_json
from trlm_utils.runner import jobs, recipes
from trlm_utils.runner.parameters import RecipeError

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

RECIPE = Path(__file__).with_name("ranks.yaml")


def stand_in(stage, folder, needs_hub, since, *reads):
    """A task that writes when it began and ended; told to by files, it fails or is killed."""
    name, place = stage.stage, Path(folder)
    if (place / f"{name}.done").exists():
        return "already finished"
    with (place / f"{name}.log").open("a") as log:
        log.write(f"{os.getpid()} {len(reads)}\n")
    if (place / f"{name}.fails").exists():
        raise jobs.StageFailed(jobs.key_of(name, folder), f"stage {name} failed: no space")
    kill = place / f"{name}.kills"
    if kill.exists():
        if kill.read_text() == "once":
            kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.time()
    time.sleep(0.05)
    (place / f"{name}.done").write_text(f"{began} {time.time()}")
    return f"done {name}"


@pytest.fixture(scope="module")
def client():
    with jobs._client(2, "") as found:
        yield found


@pytest.fixture
def run(client, tmp_path):
    """Runs a recipe's plan with tasks that stand in for its stages: -> (jobs, folder)."""

    def go(*names, plan=None):
        plan = plan or recipes.load_plan("smoke")
        chosen = []
        for name in names or ("one",):
            (tmp_path / name).mkdir(exist_ok=True)
            chosen.append((jobs.Run(plan, tmp_path / name, name), list(plan.stages)))
        handed = jobs._hand_over(client, chosen, 0.0, stand_in)
        jobs._watch(handed)
        return handed

    return go


def times(place, stage):
    return [float(text) for text in (place / f"{stage}.done").read_text().split()]


def test_no_stage_begins_before_those_that_it_reads_have_ended(run, tmp_path, capsys):
    handed = run("one", "two")
    assert jobs.failures(handed) == ""
    for job in handed:
        for read in job.stage.reads:
            begins, ends = (times(job.run.folder, s) for s in (job.stage.stage, read))
            assert begins[0] >= ends[1]
    told = capsys.readouterr().out
    assert told.count("one  07_evaluation") == told.count("two  07_evaluation") == 1


def test_both_workers_work_and_each_on_one_stage_at_a_time(run, tmp_path):
    run("one", "two", "three")
    logs = [p for p in tmp_path.rglob("*.log")]
    assert len({p.read_text().split()[0] for p in logs}) == 2
    spans = {}
    for log in logs:
        worker = log.read_text().split()[0]
        spans.setdefault(worker, []).append(times(log.parent, log.stem))
    for found in spans.values():
        found.sort()
        assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))


def slow(stage, folder, needs_hub, since, *reads):
    """A task that takes longer than handing it over: a third of a second."""
    (Path(folder) / f"{stage.stage}.pid").write_text(str(os.getpid()))
    time.sleep(0.3)
    return f"done {stage.stage}"


def test_arms_that_read_one_stage_do_not_queue_for_the_worker_that_ran_it(client, tmp_path):
    """One seed of a recipe whose arms all start from 04: both workers take them."""
    plan = recipes.load_plan("ablations")
    handed = jobs._hand_over(
        client, [(jobs.Run(plan, tmp_path, "one"), list(plan.stages))], 0.0, slow
    )
    jobs._watch(handed)
    assert jobs.failures(handed) == ""
    arms = [stage.stage for stage in plan.stages if "04_dpo" in stage.reads]
    assert len(arms) > 15
    by_worker = Counter((tmp_path / f"{arm}.pid").read_text() for arm in arms)
    assert len(by_worker) == 2 and min(by_worker.values()) >= len(arms) / 4, by_worker


def test_stages_that_two_recipes_share_are_run_once(client, tmp_path):
    plans = [recipes.load_plan(name) for name in ("careful", "curation")]
    chosen = [(jobs.Run(p, tmp_path, p.about), list(p.stages)) for p in plans]
    handed = jobs._hand_over(client, chosen, 0.0, stand_in)
    names = [job.stage.stage for job in handed]
    assert len(names) == len(set(names)) == len({s.stage for p in plans for s in p.stages})
    jobs._watch(handed)
    assert jobs.failures(handed) == ""


def test_a_failed_stage_stops_only_what_needs_it_and_one_line_says_so(run, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "05_grpo_rewards.fails").touch()
    handed = run("one", "two")
    said = jobs.failures(handed)
    assert said.startswith(
        "one: stage 05_grpo_rewards failed: no space; not run, as they need it: "
    )
    assert "one 06_grpo" in said and "two" not in said and "\n" not in said
    assert "one 04_dpo" not in said and (tmp_path / "one" / "04_dpo.done").exists()
    assert (tmp_path / "two" / "08_use_it.done").exists()
    assert capsys.readouterr().out.count("failed") == 1


def test_a_killed_worker_costs_only_its_stage_which_another_takes_up(run, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "02_sft_stage1.kills").write_text("once")
    assert jobs.failures(run("one")) == ""
    tries = (tmp_path / "one" / "02_sft_stage1.log").read_text().splitlines()
    assert len(tries) == 2
    # the stages before it were not run again
    assert len((tmp_path / "one" / "00_start_here.log").read_text().splitlines()) == 1


def test_a_stage_that_kills_every_worker_fails_in_the_end(run, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "03_sft_stage2.kills").write_text("always")
    said = jobs.failures(run("one"))
    assert said.startswith(f"one: stage 03_sft_stage2 failed: {jobs.TRIES} workers died over it;")
    tries = (tmp_path / "one" / "03_sft_stage2.log").read_text().splitlines()
    assert len(tries) == jobs.TRIES


def test_a_finished_stage_whose_line_is_lost_with_its_worker_stays_finished(tmp_path):
    """Dask's status of it is "lost" until another worker has given the line again."""
    plan = recipes.load_plan("smoke")
    future = SimpleNamespace(status="finished", result=lambda: "done")
    job = jobs.Job(jobs.Run(plan, tmp_path, "one"), plan.stages[0], future)
    jobs._watch([job])
    future.status = "lost"
    assert jobs.failures([job]) == ""


@pytest.mark.parametrize(
    ("status", "age", "since", "runs"),
    [
        ("finished", 0, 0.0, None),
        ("finished", 100, 50.0, True),  # made again, from the start
        ("finished", 10, 50.0, None),  # made again a moment ago
        ("running", 100, 50.0, True),
        ("running", 10, 50.0, False),  # made again, and interrupted: goes on
        ("running", 100, 0.0, False),
    ],
)
def test_what_is_made_again(tmp_path, monkeypatch, status, age, since, runs):
    """`since` and `age` in seconds before now; `runs`: whether from the start, None if at all."""
    stage = recipes.load_plan("smoke").stages[0]
    place = tmp_path / stage.stage / "manifest.json"
    write_json(place, {"status": status})
    now = time.time()
    os.utime(place, (now - age, now - age))
    fresh = []

    def run_stage(*_, force, many):
        fresh.append(force)
        return "done"

    monkeypatch.setattr(jobs, "dependencies", lambda *_: {})
    monkeypatch.setattr(jobs, "is_finished", lambda *_: status == "finished")
    monkeypatch.setattr(jobs, "run_stage", run_stage)
    jobs.work(stage, tmp_path, False, now - since if since else 0.0)
    assert fresh == ([] if runs is None else [runs])


def test_the_error_of_a_stage_survives_being_sent():
    import pickle

    error = pickle.loads(pickle.dumps(jobs.StageFailed("a/b", "stage b failed: x")))
    assert (error.where, error.why) == ("a/b", "stage b failed: x")


@pytest.mark.parametrize(
    ("cores", "jobs_", "shares"),
    [
        ([0, 1], 2, ["0", "1"]),
        ([0, 1, 2, 3, 4], 2, ["0,1", "2,3,4"]),
        ([4, 6], 1, ["4,6"]),
        ([0, 1], 3, ["0", "0", "1"]),  # more workers than cores: they share
    ],
)
def test_cores_are_divided_without_a_rest(monkeypatch, cores, jobs_, shares):
    monkeypatch.setattr(machine, "own_cores", lambda: cores)
    monkeypatch.setattr(machine, "visible_cards", lambda: ("CUDA_VISIBLE_DEVICES", []))
    found = [jobs.share(number, jobs_) for number in range(jobs_)]
    assert [one[jobs.CORES] for one in found] == shares


def test_each_worker_sees_one_card(monkeypatch):
    monkeypatch.setattr(machine, "visible_cards", lambda: ("HIP_VISIBLE_DEVICES", ["2", "5"]))
    found = [jobs.share(number, 3)["HIP_VISIBLE_DEVICES"] for number in range(3)]
    assert found == ["2", "5", "2"]


def test_cards_that_the_user_chose_are_the_visible_ones(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1")
    assert machine.visible_cards() == ("CUDA_VISIBLE_DEVICES", ["3", "1"])


def test_no_scheduler_at_an_address_is_one_line():
    with pytest.raises(RecipeError, match="no Dask scheduler answers"):
        with jobs._client(1, "tcp://127.0.0.1:9"):
            pass


# --- workers on other machines ----------------------------------------------------


def begin(words, log, **environment):
    """A Python module's command line as a process, its output in a file; a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kernels_of(process):
    """Notebook kernels that a worker has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ipykernel" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.mark.sequence
@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address on Linux alone")
def test_two_machines_share_the_stages_and_one_that_is_lost_costs_only_its_own(tmp_path):
    """Machines are played by two addresses of this one; each joins as the README says."""
    place, runs = tmp_path / "scheduler.json", tmp_path / "runs"
    started = []
    try:
        words = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        words += ["--no-dashboard", "--scheduler-file", str(place)]
        started.append(begin(words, tmp_path / "scheduler.log"))
        ends = time.time() + 60
        while not place.exists():
            assert time.time() < ends
            time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        machines = []
        for host in ("127.0.0.1", "127.0.0.2"):
            words = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
            words += ["--host", host, "--local-directory", str(tmp_path / host)]
            machines.append(begin(words, tmp_path / f"{host}.log"))
        started += machines
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        words = ["trlm_utils", "run", str(RECIPE), "--seed", "0,1", "--only", "00_start_here"]
        words += ["--address", address]
        run = begin(words, tmp_path / "run.log", TRLM_RUNS_DIR=str(runs))
        started.append(run)
        ends = time.time() + 120
        while not all(map(kernels_of, machines)):
            assert time.time() < ends and run.poll() is None, (tmp_path / "run.log").read_text()
            time.sleep(0.1)
        lost = [*psutil.Process(machines[1].pid).children(recursive=True)]
        for process in [psutil.Process(machines[1].pid), *lost]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert run.wait(timeout=240) == 0
        told = (tmp_path / "run.log").read_text()
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert "2 stages of 2 runs on 2 workers" in told
    for folder in (runs / "ranks", runs / "ranks" / "seed-1"):
        manifest = json.loads((folder / "00_start_here" / "manifest.json").read_text())
        assert manifest["status"] == "finished", told
