"""Task files and commands for rented cards: their syntax, not their clouds."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trlm_utils.runner import clouds, command
from trlm_utils.runner.parameters import RecipeError


def test_skypilots_file_is_yaml_and_its_commands_are_shell():
    task = yaml.safe_load(clouds.text("sky", ["tina"], "full", "0,1", "L40S"))
    assert task["resources"]["accelerators"] == "L40S:1" and task["workdir"] == "."
    assert task["run"].strip() == "python -m trlm_utils run tina --scale full --seed 0,1"
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True).returncode == 0


def test_hugging_faces_own_command_line_reads_it_as_meant():
    words = shlex.split(clouds.text("hf", ["trlm"], "full", "0", "A100"))
    words[0] = str(Path(sys.executable).with_name("hf"))
    if not Path(words[0]).exists():
        pytest.skip("huggingface_hub has no command line here")
    words.insert(words.index("--detach"), "--dry-run")
    environment = os.environ | {"HF_TOKEN": "hf_" + "x" * 30}
    said = subprocess.run(words, env=environment, capture_output=True, text=True).stdout
    for expected in (
        "flavor   a100-large",
        "timeout  24h",
        "volumes  hf://buckets/OWNER/trlm:/runs",
    ):
        assert expected in said
    inside = words[-1]
    assert subprocess.run(["bash", "-n"], input=inside, text=True).returncode == 0
    assert inside.endswith("python -m trlm_utils run trlm --scale full --seed 0")


def test_a_card_that_hugging_face_has_not_is_refused_with_those_it_has():
    with pytest.raises(RecipeError, match="MI300X: Hugging Face Jobs has T4, L4"):
        clouds.text("hf", ["trlm"], "full", "0", "MI300X")


@pytest.mark.parametrize("words", [[], ["--slurm", "gpus=1", "--print", "sky"]])
def test_submit_wants_one_place_to_submit_to(words, capsys):
    assert command.main(["submit", "smoke", *words]) == 2
    assert "submit --slurm NAME=VALUE ..., or" in capsys.readouterr().err
