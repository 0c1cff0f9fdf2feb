"""Tokenizers: build a tiny one from text, or adapt a pretrained one to the course.

The tiny tokenizer is a byte-level BPE in which the most frequent words, and every
number 0-99, are one token each. All other text falls back to bytes, so there are no
unknown tokens. A number is one token only after a space: in ``is 12``, not in ``is12``.

The think tags are one token each in the tiny tokenizer; the model learns them from
random weights. A pretrained tokenizer is not changed: a tag is one token where the
vocabulary has it (Qwen3, DeepSeek-R1), else plain text in tokens that the model knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, START, END, TEXT_END = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"


SPECIAL_TOKENS = (PAD, START, END, TEXT_END)


THINK_TOKENS = ("<think>", "</think>")


TEMPLATES = Path(__file__).with_name("templates")


# Family -> tokens that its chat template (`templates/`) needs; the last one ends a turn.
FAMILIES = {
    "deepseek": ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "chatml": (START, END),
}


NUMBERS = 100  # 0 to 99 are one token each
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS) + len(THINK_TOKENS) + NUMBERS + 1  # 1 word


def build_tokenizer(
    texts: Iterable[str],
    vocab_size: int = 512,
    number_tokens: int = NUMBERS,
    think_tokens: Sequence[str] = THINK_TOKENS,
) -> PreTrainedTokenizerBase:
    """Build a byte-level BPE tokenizer whose whole-word tokens are the most frequent words.

    Args:
        texts: the text to count words in.
        vocab_size: number of entries, including 256 bytes, 4 special tokens and the
            think tags.
        number_tokens: numbers 0..number_tokens-1 get a token each (with the space
            before them).
        think_tokens: the tags that become one token each; if empty, tags are plain text.

    Returns:
        A tokenizer with the course's chat template, ``<|im_end|>`` as end token and
        a separate pad token. (If the end token were also the pad token, masking the
        padding would mask the end token too, and the model would not learn to stop.)
        The think tags are ordinary tokens, because TRL and lm-eval drop special tokens
        when they decode.

    Raises:
        ValueError: when vocab_size leaves no room for words.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as bpe
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    entries = [*SPECIAL_TOKENS, *think_tokens]
    entries += sorted(pre_tokenizers.ByteLevel.alphabet())
    entries += [f"Ġ{number}" for number in range(number_tokens)]
    room = vocab_size - len(dict.fromkeys(entries))
    if room <= 0:
        raise ValueError(f"vocab_size {vocab_size} leaves no room for words")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in byte_level.pre_tokenize_str(text))
    known = set(entries)
    words = [w for w in sorted(counts, key=lambda w: (-counts[w], w)) if w not in known]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(entries + words[:room]))}

    # No merges: a word is either one token or a sequence of bytes.
    tokenizer = Tokenizer(bpe.BPE(vocab, [], ignore_merges=True))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in think_tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=template("chatml"),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def template(family: str) -> str:
    """The chat template of a family of models."""
    return (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")


def family_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The family (`FAMILIES`) whose tokens are all in a tokenizer's vocabulary.

    Raises:
        ValueError: when no family fits.
    """
    vocab = tokenizer.get_vocab()
    for family, tokens in FAMILIES.items():
        if all(token in vocab for token in tokens):
            return family
    known = "; ".join(f"{family}: {' '.join(tokens)}" for family, tokens in FAMILIES.items())
    raise ValueError(f"the tokenizer lacks what a chat template needs ({known})")


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Adapt a pretrained chat tokenizer to the course, in place.

    Sets the chat template of its family, padding on the left, and a pad token other than
    the end token. (SmolLM2 pads with its end token. Then masking the padding would also
    mask the end token, and the model would not learn to stop.) The think tags are not
    added: see `add_think_tokens`.

    Raises:
        ValueError: see `family_of`.
    """
    family, vocab = family_of(tokenizer), tokenizer.get_vocab()
    end = FAMILIES[family][-1]
    tokenizer.chat_template = template(family)
    tokenizer.eos_token = end
    if tokenizer.pad_token in (None, end):
        tokenizer.pad_token = TEXT_END if TEXT_END in vocab else PAD
        if TEXT_END not in vocab:
            tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "left"
    return tokenizer


def add_think_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Add each think tag as one ordinary token, unless the tokenizer already has it.

    The model needs an embedding row for each new token (`models.add_think_tokens`).

    Returns:
        The ids of the new tokens; empty if the tokenizer already has the tags.
    """
    from tokenizers import AddedToken

    vocab = tokenizer.get_vocab()
    new = [token for token in THINK_TOKENS if token not in vocab]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in new])
    return tokenizer.convert_tokens_to_ids(new)
