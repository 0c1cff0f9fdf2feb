"""The whole course on an accelerator that exists only in Python (`rehearsal/device.py`).

    make rehearse

Every notebook, every method of training and every recipe at full scale (`verify`) runs with
models on the device and refuses a tensor that was left on the CPU. Not collected by
``make test``: it takes minutes.
"""

import os
import subprocess
import sys

import pytest
import yaml

from trlm_utils.evaluation import suites
from trlm_utils.files import PROJECT_ROOT, read_json, read_rows
from trlm_utils.runner import recipe_file

HERE = PROJECT_ROOT / "tests" / "rehearsal"
TRAINING = ("00_start_here", "02_sft_stage1", "03_sft_stage2", "04_dpo", "06_grpo")


def command(runs, *arguments):
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "trlm_utils", *arguments],
        env=os.environ
        | {
            "TRLM_RUNS_DIR": str(runs),
            "TRLM_REHEARSAL": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
        },
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The runs folder of a finished smoke recipe."""
    runs = tmp_path_factory.mktemp("rehearsal")
    done = command(runs, "run", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return runs


def test_every_stage_held_its_tensors_on_the_device(smoke):
    for stage in TRAINING:
        metrics = read_json(smoke / "smoke" / stage / "metrics.json")
        assert metrics["peak_device_mb"] > 0, stage
        assert metrics["precision"] == "fp32"


def test_reward_models_all_methods_and_adapters(smoke):
    done = command(smoke, "run", str(HERE / "rehearsal.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group("rehearse deep_dives")
def test_deep_dives(tmp_path):
    done = command(tmp_path, "run", "deep_dives")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group("rehearse trlm")
def test_full_scale_trlm_builds_and_takes_one_step_a_stage(tmp_path):
    done = command(tmp_path, "verify", "trlm")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "trlm-full-verified"
    for stage in ("02_sft_stage1", "03_sft_stage2", "04_dpo"):
        assert read_json(folder / stage / "metrics.json")["steps"] == 1
    text = (folder / "verified.md").read_text()
    assert "The full run was **not** made" in text
    assert "LOSS_TYPE apo_zero" in text and "NEFTUNE 0.02" in text
    asked = folder / "07_evaluation" / "data"
    for name in ("ladder", "published"):  # all seven benchmarks, from files
        assert {row["band"] for row in read_rows(asked / f"{name}.jsonl")} == set(
            suites.load("trlm").tasks
        )
    raw = read_rows(asked / "raw_04_dpo.jsonl")
    assert all(row["prompt"] and "reply" in row for row in raw)


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        pytest.param(name, kept, marks=pytest.mark.xdist_group(f"rehearse {name}"))
        for name, kept in (
            ("qwen-rl", "TEMPERATURE 0.9"),
            ("tiny-r1", "GAMMA 0.99"),
            ("tunix", "KL_BETA 0.08"),
        )
    ],
)
def test_full_scale_of_the_other_systems_builds_and_takes_one_step_a_stage(recipe, kept, tmp_path):
    done = command(tmp_path, "verify", recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / f"{recipe}-full-verified"
    stages = [read_json(path) for path in folder.glob("*/metrics.json")]
    trained = [metrics["steps"] for metrics in stages if metrics.get("trainable_parameters")]
    assert len(trained) >= 4 and set(trained) == {1}
    assert kept in (folder / "verified.md").read_text()


@pytest.mark.xdist_group("rehearse gsm8k")
@pytest.mark.parametrize(
    ("scale", "kept"), [("full", "EPSILON_HIGH 0.28"), ("lora", "LORA_RANK 32")]
)
def test_grpo_on_gsm8k_builds_and_takes_one_step(scale, kept, tmp_path):
    done = command(tmp_path, "verify", "qwen-gsm8k", "--scale", scale)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / f"qwen-gsm8k-{scale}-verified"
    assert read_json(folder / "06_grpo" / "metrics.json")["steps"] == 1
    assert kept in (folder / "verified.md").read_text()


@pytest.mark.xdist_group("rehearse tina")
def test_full_scale_of_tina_builds_with_all_its_data_and_an_arm_of_each_kind(tmp_path):
    """Its arms differ in numbers only; all sixteen would take minutes."""
    recipe = yaml.safe_load((recipe_file.RECIPES / "tina.yaml").read_text())
    full = recipe["scales"]["full"]
    arms = ("rank_64", "open_rs2", "loss_dr", "thoughts")
    full["stages"] = [
        stage
        for stage in full["stages"]
        if stage["stage"] in arms or stage.get("notebook") != "06_grpo"
    ]
    full["groups"] = {"arms": {name: name for name in ("open_rs2/step_50", *arms)}}
    recipe["result"] = "rank_64"
    del recipe["scales"]["nano"], recipe["deviations"]["nano"]
    path = tmp_path / "tina.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = command(tmp_path, "verify", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "tina-full-verified"
    collected = [read_json(p)["built"] for p in folder.glob("*data*/metrics.json")]
    assert len(collected) == 6 and all(built["grpo_prompts"] for built in collected)
    assert {read_json(folder / name / "metrics.json")["steps"] for name in arms} == {1}
    assert "LORA_ALPHA 256.0" in (folder / "verified.md").read_text()
    # a checkpoint is evaluated beside the models, on all six benchmarks
    asked = folder / "07_evaluation" / "data"
    records = read_rows(asked / "records_open_rs2" / "step_1.jsonl")
    assert {record["band"] for record in records} == set(suites.load("tina").tasks)


def test_a_tensor_left_on_the_cpu_fails_the_stage(smoke, tmp_path):
    """The rehearsal can fail: a reward of one's own plants a tensor of the CPU."""
    reward = tmp_path / "planted.py"
    reward.write_text(
        "import torch\n\n"
        "def planted(completions, **columns):\n"
        "    here, there = torch.ones(2), torch.ones(2, device='rehearsal:0')\n"
        "    return [float((here + there).sum())] * len(completions)\n"
    )
    mix = f'06_grpo.REWARD_WEIGHTS={{"{reward}:planted": 1.0}}'
    settings = ["--set", '06_grpo.REWARDS_FROM=""', "--set", mix]
    done = command(smoke, "run", "smoke", "--only", "06_grpo", *settings)
    assert done.returncode != 0
    assert "Expected all tensors to be on the same device" in done.stdout + done.stderr
