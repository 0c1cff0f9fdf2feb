"""TRL's trainers on the rehearsal device: two steps, a checkpoint, and resumed from it."""

import os
import subprocess
import sys

import pytest
import torch

from trlm_utils.files import PROJECT_ROOT

pytestmark = pytest.mark.sequence
HERE = PROJECT_ROOT / "tests" / "rehearsal"


def trained(folder, environment):
    """What `two_steps.py` wrote, for each method."""
    paths = [str(HERE), str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(HERE / "two_steps.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: torch.load(path) for path in folder.glob("*.pt")}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("there"), {"TRLM_REHEARSAL": "1"})


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("here"), {"ACCELERATE_TORCH_DEVICE": "cpu"})


def gap(one, other):
    """Largest difference of two models' weights; they have the same names."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_two_steps_there_are_two_steps_here(method, here, there):
    one, other = here[method], there[method]
    assert (one["device"], other["device"]) == ("cpu", "rehearsal:0")
    assert gap(one["before"], other["before"]) == 0
    # Adam divides a gradient by its own size, so rounding shows in weights that hardly have one:
    # a hundredth of one step of 0.01.
    assert gap(one["before"], one["after"]) > 0.01
    assert gap(one["after"], other["after"]) < 1e-4


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_resumed_from_the_first_step_the_second_is_the_same(method, there):
    found = there[method]
    assert found["steps"] == 2 and gap(found["after"], found["resumed"]) == 0
