"""Tokenizers: the tiny one, and downloaded ones, in which think tags stay plain text."""

import pytest

from trlm_utils import architectures, chat, nanoworld, tokenization

TAGS = "<think> Ana has 12.</think> The answer is 5."


def test_vocabulary_is_bounded_and_whole_words_are_frequent_ones():
    tokenizer = tokenization.build_tokenizer(["zebra zebra zebra yak"] * 3, vocab_size=370)
    assert len(tokenizer) <= 370
    assert tokenizer.tokenize(" zebra") == ["Ġzebra"]


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match="no room"):
        tokenization.build_tokenizer(["a"], vocab_size=300)


def test_the_tiny_tokenizer_has_the_tags_as_tokens_or_as_text():
    texts = ["I (think) so"] * 3
    with_tags = tokenization.build_tokenizer(texts, 400)
    assert with_tags.tokenize("<think>") == ["<think>"]
    without = tokenization.build_tokenizer(texts, 400, think_tokens=())
    assert without.tokenize("<think>") == ["<", "think", ">"]
    assert len(without) == len(with_tags) - 2


def test_tags_stay_text_in_a_downloaded_tokenizer(downloaded):
    size = len(downloaded)
    fitted = tokenization.prepare_tokenizer(downloaded)
    assert len(fitted) == size
    assert fitted.tokenize("<think>") == ["<", "think", ">"]
    ids = fitted(TAGS)["input_ids"]
    assert fitted.decode(ids, skip_special_tokens=True) == TAGS


def test_a_tag_that_is_a_token_stays_one(downloaded):
    downloaded.add_tokens(list(tokenization.THINK_TOKENS))  # as in Qwen3
    fitted = tokenization.prepare_tokenizer(downloaded)
    assert fitted.tokenize("<think>a</think>") == ["<think>", "a", "</think>"]


def test_padding_is_not_the_end_token(downloaded):
    fitted = tokenization.prepare_tokenizer(downloaded)
    assert (fitted.eos_token, fitted.pad_token) == ("<|im_end|>", tokenization.TEXT_END)


def test_added_tags_are_ordinary_tokens_and_are_added_once(downloaded):
    size = len(downloaded)
    assert tokenization.add_think_tokens(downloaded) == [size, size + 1]
    assert tokenization.add_think_tokens(downloaded) == []
    ids = downloaded(TAGS)["input_ids"]
    assert {size, size + 1} <= set(ids)
    assert downloaded.decode(ids, skip_special_tokens=True) == TAGS


@pytest.mark.parametrize("contract", chat.CONTRACTS)
def test_the_tokens_of_a_prompt_begin_those_of_the_conversation(downloaded, contract):
    """Else generation would start from tokens that training never puts there."""
    fitted = tokenization.prepare_tokenizer(downloaded)
    turns = chat.to_messages("Q?", chat.in_contract(contract, "2 and 2: 4.", "The answer is 4."))
    assert chat.prompt_is_prefix(fitted, turns)
    prompt = fitted(chat.render(fitted, turns[:-1], prompt=True))["input_ids"]
    assert fitted(chat.render(fitted, turns))["input_ids"][: len(prompt)] == prompt


def test_a_tokenizer_without_chat_tokens_is_refused():
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE({"a": 0}, [])))
    with pytest.raises(ValueError, match="im_start"):
        tokenization.prepare_tokenizer(bare)


def test_the_family_is_told_by_the_tokens():
    from trlm_utils import nanoworld

    for name, family in (("gemma-2-2b-it", "gemma"), ("SmolLM2-135M-Instruct", "chatml")):
        _, tokenizer = architectures.build_stand_in(name, nanoworld.sample_text(20))
        assert tokenization.family_of(tokenizer) == family


@pytest.mark.parametrize(
    ("name", "tokens"), [("DeepSeek-R1-Distill-Qwen-1.5B", 1), ("SmolLM2-135M-Instruct", 7)]
)
def test_stand_ins_have_the_tags_as_the_real_tokenizer_has_them(name, tokens):
    """One token, or text: a stand-in without merges spells it out, a token a byte."""
    _, tokenizer = architectures.build_stand_in(name, nanoworld.sample_text(20))
    assert len(tokenizer.tokenize("<think>")) == tokens
