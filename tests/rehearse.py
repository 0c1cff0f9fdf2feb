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

from trlm_utils.files import PROJECT_ROOT, read_json

HERE = PROJECT_ROOT / "tests" / "rehearsal"
FULL = ("trlm", "qwen-rl", "tina", "tiny-r1", "tunix")
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


def test_deep_dives(tmp_path):
    done = command(tmp_path, "run", "deep_dives")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("recipe", FULL)
def test_recipes_at_full_scale_build_and_take_a_step(recipe, tmp_path):
    done = command(tmp_path, "verify", recipe)
    assert done.returncode == 0, done.stdout + done.stderr


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
