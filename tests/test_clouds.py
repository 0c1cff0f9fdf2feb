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
    task = yaml.safe_load(clouds.text("sky", ["tina", "--set", "a.B=[1, 2]"], "L40S", 4))
    assert task["resources"]["accelerators"] == "L40S:4" and task["workdir"] == "."
    assert task["run"].strip() == "python -m trlm_utils run tina --set 'a.B=[1, 2]'"
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True).returncode == 0


def test_hugging_faces_own_command_line_reads_it_as_meant():
    words = shlex.split(clouds.text("hf", ["trlm", "--scale", "full", "--seed", "0"], "A100"))
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
    with pytest.raises(RecipeError, match="1 x MI300X: Hugging Face Jobs has one of T4, L4"):
        clouds.text("hf", ["trlm"], "MI300X")


@pytest.mark.parametrize("words", [[], ["--slurm", "gpus=1", "--print", "sky"]])
def test_submit_wants_one_place_to_submit_to(words, capsys):
    assert command.main(["submit", "smoke", *words]) == 2
    assert "submit --slurm NAME=VALUE ..., or" in capsys.readouterr().err


def test_what_was_set_and_the_ranks_are_in_the_command(capsys):
    words = ["submit", "tina", "--scale", "full", "--set", "rank_32.LEARNING_RATE=1.0e-4"]
    assert command.main([*words, "--ranks", "4", "--print", "sky"]) == 0
    said = capsys.readouterr().out
    assert "--set rank_32.LEARNING_RATE=1.0e-4 --ranks 4" in said and "A100:4" in said


def test_a_recipe_that_is_not_there_is_told_before_a_card_is_rented(capsys):
    assert command.main(["submit", "absent", "--print", "sky"]) == 2
    assert "absent" in capsys.readouterr().err
