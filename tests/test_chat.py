"""The chat template: prefix property, where the loss lies, what survives decoding."""

from trlm_utils import chat, nanoworld, tokenization

TWO_TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "<think> 2 and 2.</think> The answer is 4."},
    {"role": "user", "content": "  And\n\n5? "},
    {"role": "assistant", "content": "The answer is 5."},
]


def test_rendered_text_byte_for_byte(tokenizer):
    assert chat.render(tokenizer, TWO_TURNS[:3]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n"
        "<|im_start|>assistant\n<think> 2 and 2.</think> The answer is 4.<|im_end|>\n"
    )


def test_prompt_is_a_prefix_of_the_trained_text(tokenizer):
    assert chat.prompt_is_prefix(tokenizer, TWO_TURNS[:3])
    assert chat.prompt_is_prefix(tokenizer, TWO_TURNS)


def test_prefix_check_notices_a_bad_template(tokenizer):
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace("assistant\\n' -}}", "assistant\\n\\n' -}}")
        assert tokenizer.chat_template != template
        assert not chat.prompt_is_prefix(tokenizer, TWO_TURNS)
    finally:
        tokenizer.chat_template = template


def test_loss_lies_on_every_reply_and_its_end_token_only(tokenizer):
    ids, mask = chat.loss_mask(tokenizer, TWO_TURNS)
    carried = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    first, second = TWO_TURNS[2]["content"], TWO_TURNS[4]["content"]
    assert carried == f"{first}<|im_end|>{second}<|im_end|>"


def test_think_tags_survive_skip_special_tokens(tokenizer):
    text = chat.think("12 + 5 = 17.", "The answer is 17.")
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_numbers_and_words_of_the_world_are_one_token_each(tokenizer):
    for number in range(100):
        assert len(tokenizer(f" {number}")["input_ids"]) == 1
    for problem in nanoworld.make_problems("tokens", 100):
        trace = " " + nanoworld.careful_trace(problem)
        pieces = tokenizer.tokenize(trace)
        assert all(len(p) > 1 or not p.isalnum() for p in pieces), pieces


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("Zürich costs 1,234 €.\n\tok", "日本語", "a  b", "12+5"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_pad_and_end_differ(tokenizer):
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.eos_token == tokenization.END


def test_with_system_keeps_an_existing_one():
    kept = chat.with_system(TWO_TURNS, "Other.")
    assert kept == TWO_TURNS
    assert chat.with_system(TWO_TURNS[1:], "Other.")[0]["content"] == "Other."


def test_visible_whitespace():
    assert chat.visible("a b\n\tc") == "a·b⏎\n⇥c"


def test_texts_of_a_pair_end_where_the_reply_does(tokenizer):
    """Rendered as messages, the template's line break behind the end token would count."""
    said = {
        side: [{"role": "assistant", "content": f"{side} 4."}] for side in ("chosen", "rejected")
    }
    pair = {"prompt": chat.to_prompt("2 + 2 ="), **said}
    found = chat.pair_texts(tokenizer, pair)
    assert found["prompt"] == chat.render(tokenizer, pair["prompt"], prompt=True)
    assert (found["chosen"], found["rejected"]) == ("chosen 4.", "rejected 4.")
    whole = chat.render(tokenizer, pair["prompt"] + pair["chosen"])
    assert whole == found["prompt"] + found["chosen"] + tokenizer.eos_token + "\n"


def test_a_beginning_that_the_tokenizer_adds_itself_is_not_in_the_text(tokenizer, monkeypatch):
    class Adds:
        eos_token, bos_token, bos_token_id = tokenizer.eos_token, "<bos>", 7

        def __call__(self, text):
            return {"input_ids": [7]}

    monkeypatch.setattr(
        chat, "render", lambda _, messages, prompt=False: "<bos>Q" + "A<|im_end|>\n" * (not prompt)
    )
    pair = {"prompt": [], "chosen": [], "rejected": []}
    assert chat.pair_texts(Adds(), pair) == {"prompt": "Q", "chosen": "A", "rejected": "A"}
