"""A recipe handed to Slurm: levels and scripts; and a real Slurm of one node, started here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trlm_utils.files import PROJECT_ROOT, write_json
from trlm_utils.runner import jobs, slurm, times
from trlm_utils.runner.parameters import RecipeError

RECIPE = """\
name: arrays
about: two arms of stage 1, of which one fails, and one that reads it
scales:
  nano:
    stages:
      - stage: 00_start_here
        parameters: {BASE_PROBLEMS: 320, HIDDEN_SIZE: 16}
      - stage: 01_data_curation
        parameters: {STAGE1_ROWS: 64, STAGE2_ROWS: 64, PREFERENCE_ROWS: 32, DPO_PROMPTS: 8,
                     GRPO_PROMPTS: 8, EVAL_PER_BAND: 2, DIRT_ROWS: 40}
      - {stage: 02_sft_stage1}
      - stage: broken
        notebook: 02_sft_stage1
        model_from: 00_start_here
        parameters: {DATASET: missing}
      - {stage: reads_broken, notebook: 03_sft_stage2, model_from: broken}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The recipe's path; its runs lie in a temporary folder."""
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "runs"))
    path = tmp_path / "arrays.yaml"
    path.write_text(RECIPE)
    return path


def runs_of(recipe, *seeds):
    found = []
    for seed in seeds or (0,):
        request = slurm.Request(str(recipe), "nano", seed)
        plan, folder = slurm.plan_of(str(recipe), "nano", seed, [])
        found.append((request, jobs.Run(plan, folder, f"arrays, seed {seed}")))
    return found


def names(levels):
    return [[(run.plan.seed, stage.stage) for _, run, stage in level] for level in levels]


def test_levels_follow_what_stages_read_and_seeds_stand_side_by_side(recipe):
    found = names(slurm.levels(runs_of(recipe, 0, 1)))
    assert [sorted({stage for _, stage in level}) for level in found] == [
        ["00_start_here"],
        ["01_data_curation"],
        ["02_sft_stage1", "broken"],
        ["reads_broken"],
    ]
    assert all([seed for seed, _ in level].count(1) == len(level) / 2 for level in found)


def test_finished_stages_are_not_submitted_again(recipe, monkeypatch):
    left = {"broken", "reads_broken"}
    monkeypatch.setattr(
        times, "to_run", lambda stages, *_: [one for one in stages if one.stage in left]
    )
    assert names(slurm.levels(runs_of(recipe))) == [[(0, "broken")], [(0, "reads_broken")]]


def test_a_script_has_one_task_a_stage_and_the_options_given(tmp_path):
    text = slurm.script(tmp_path / "run" / ".slurm", 3, 17, ["partition=main", "gpus=1"])
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in ("#SBATCH --array=0-16", "#SBATCH --partition=main", "#SBATCH --gpus=1"):
        assert line in lines
    assert lines[-1].endswith("level-3.json $SLURM_ARRAY_TASK_ID")
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


@pytest.mark.parametrize("option", ["partition", "gpus=", "--gpus=1", "time=1 day"])
def test_an_option_that_sbatch_would_misread_is_refused(recipe, option):
    with pytest.raises(RecipeError, match="write name=value"):
        slurm.submit(runs_of(recipe), [option], dry_run=True)


def test_a_dry_run_prints_scripts_and_writes_nothing(recipe, capsys):
    slurm.submit(runs_of(recipe), ["partition=main"], dry_run=True)
    said = capsys.readouterr().out
    assert "# level 3: 2 stages, after level 2" in said and "arrays, seed 0  broken" in said
    assert not (recipe.parent / "runs").exists()


