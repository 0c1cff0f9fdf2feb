"""The whole sequence as a user runs it: command line, papermill, nbval, interruptions.

These take minutes; `pytest -m "not sequence"` leaves them out.
"""

import importlib.util
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hub_server
import pytest
import yaml

from trlm_utils.files import PROJECT_ROOT, read_json, read_rows, write_rows
from trlm_utils.runner import recipes, work
from trlm_utils.runner.recipe_file import find_recipe

pytestmark = pytest.mark.sequence
STAGES = [p.stem for p in sorted((PROJECT_ROOT / "notebooks").glob("0[0-8]*.ipynb"))]
RUNNER = [sys.executable, "-m", "trlm_utils"]


def environment(runs, root=PROJECT_ROOT):
    paths = os.pathsep.join([str(root), os.environ["PYTHONPATH"]])
    return os.environ | {"TRLM_RUNS_DIR": str(runs), "PYTHONPATH": paths}


def command(runs, *arguments, root=PROJECT_ROOT):
    done = subprocess.run(
        [*RUNNER, *arguments],
        env=environment(runs, root),
        cwd=root,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A finished smoke run; (runs folder, what the runner printed)."""
    runs = tmp_path_factory.mktemp("runs")
    done = command(runs, "run", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return runs, done.stdout


def test_every_stage_leaves_its_files(smoke):
    runs, _ = smoke
    for stage in STAGES:
        folder = runs / "smoke" / stage
        manifest = read_json(folder / "manifest.json")
        assert manifest["status"] == "finished"
        assert manifest["peak_rss_mb"] > 0 and manifest["wall_seconds"] > 0
        assert (folder / "notebook.ipynb").exists() and (folder / "metrics.json").exists()
        assert not (folder / "checkpoints").exists()


def test_every_number_in_the_metrics_is_finite(smoke):
    runs, _ = smoke

    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [n for v in value for n in numbers(v)]
        return [value] if isinstance(value, float | int) else []

    for stage in STAGES:
        metrics = read_json(runs / "smoke" / stage / "metrics.json")
        assert all(map(math.isfinite, numbers(metrics))), stage


def test_the_time_told_at_the_start_is_within_a_factor_of_two(smoke):
    """Seconds recorded on another machine, or another day of this one, and a probe of today."""
    runs, printed = smoke
    told = re.search(r"about ([\d.]+) (seconds|minutes) on this machine \(probe: ", printed)
    assert told, printed
    seconds = float(told[1]) * (60 if told[2] == "minutes" else 1)
    manifests = [read_json(runs / "smoke" / stage / "manifest.json") for stage in STAGES]
    took = sum(manifest["wall_seconds"] for manifest in manifests)
    assert took / 2 < seconds < 2 * took
    assert all(manifest["probe"]["training"] > 0 for manifest in manifests)


def test_a_finished_stage_leaves_no_progress(smoke):
    runs, _ = smoke
    assert not list((runs / "smoke").glob("*/progress.json"))


def test_the_work_that_an_estimate_counts_is_what_smoke_did(smoke):
    """Tokens of every stage within a factor of two. At this size seconds are all start."""
    runs, _ = smoke
    counted = work.of_plan(recipes.load_plan("smoke"), lambda stage: 256, packs=True)
    checked = []
    for done in counted:
        logged = read_json(runs / "smoke" / done.stage / "metrics.json").get("tokens")
        if logged:  # 05 draws, and writes down no tokens
            assert 0.5 < (done.trained or done.sampled) / logged < 2, done
            checked.append(done.stage)
    assert checked == [stage for stage in STAGES if stage[:2] not in ("01", "05", "08")]


def test_dpo_starts_from_its_own_reference(smoke):
    """apo_zero is exactly 1 as long as policy and reference are the same model."""
    runs, _ = smoke
    metrics = read_json(runs / "smoke" / "04_dpo" / "metrics.json")
    assert metrics["first_loss"] == pytest.approx(1.0, abs=1e-3)


def test_the_report_has_every_stage_and_band(smoke):
    runs, printed = smoke
    report = read_json(runs / "smoke" / "report.json")
    assert [s["stage"] for s in report["stages"]] == STAGES
    assert len({row["band"] for row in report["ladder"]}) == 6
    assert {row["form"] for row in report["ladder"]} == {"chat", "plain"}
    assert {row["decoding"] for row in report["ladder"]} == {"greedy", "sampled"}
    assert "report.html" in printed and "in_distribution" in printed


def test_finished_stages_are_not_run_again(smoke):
    runs, _ = smoke
    done = command(runs, "run", "smoke")
    assert done.returncode == 0
    assert done.stdout.count("already finished") == len(STAGES)


def test_a_damaged_model_is_made_again_or_named(smoke, tmp_path):
    """A half-written model folder: the stage after it says so in one line, status 1."""
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    weights = tmp_path / "smoke" / "02_sft_stage1" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = command(tmp_path, "run", "smoke", "--only", "03_sft_stage2", "--force")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: stage 03_sft_stage2 failed") and "cut off" in last


def started(runs, arguments, root=PROJECT_ROOT):
    """The runner as a process, in a group of its own that can be killed."""
    return subprocess.Popen(
        [*RUNNER, *arguments],
        env=environment(runs, root),
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(path, process, seconds=240):
    deadline = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline, f"no {path}"
        time.sleep(0.02)


def kill(process, runs):
    """kill -9, to the runner and to the kernel that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill_kernels(runs)


def same_result(folder, expected):
    """Whether two stage folders have the same metrics and log, but for speeds.

    Tolerance on CPU: 1e-4 relative on every number (measured: equal).
    """
    numbers, wanted = (flat(read_json(f / "metrics.json")) for f in (folder, expected))
    assert numbers == pytest.approx(wanted, rel=1e-4)
    logs = [training_log(f) for f in (folder, expected)]
    assert list(logs[0]) == list(logs[1])
    assert logs[0].to_numpy() == pytest.approx(logs[1].to_numpy(), rel=1e-4, nan_ok=True)


def training_log(folder):
    """A stage's log without what is about one process: its last row, and times."""
    import pandas as pd

    log = pd.read_csv(folder / "log_history.csv")
    log = log[log["train_runtime"].isna()] if "train_runtime" in log else log
    return log.drop(columns="step_time", errors="ignore").dropna(axis="columns", how="all")


@pytest.mark.parametrize(
    "stage", ["00_start_here", "02_sft_stage1", "03_sft_stage2", "04_dpo", "06_grpo"]
)
def test_killed_at_a_random_moment_it_ends_like_an_undisturbed_run(smoke, tmp_path, stage):
    """kill -9 somewhere between the trainer's making and the end; then the same command.

    Where is drawn by the clock and printed; TRLM_KILL_AFTER (seconds) replays it.
    """
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    folder, arguments = tmp_path / "smoke" / stage, ["run", "smoke", "--only", stage]
    shutil.rmtree(folder)
    began = time.time()
    process = started(tmp_path, arguments)
    wait_for(folder / "checkpoints", process)
    left = read_json(runs / "smoke" / stage / "manifest.json")["wall_seconds"]
    left = max(1.0, left - (time.time() - began))
    seed = time.time_ns()
    after = float(os.environ.get("TRLM_KILL_AFTER") or random.Random(seed).uniform(0, left))
    time.sleep(after)
    kill(process, tmp_path)
    found = sorted(path.name for path in folder.glob("checkpoints/checkpoint-*"))
    print(f"{stage}: killed {after:.3f} s after the trainer was made (seed {seed}), {found}")
    done = command(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    same_result(folder, runs / "smoke" / stage)
    assert not (tmp_path / "smoke" / ".unfinished").exists()


def test_seeds_at_once_end_as_one_after_another_though_workers_are_killed(smoke, tmp_path):
    """kill -9 to both workers in the middle of a training; others go on from the checkpoints."""
    runs, _ = smoke
    recipe = yaml.safe_load(find_recipe("smoke").read_text())
    del recipe["scales"]["nano"]["stages"][3:]
    path = tmp_path / "three.yaml"
    path.write_text(yaml.safe_dump(recipe | {"name": "three"}))
    process = started(tmp_path, ["run", str(path), "--seed", "0,1", "--jobs", "2"])
    stage = tmp_path / "three" / "02_sft_stage1"
    wait_for(stage / "checkpoints" / "checkpoint-3", process)
    workers = [kernel.parent() for kernel in kernels_of(tmp_path)]
    assert workers and process.pid not in [worker.pid for worker in workers]
    for worker in workers:
        worker.kill()
    assert process.wait(timeout=240) == 0
    same_result(stage, runs / "smoke" / "02_sft_stage1")
    other = tmp_path / "three" / "seed-1" / "02_sft_stage1" / "manifest.json"
    assert read_json(other)["status"] == "finished"


def test_an_edited_plot_costs_no_training(smoke, tmp_path):
    """Killed, then a plotting function is edited, in a copy of the project: it goes on.

    The resumed model is the same to the bit, so the stages after it stay finished.
    """
    runs, _ = smoke
    root = tmp_path / "project"
    for name in ("trlm_utils", "notebooks", "figures"):
        shutil.copytree(PROJECT_ROOT / name, root / name)
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    folder = tmp_path / "smoke" / "03_sft_stage2"
    shutil.rmtree(folder)
    process = started(tmp_path, ["run", "smoke", "--only", "03_sft_stage2"], root)
    wait_for(folder / "checkpoints" / "checkpoint-4" / "trainer_state.json", process)
    kill(process, tmp_path)
    plots = root / "trlm_utils" / "plots.py"
    edited = plots.read_text().replace("def plot_curves(", "EDITED = 1\n\n\ndef plot_curves(")
    assert edited != plots.read_text()
    plots.write_text(edited)
    done = command(tmp_path, "run", "smoke", root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("already finished") == len(STAGES) - 1
    assert "went on from step" in (folder / "notebook.ipynb").read_text()
    same_result(folder, runs / "smoke" / "03_sft_stage2")


def test_a_tracked_and_pushed_stage_is_the_same_and_keeps_its_secret(smoke, tmp_path, monkeypatch):
    """The token is in ``.env``; the Hub is a stand-in. Nothing that the run leaves has it."""
    pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    runs, _ = smoke
    root = tmp_path / "project"
    for name in ("trlm_utils", "notebooks", "figures"):
        shutil.copytree(PROJECT_ROOT / name, root / name)
    shutil.copytree(runs / "smoke", tmp_path / "runs" / "smoke")
    (root / ".env").write_text(f"HF_TOKEN={hub_server.TOKEN}\n")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_TOKEN", raising=False)  # a real one
    tracker = "tensorboard" if importlib.util.find_spec("tensorboard") else "none"
    values = {"KEEP_CHECKPOINTS": "true", "PUSH_TO": "me/tiny", "TRACKER": tracker}
    chosen = [part for k, v in values.items() for part in ("--set", f"06_grpo.{k}={v}")]
    with hub_server.Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        arguments = ("run", "smoke", "--only", "06_grpo", "--force", *chosen)
        done = command(tmp_path / "runs", *arguments, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / "smoke" / "06_grpo"
    weights = (folder / "model" / "model.safetensors").read_bytes()
    assert weights == (runs / "smoke/06_grpo/model/model.safetensors").read_bytes()
    assert hub.files("me/tiny-06_grpo")["model.safetensors"] == weights
    assert set(hub.repositories["model", "me/tiny-06_grpo"]) == {
        "main",
        "step_1",
        "step_2",
        "step_3",
    }
    assert (folder / "tracker").is_dir() == (tracker != "none")
    kept = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert folder / "notebook.ipynb" in kept and folder.parent / "report.html" in kept
    assert not [path for path in kept if hub_server.TOKEN.encode() in path.read_bytes()]
    assert hub_server.TOKEN not in done.stdout + done.stderr


FAILING = """
name: failing
continues: smoke
scales:
  nano:
    stages:
      - stage: failing
        notebook: {notebook}
        model_from: 02_sft_stage1
        parameters: {{MAX_NEW_TOKENS: 48, SAVE_STEPS: 4}}
"""


def test_a_cell_that_fails_after_training_costs_that_cell(smoke, tmp_path):
    """Again it fails without training; repaired, it goes on with --resume-from."""
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    notebook = tmp_path / "03_sft_stage2.ipynb"
    good = json.loads((PROJECT_ROOT / "notebooks" / "03_sft_stage2.ipynb").read_text())
    (trains,) = (
        i for i, c in enumerate(good["cells"]) if "train_or_resume" in "".join(c["source"])
    )
    bad = dict(good, cells=list(good["cells"]))
    cell = {"cell_type": "code", "id": "bad", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": ["raise RuntimeError('no figure')"]}
    bad["cells"].insert(trains + 1, cell)
    notebook.write_text(json.dumps(bad))
    recipe = tmp_path / "failing.yaml"
    recipe.write_text(FAILING.format(notebook=notebook.with_suffix("")))
    folder, logs = tmp_path / "smoke" / "failing", []
    for start in ("started at step 0", "had ended at step 20"):
        done = command(tmp_path, "run", str(recipe))
        assert done.returncode == 1 and "no figure" in done.stderr, done.stdout + done.stderr
        assert start in (folder / "notebook.ipynb").read_text()
        assert (folder / "model" / "model.safetensors").exists()
        logs.append((folder / "log_history.csv").read_text())
    assert logs[0] == logs[1]  # with the speed of the process that trained
    notebook.write_text(json.dumps(good))
    done = command(tmp_path, "run", str(recipe), "--resume-from", "failing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "had ended at step 20" in (folder / "notebook.ipynb").read_text()
    same_result(folder, runs / "smoke" / "03_sft_stage2")
    manifest = read_json(folder / "manifest.json")
    assert [entry["changed"] for entry in manifest["resumed_from"]] == [["notebook"]]


OWN_DATA = """
name: own
continues: smoke
scales:
  nano:
    stages:
      - stage: own_data
        notebook: 01_data_curation
        parameters: {{SOURCE: mixture, DPO_PROMPTS: 8, EVAL_PER_BAND: 2,
          MIXTURE: {{sft_stage1: {{sources: [{{path: {rows}}}]}}}}}}
      - stage: own_sft
        notebook: 02_sft_stage1
        model_from: 00_start_here
        parameters: {{DATA_FROM: own_data, MAX_STEPS: 1}}
"""


def test_a_data_file_that_shrinks_is_read_again_and_all_that_follows(smoke, tmp_path):
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    rows = read_rows(runs / "smoke" / "01_data_curation" / "data" / "sft_stage1.jsonl")
    rows = [{"messages": row["messages"]} for row in rows]
    file, recipe = tmp_path / "rows" / "part" / "own.jsonl", tmp_path / "own.yaml"
    recipe.write_text(OWN_DATA.format(rows=tmp_path / "rows"))
    for size in (60, 40):
        write_rows(file, rows[:size])
        done = command(tmp_path, "run", str(recipe))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("already finished") == len(STAGES)
        metrics = read_json(tmp_path / "smoke" / "own_data" / "metrics.json")
        assert metrics["built"]["sft_stage1"] == size
    kept = tmp_path / "smoke" / ".previous"
    assert sorted(p.name for p in kept.iterdir()) == ["own_data-1", "own_sft-1"]


def kernels_of(folder):
    """The notebook kernels of a run, as processes."""
    import psutil

    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        runs = (process.info["environ"] or {}).get("TRLM_RUNS_DIR")
        if "ipykernel_launcher" in line and runs == str(folder):
            yield process


def kill_kernels(folder):
    """Kill notebook kernels of a run that their runner left behind."""
    for process in kernels_of(folder):
        process.kill()
        process.wait(10)


def flat(metrics):
    """Numbers of nested metrics by path, speeds left out."""
    found = {}
    for key, value in metrics.items():
        if key.endswith("per_second"):
            continue
        if isinstance(value, dict):
            found |= {f"{key}.{k}": v for k, v in flat(value).items()}
        elif isinstance(value, int | float):
            found[key] = float(value)
    return found


def test_ctrl_c_ends_in_one_line_and_the_run_goes_on(smoke, tmp_path):
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    arguments = ["run", "smoke", "--only", "02_sft_stage1", "--force"]
    process = subprocess.Popen(
        [*RUNNER, *arguments],
        env=environment(tmp_path),
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background of a shell inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 60
    while not (tmp_path / "smoke" / ".previous" / "02_sft_stage1-1").exists():
        assert time.time() < deadline
        time.sleep(0.05)
    time.sleep(3)  # into the kernel's start
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors, errors
    assert "goes on from here" in errors
    assert command(tmp_path, *arguments[:-1]).returncode == 0


def nbval(runs, what):
    """Run nbval on a notebook or a folder of them."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q"]
        + ["-p", "no:cacheprovider", "--rootdir", str(runs), str(what)],
        env=environment(runs),
        capture_output=True,
        text=True,
    )


def test_nbval_runs_the_executed_notebooks_again(smoke, tmp_path):
    """Deterministic cells must come out as before; training floats are not compared."""
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    for stage in STAGES:
        text = (runs / "smoke" / stage / "notebook.ipynb").read_text()
        text = text.replace(str(runs / "smoke"), str(tmp_path / "smoke"))
        (tmp_path / f"{stage}.ipynb").write_text(text)
    done = nbval(tmp_path, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]


def test_nbval_notices_a_changed_output(smoke, tmp_path):
    """Without this the test above might be comparing nothing."""
    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    notebook = json.loads((runs / "smoke" / "05_grpo_rewards" / "notebook.ipynb").read_text())
    cells = [c for c in notebook["cells"] if "nbval-check-output" in c["metadata"]["tags"]]
    cells[0]["outputs"][0]["text"] = ["something else\n"]
    (tmp_path / "05.ipynb").write_text(json.dumps(notebook))
    done = nbval(tmp_path, tmp_path / "05.ipynb")
    assert done.returncode == 1 and "something else" in done.stdout


ARMS = """
name: arms
continues: smoke
groups: {rate: {as it is: 06_grpo, lower: rate-low}}
scales:
  nano:
    stages:
      - stage: rate-low
        notebook: 06_grpo
        model_from: 04_dpo
        parameters: {PROMPTS_PER_STEP: 4, GROUP_SIZE: 4, MICRO_BATCH: 16, MAX_STEPS: 2,
          MAX_NEW_TOKENS: 32, PROBE_PROMPTS: 4, LORA_RANK: 2,
          ALLOW_FAILED: &raw {completions clipped: raw, zero-variance groups: raw},
          ITERATIONS: 2, IMPORTANCE: sequence, LEARNING_RATE: 1.0e-4}
      - stage: 11_reward_models
        parameters: {PAIRS_KEPT: 40, PROCESS_ROWS: 64, EPOCHS: 1.0}
      - stage: judged
        notebook: 06_grpo
        model_from: 03_sft_stage2
        parameters: {PROMPTS_PER_STEP: 4, GROUP_SIZE: 4, MICRO_BATCH: 16, MAX_STEPS: 1,
          MAX_NEW_TOKENS: 32, PROBE_PROMPTS: 4, REWARDS_FROM: "",
          ALLOW_FAILED: {<<: *raw, paid more than honest work: a judge},
          REWARD_WEIGHTS: {learned: 1.0, accuracy: 0.0, reference_gain: 0.1},
          REWARD_MODEL_FROM: 11_reward_models, LOOK_TEMPERATURE: 1.0}
      - stage: 12_algorithms
        model_from: 03_sft_stage2
        parameters: &tiny {PROMPTS_PER_STEP: 2, GROUP_SIZE: 4, MICRO_BATCH: 8, MAX_STEPS: 2,
          MAX_NEW_TOKENS: 32, CRITIC_STEPS: 1}
      - stage: by_step
        notebook: 12_algorithms
        model_from: 03_sft_stage2
        parameters: {<<: *tiny, METHOD: process, REWARD_MODEL_FROM: 11_reward_models}
      - stage: side_by_side
        notebook: 07_evaluation
        parameters: {EVALUATE: [06_grpo, rate-low], BANDS: [longer], SAMPLES: 2,
          MAX_NEW_TOKENS: 32, PASS_QUESTIONS: 0}
"""


def test_arms_continue_a_finished_run_and_are_set_side_by_side(smoke, tmp_path):
    import pandas as pd

    runs, _ = smoke
    shutil.copytree(runs / "smoke", tmp_path / "smoke")
    (tmp_path / "arms.yaml").write_text(ARMS)
    done = command(tmp_path, "run", str(tmp_path / "arms.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("already finished") == len(STAGES)
    found = pd.read_csv(tmp_path / "smoke" / "arms.csv")
    assert [*found["arm"].unique()] == ["as it is", "lower"]
    assert set(found["band"]) == {"longer"} and set(found["n"]) == {4}
    said = pd.read_csv(tmp_path / "smoke" / "arms_replies.csv")  # looked at before the first step
    assert said.groupby("arm", sort=False)["step"].unique().map(list).to_dict() == {
        "as it is": [0],
        "lower": [0],
    }
    weights = tmp_path / "smoke" / "rate-low" / "model"
    assert not (weights / "adapter_config.json").exists()  # merged into a plain model
    log = pd.read_csv(tmp_path / "smoke" / "judged" / "log_history.csv")
    assert log["rewards/learned/mean"].dropna().between(0, 1).all()
    done = nbval(tmp_path, tmp_path / "smoke" / "12_algorithms" / "notebook.ipynb")
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_deep_dive_reads_a_table_without_training(tmp_path):
    """On the committed table, and again under nbval."""
    done = command(tmp_path, "run", "deep_dives")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("10_ablations", "13_reward_lab"):
        done = nbval(tmp_path, tmp_path / "deep_dives" / name / "notebook.ipynb")
        assert done.returncode == 0, done.stdout[-3000:]


SMALL_GSM8K = {
    "01_data_curation": [
        "GRPO_PROMPTS=8",
        "DPO_PROMPTS=8",
        "EVAL_PER_BAND=6",
    ],
    "00_start_here": ["HIDDEN_SIZE=16", "MAX_STEPS=4"],
    "02_sft_stage1": ["MAX_STEPS=2"],
    "03_sft_stage2": ["MAX_STEPS=2", "MAX_NEW_TOKENS=24"],
    "04_dpo": ["MAX_STEPS=2", "MAX_NEW_TOKENS=24", "BATCH_SIZE=4"],
    "05_grpo_rewards": ["PROBE_PROMPTS=2", "MAX_NEW_TOKENS=24"],
    "06_grpo": ["PROMPTS_PER_STEP=2", "MICRO_BATCH=16", "MAX_STEPS=1", "MAX_NEW_TOKENS=24"],
    "07_evaluation": ["MAX_NEW_TOKENS=24", "SAMPLES=2"],
}


def run_gsm8k(runs, folder):
    overrides = [
        word
        for stage, values in SMALL_GSM8K.items()
        for value in values
        for word in ("--set", f"{stage}.{value}")
    ]
    overrides += ["--set", f"01_data_curation.DATA_DIR={folder}"]
    done = command(runs, "run", "gsm8k", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_json(runs / "gsm8k" / "report.json"), done.stdout


def test_gsm8k_recipe_on_files_of_its_form(tmp_path):
    from test_data_sets import question

    folder = tmp_path / "gsm8k"

    def row(i):
        return {"question": question(i), "answer": f"{i} + 2 = {i + 2}\n#### {i + 2}"}

    write_rows(folder / "train.jsonl", [row(i) for i in range(40)])
    write_rows(folder / "test.jsonl", [row(i) for i in range(50, 62)])
    good = {"is_correct": True, "solution": "so it is\nA: 52"}
    bad = {"is_correct": False, "solution": "so it is not\nA: 9"}
    rows = [{"question": question(i), "a": good, "b": bad} for i in range(50, 54)]
    write_rows(folder / "model_solutions.jsonl", rows)
    report, _ = run_gsm8k(tmp_path / "runs", folder)
    assert {row["band"] for row in report["ladder"]} == {"gsm8k_test"}
    metrics = {s["stage"]: s["metrics"] for s in report["stages"]}["01_data_curation"]
    assert (metrics["eval_left_out"], metrics["eval_remaining"]) == (4, 8)
    assert any("4 evaluation questions also stand" in note for note in report["notes"])


@pytest.mark.real_data
def test_gsm8k_recipe_on_the_real_files(real_data, tmp_path):
    report, printed = run_gsm8k(tmp_path / "runs", real_data / "gsm8k")
    metrics = {s["stage"]: s["metrics"] for s in report["stages"]}["01_data_curation"]
    assert (metrics["eval_left_out"], metrics["eval_remaining"]) == (731, 588)


def test_the_module_runs_without_any_import_side_effect():
    code = (
        "import sys, pkgutil, importlib, trlm_utils\n"
        "for m in pkgutil.walk_packages(trlm_utils.__path__, 'trlm_utils.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        "heavy = {'torch', 'transformers', 'trl', 'lm_eval', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_notebook_order_on_disk():
    assert [Path(s).name for s in STAGES] == sorted(STAGES) and len(STAGES) == 9
