"""Exporting a stage's model from the command line."""

import pytest
from test_model_card import run  # noqa: F401 (a fixture)

from trlm_utils import models
from trlm_utils.runner import command


def test_the_folder_holds_model_card_and_gguf(run, tokenizer, capsys):  # noqa: F811
    from transformers import AutoModelForCausalLM, AutoTokenizer

    small = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2, model_type="qwen3")
    models.save_model(small, tokenizer, run / "06_grpo" / "model")
    assert command.main(["export", str(run / "06_grpo"), "--gguf"]) == 0
    place = run / "exported" / "06_grpo"
    assert "exported/06_grpo" in capsys.readouterr().out
    names = {path.name for path in place.iterdir()}
    assert {"README.md", "model.gguf", "model.safetensors", "chat_template.jinja"} <= names
    assert "`model.gguf` is the same model" in (place / "README.md").read_text()
    assert AutoTokenizer.from_pretrained(place).get_vocab() == tokenizer.get_vocab()
    assert AutoModelForCausalLM.from_pretrained(place).config.model_type == "qwen3"
    assert command.main(["export", str(run / "06_grpo")]) == 0  # again: replaced
    assert not (place / "model.gguf").exists()


def test_a_folder_of_ones_own_is_never_overwritten(run, tmp_path, capsys):  # noqa: F811
    mine = tmp_path / "mine"
    assert command.main(["export", str(run / "06_grpo"), "--out", str(mine)]) == 0
    assert command.main(["export", str(run / "06_grpo"), "--out", str(mine)]) == 2
    assert "mine is no empty folder: name a new one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "message"),
    [("nowhere", "no model in"), ("01_data_curation", "no model in"), ("cut", "is cut off")],
)
def test_a_wrong_request_gets_one_line(run, capsys, stage, message):  # noqa: F811
    if stage == "cut":
        (run / "06_grpo").rename(run / "cut")
        (run / "cut" / "model" / "model.safetensors").write_bytes(b"short")
    assert command.main(["export", str(run / stage)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (run / "exported").exists()
