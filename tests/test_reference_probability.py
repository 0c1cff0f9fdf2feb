"""The probability of a reference answer, against the model's own logits."""

import pytest
import torch

from trlm_utils import chat
from trlm_utils.rewards import mixes, model_rewards, reference_probability


def test_where_an_answer_would_begin():
    begin = reference_probability.before_the_answer
    assert begin("<think> a.</think> The answer is 5.") == "<think> a.</think> "
    assert begin("<think> a.</think>\n<answer>5</answer>") == "<think> a.</think>\n<answer>"
    assert begin("<reasoning>a</reasoning> 5") == "<reasoning>a</reasoning> "
    assert begin("The answer is 5.") == ""
    assert begin("<think> never closed") is None


def test_only_the_answer_in_the_reference_counts():
    assert reference_probability.scored_span("The answer is 5.", "5") == (14, 15)
    assert reference_probability.scored_span("5 or 5.", "5") == (5, 6)
    assert reference_probability.scored_span("Please give Ana the cups.") == (0, 25)


def test_mean_probability_is_that_of_the_logits(model, tokenizer):
    context, reference = "Ana has", " 12 cups."
    ids = torch.tensor([tokenizer(context + reference, add_special_tokens=False)["input_ids"]])
    start = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    chance = model(ids).logits[0].softmax(-1)
    wanted = [chance[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1])]
    texts = ([context, "x"], [reference, "a longer reference than the other"])
    found = reference_probability.mean_probabilities(model, tokenizer, *texts, [(0, 9), (0, 33)])
    assert found[0] == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_batches_do_not_change_it(model, tokenizer):
    contexts, references = ["Ana ", "Ben has 4 ", "Compute "], ["has 12", "cups", "5 + 5"]
    spans = [(0, len(r)) for r in references]
    arguments = (model, tokenizer, contexts, references, spans)
    one = reference_probability.mean_probabilities(*arguments, batch_size=1)
    assert reference_probability.mean_probabilities(*arguments) == pytest.approx(one, rel=1e-4)


def fake(table):
    """mean_probabilities that reads a table from context to probability."""

    def look_up(model, tokenizer, contexts, references, spans, batch_size=0):
        return [table[context] for context in contexts]

    return look_up


def test_the_gain_is_clipped_and_what_never_answers_gets_nothing(monkeypatch):
    chances = {"Q": 0.3, "Q<think> good.</think> ": 0.9, "Q<think> bad.</think> ": 0.1}
    monkeypatch.setattr(reference_probability, "mean_probabilities", fake(chances))
    texts = ["<think> good.</think> 5", "<think> bad.</think> 5", "<think> open", "5"]
    found = reference_probability.gains(None, None, ["Q"] * 4, texts, ["5"] * 4, [""] * 4)
    assert found == pytest.approx([0.6, 0.0, 0.0, 0.0])


def test_the_router_grades_what_it_can_and_asks_the_model_for_the_rest(monkeypatch):
    monkeypatch.setattr(
        reference_probability, "mean_probabilities", fake({"Q": 0.2, "Q<think> so.</think> ": 0.7})
    )
    texts = ["<think> so.</think> 5"] * 3
    asked = model_rewards.Models(policy=object(), tokenizer=object())
    found = model_rewards.routed(texts, ["Q"] * 3, ["5", "6", ""], ["", "", "Hello."], models=asked)
    assert found == pytest.approx([1.0, 0.0, 0.5])


def test_rows_without_answer_and_reference_do_not_apply(monkeypatch):
    asked = model_rewards.Models(policy=object(), tokenizer=object())
    assert model_rewards.reference_gain(["5"], ["Q"], [""], [""], models=asked) == [None]
    assert model_rewards.routed(["5"], ["Q"], [""], models=asked) == [None]


def test_without_a_model_it_says_so():
    with pytest.raises(ValueError, match="reference_gain asks a model.*policy, tokenizer"):
        model_rewards.reference_gain(["5"], ["Q"], ["5"])
    functions, _ = mixes.choose({"learned": 1.0})
    with pytest.raises(ValueError, match="learned asks a model"):
        functions[0](completions=["5"], prompts=[chat.to_prompt("Q")])


def test_by_name_with_the_models_filled_in(model, tokenizer):
    asked = model_rewards.Models(policy=model, tokenizer=tokenizer)
    (function,), _ = mixes.choose({"reference_gain": 1.0}, asked)
    assert function.__name__ == "reference_gain"
    found = function(completions=["5"], prompts=[chat.to_prompt("What?")], answer=["5"])
    assert found == [0.0]  # without a thought there is nothing to gain
    assert mixes.can_score({"reference_gain": 1.0}, asked)
    assert not mixes.can_score({"learned": 1.0}, asked)
