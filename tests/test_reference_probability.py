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


def test_the_same_as_from_the_logits_of_every_position(model, tokenizer):
    contexts = ["Ana ", "Ben has 4 cups and Ana has 7. " * 4, "Compute ", "x"]
    references = ["has 12", "The answer is 11.", "5 + 5", "Ana"]
    spans = [(0, 6), (14, 16), (2, 5), (0, 3)]
    found = reference_probability.mean_probabilities(model, tokenizer, contexts, references, spans)
    for mean, context, text, (start, end) in zip(found, contexts, references, spans, strict=True):
        encoded = tokenizer(context + text, add_special_tokens=False, return_offsets_mapping=True)
        ids, first, last = encoded["input_ids"], start + len(context), end + len(context)
        chances = model(torch.tensor([ids])).logits[0].softmax(-1)
        wanted = [
            chances[place - 1, ids[place]].item()
            for place, (a, b) in enumerate(encoded["offset_mapping"])
            if b > first and a < last
        ]
        assert mean == pytest.approx(sum(wanted) / len(wanted), abs=1e-6)


def rows_of_logits(model, ask):
    """How many texts and positions reach the layer that makes the logits, each time."""
    shapes = []
    hook = model.get_output_embeddings().register_forward_hook(
        lambda layer, inputs, output: shapes.append(tuple(inputs[0].shape[:2]))
    )
    ask()
    hook.remove()
    return shapes


def test_logits_are_computed_only_where_they_are_needed(model, tokenizer):
    contexts = ["Ben has 4 cups and Ana has 7. " * 8] * 3
    count = len(tokenizer(" 11", add_special_tokens=False)["input_ids"])
    arguments = (model, tokenizer, contexts, [" 11"] * 3, [(0, 3)] * 3)
    shapes = rows_of_logits(model, lambda: reference_probability.mean_probabilities(*arguments))
    assert shapes == [(3, count)]  # of some seventy positions


def test_rows_of_logits_stay_within_their_limit(model, tokenizer, monkeypatch):
    monkeypatch.setattr(reference_probability, "LOGITS", 20)
    contexts = ["Ana has 7. " * n for n in (1, 9, 2, 8, 3, 7, 4, 6)]
    arguments = (model, tokenizer, contexts, ["Ben has 4 cups."] * 8, [(0, 15)] * 8)
    found = []
    shapes = rows_of_logits(
        model, lambda: found.extend(reference_probability.mean_probabilities(*arguments))
    )
    assert sum(texts for texts, _ in shapes) == 8 and len(shapes) > 1
    assert all(texts * positions <= 20 for texts, positions in shapes)
    monkeypatch.undo()
    assert found == pytest.approx(reference_probability.mean_probabilities(*arguments), abs=1e-6)


def test_batches_by_hand(monkeypatch):
    monkeypatch.setattr(reference_probability, "TOKENS", 12)
    monkeypatch.setattr(reference_probability, "LOGITS", 4)
    # by length 1, 3, 0, 2; texts 1 and 3 need positions 2 and 3, 2 x 2 rows of logits; with 0
    # they were 3 x 2, above 4; 0 and 2 would be 2 x 9 tokens, above 12
    found = reference_probability.batches([5, 4, 9, 4], [[3], [2], [8], [3]], batch_size=9)
    assert list(found) == [[1, 3], [0], [2]]
    found = reference_probability.batches([5, 4, 9, 4], [[3], [2], [8], [3]], batch_size=1)
    assert list(found) == [[1], [3], [0], [2]]


def test_a_span_without_a_token_is_said(model, tokenizer):
    arguments = (model, tokenizer, ["Ana "], ["has 12"], [(3, 3)])
    with pytest.raises(ValueError, match="no token between characters 7 and 7"):
        reference_probability.mean_probabilities(*arguments)


def test_nothing_to_ask_is_no_error(model, tokenizer):
    assert reference_probability.mean_probabilities(model, tokenizer, [], [], []) == []


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