def test_a_task_whose_input_is_missing_says_so(recipe, capsys):
    level = recipe.parent / "level-1.json"
    task = {"recipe": str(recipe), "scale": "nano", "seed": 0, "settings": []}
    write_json(level, {"ranks": 0, "tasks": [task | {"stage": "reads_broken"}]})
    assert slurm.main([str(level), "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: stage reads_broken needs ") and "broken" in said


@pytest.mark.parametrize(
    "content, said", [(None, "is missing"), ('{"ranks": 0, "tas', "is damaged")]
)
def test_a_list_of_tasks_that_cannot_be_read_is_one_line(tmp_path, capsys, content, said):
    level = tmp_path / "level-1.json"
    if content:
        level.write_text(content)
    assert slurm.main([str(level), "0"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


# --- a real Slurm -----------------------------------------------------------------

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


def _munge():
    """Start munge, which signs Slurm's messages, unless it runs."""
    if subprocess.run(["pgrep", "munged"], capture_output=True).returncode == 0:
        return
    key = Path("/etc/munge/munge.key")
    if not key.exists():
        key.write_bytes(os.urandom(1024))
    for place in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(place).mkdir(parents=True, exist_ok=True)
        shutil.chown(place, "munge", "munge")
    shutil.chown(key, "munge", "munge")
    key.chmod(0o400)
    subprocess.run(["su", "-s", "/bin/bash", "munge", "-c", "/usr/sbin/munged"], check=True)


@pytest.fixture
def cluster(tmp_path_factory):
    """A Slurm of one node with two cores; skipped where it is not installed."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.getuid():
        pytest.skip("no Slurm here (apt-get install slurm-wlm munge, as root)")
    folder = tmp_path_factory.mktemp("slurm")
    host = subprocess.run(["hostname", "-s"], capture_output=True, text=True).stdout.strip()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder))
    before, os.environ["SLURM_CONF"] = os.environ.get("SLURM_CONF"), str(folder / "slurm.conf")
    try:
        _munge()
        subprocess.run(["slurmctld", "-c"], check=True)
        subprocess.run(["slurmd", "-c"], check=True)
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Slurm's daemons do not start here: {error}")
    try:
        ends = time.time() + 60
        while "idle" not in _said("sinfo", "--noheader", "-o", "%t"):
            assert time.time() < ends, (folder / "ctld.log").read_text()[-2000:]
            time.sleep(0.5)
        yield folder
    finally:
        subprocess.run(["scancel", "--user", "root"])
        for name in ("d.pid", "ctld.pid"):
            if (folder / name).exists():
                os.kill(int((folder / name).read_text()), signal.SIGTERM)
        if before is None:
            del os.environ["SLURM_CONF"]


def _said(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def _submit(recipe):
    command = [sys.executable, "-m", "trlm_utils", "submit", str(recipe)]
    command += ["--slurm", "partition=main", "cpus-per-task=1"]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)


def _wait():
    ends = time.time() + 900
    while _said("squeue", "--noheader").strip():
        assert time.time() < ends, _said("squeue")
        time.sleep(1)


@pytest.mark.sequence
def test_a_recipe_runs_on_a_real_slurm_and_a_failing_arm_stops_what_needs_it(cluster, recipe):
    first = _submit(recipe)
    assert first.returncode == 0, first.stderr
    assert "level 3: 2 stages" in first.stdout and "reports: job" in first.stdout
    again = _submit(recipe)
    assert again.returncode == 2 and "have not ended" in again.stderr
    _wait()
    run = recipe.parent / "runs" / "arrays"
    done = [path.parent.name for path in run.glob("*/metrics.json")]
    assert sorted(done) == ["00_start_here", "01_data_curation", "02_sft_stage1"]
    logs = {path.name: path.read_text() for path in (run / ".slurm").glob("level-*.log")}
    assert "data/missing.jsonl" in logs["level-3-1.log"]
    assert "needs broken, which is not finished" in logs["level-4-0.log"]
    assert (run / "report.html").exists(), (run / ".slurm" / "reports.log").read_text()
    third = _submit(recipe)  # only what is not finished
    assert third.returncode == 0, third.stderr
    tasks = json.loads((run / ".slurm" / "level-1.json").read_text())["tasks"]
    assert [task["stage"] for task in tasks] == ["broken"]
