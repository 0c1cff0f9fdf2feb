"""The model card: every number stands in a file of the run, and the Hub can read it."""

import pytest

from trlm_utils import models
from trlm_utils.evaluation import model_card
from trlm_utils.files import CourseError, write_json, write_rows

LADDER = {"stage": "06_grpo", "seed": 3, "n": 40, "truncated": 0.05}


def leave(run, stage, metrics, **parameters):
    wiring = {"STAGE": stage, "RECIPE": "own", "SEED": 3, "RUN_DIR": "/somewhere"}
    manifest = {"status": "finished", "recipe": "own", "seed": 3, "versions": {"trl": "1.16.0"}}
    write_json(run / stage / "manifest.json", manifest | {"parameters": wiring | parameters})
    write_json(run / stage / "metrics.json", metrics)


@pytest.fixture
def run(tmp_path, model, tokenizer):
    """A run of three stages and its evaluation, written by hand."""
    leave(tmp_path, "00_start_here", {"tokens": 1200}, BASE_MODEL="")
    kept = {"sft": 1500, "eval": 80}
    counts = {"kept": kept, "contaminated": {"sft": 7}}
    leave(tmp_path, "01_data_curation", counts, SOURCE="nanoworld")
    metrics = {"tokens": 34567, "headline": "reward 0.1 -> 0.2"}
    links = {"MODEL_FROM": "00_start_here", "DATA_FROM": "01_data_curation"}
    leave(tmp_path, "06_grpo", metrics, **links, LEARNING_RATE=0.0005, MAX_NEW_TOKENS=77)
    models.save_model(model, tokenizer, tmp_path / "06_grpo" / "model")
    how = LADDER | {"band": "longer", "form": "chat"}
    rows = [
        how
        | {"decoding": "greedy", "accuracy": 0.425, "low": 0.285, "high": 0.578, "checked": 0.4},
        how | {"decoding": "sampled", "accuracy": 0.3, "low": 0.2, "high": 0.4, "checked": None},
        how | {"stage": "00_start_here", "decoding": "greedy", "accuracy": 0.111, "checked": 0.0},
    ]
    data = tmp_path / "07_evaluation" / "data"
    write_rows(data / "ladder.jsonl", rows)
    above = {"band": "longer", "decoding": "greedy", "form": "chat", "from_form": "plain"}
    above |= {"from": "00_start_here", "difference": 0.125, "low": -0.05, "high": 0.3}
    write_rows(data / "over_base.jsonl", [above | {"to": "06_grpo"}, above | {"to": "other"}])
    asked = [{"band": "longer", "question": 'How many "x|y"?', "difficulty": n} for n in (5, 6)]
    write_rows(data / "questions.jsonl", asked)
    return tmp_path


def test_every_number_of_the_run_is_on_the_card(run, model):
    text = str(model_card.make(run / "06_grpo"))
    for line in (
        f"{model.num_parameters():,} parameters, trained from random weights in the stages "
        "00_start_here, 06_grpo of the recipe `own`, seed 3",
        '"content": "How many \\"x|y\\"?"',
        "max_new_tokens=77",
        "| longer | 40 | 5 to 6 | How many",
        "| longer | chat | greedy | 42.5 [28.5, 57.8] | 40.0 | 5.0 |",
        "| longer | chat | sampled | 30.0 [20.0, 40.0] |  | 5.0 |",
        "| longer | greedy | plain | +12.5 [-5.0, +30.0], none detected |",
        "- Asked greedily it is wrong more often than right on: longer (42.5 %).",
        "| sft | 1,500 | 7 |",
        "| eval | 80 |  |",
        "`06_grpo`, 34,567 tokens: reward 0.1 -> 0.2",
        "LEARNING_RATE: 0.0005",
        "Made with trl 1.16.0.",
        "MIT, as the course",
    ):
        assert line in text, line
    for other in ("11.1", "/somewhere", "RUN_DIR", "gguf", "None"):
        assert other not in text, other


def test_the_hub_reads_the_metadata(run):
    data = model_card.make(run / "06_grpo").data
    assert (data.license, data.library_name, data.language) == ("mit", "transformers", "en")
    assert data.model_name == "own: 06_grpo"
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {"accuracy, chat, greedy": 0.425, "accuracy, chat, sampled": 0.3}
    assert {result.dataset_name for result in data.eval_results} == {"longer"}


def test_a_base_model_is_named_and_its_licence_is_not_ours(run):
    leave(run, "00_start_here", {}, BASE_MODEL="someone/small")
    card = model_card.make(run / "06_grpo")
    assert card.data.license == "other" and card.data.base_model == "someone/small"
    text = str(card)
    assert "from [someone/small](https://huggingface.co/someone/small)" in text
    assert "knows the words" not in text and "MIT" not in text


def test_data_of_others_has_a_licence_of_its_own(run):
    leave(run, "01_data_curation", {"kept": {}}, SOURCE="gsm8k")
    assert model_card.make(run / "06_grpo").data.license == "other"


def test_a_model_that_was_not_evaluated_says_so(run):
    (run / "07_evaluation" / "data" / "ladder.jsonl").unlink()
    card = model_card.make(run / "06_grpo")
    assert "No evaluation of this model was found" in str(card)
    assert not card.data.eval_results


def test_the_file_for_llama_cpp_is_named_with_what_it_cannot_say(run):
    text = str(model_card.make(run / "06_grpo", "small.gguf"))
    assert "`small.gguf` is the same model for llama.cpp" in text
    assert "words and no merges" in text


def test_a_stage_that_is_gone_is_named(run):
    (run / "00_start_here" / "manifest.json").unlink()
    with pytest.raises(CourseError, match="00_start_here/manifest.json: a card needs the stages"):
        model_card.make(run / "06_grpo")
