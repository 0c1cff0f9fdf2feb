"""Messages, chat templates, and the text and loss mask that they produce.

There is one Jinja template for each family of models (`templates/`). The course's own models,
and models whose tokenizers have the same special tokens, use ``chatml``. The template is saved
with every model that the course writes. The templates guarantee two properties, and both are
tested: the prompt rendered for generation is byte for byte a prefix of the text trained on,
and the ``{% generation %}`` marks put the loss on the assistant's turn and its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
# Reply formats with a thought. The format that a recipe asks for is called its contract.
# A space precedes each part, because a number is one token only after a space.
CONTRACTS = {
    "think": "<think> {thought}</think> {reply}",
    "think_answer": "<think> {thought}</think>\n<answer> {reply}</answer>",
    "reasoning_answer": "<reasoning> {thought}</reasoning>\n<answer> {reply}</answer>",
    "boxed": "<think> {thought}</think> {reply}",
}


def to_prompt(question: str, system: str = "") -> list[Message]:
    """The messages of a prompt: an optional system message and the user's question."""
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": question}]


def to_messages(question: str, reply: str, system: str = "") -> list[Message]:
    """A finished conversation of one question and one reply."""
    return [*to_prompt(question, system), {"role": "assistant", "content": reply}]


def with_system(messages: Sequence[Message], system: str) -> list[Message]:
    """The conversation with a system message in front, unless it already has one."""
    if not system or (messages and messages[0]["role"] == "system"):
        return list(messages)
    return [{"role": "system", "content": system}, *messages]


def think(thought: str, answer: str) -> str:
    """A reply in the format of the contract "think": thought in tags, then the answer."""
    return in_contract("think", thought, answer)


def in_contract(contract: str, thought: str, reply: str) -> str:
    """A thought and the reply after it, in the format of a contract (`CONTRACTS`).

    Raises:
        ValueError: for an unknown contract.
    """
    if contract not in CONTRACTS:
        raise ValueError(f"no contract {contract!r}; there are: {', '.join(CONTRACTS)}")
    return CONTRACTS[contract].format(thought=thought, reply=reply)


def answer_in(contract: str, thought: str, answer: str) -> str:
    r"""A thought and an answer in the format of a contract; "boxed" adds ``\boxed{}``."""
    shown = f"\\boxed{{ {answer} }}" if contract == "boxed" else answer
    return in_contract(contract, thought, f"The answer is {shown}.")


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    prompt: bool = False,
) -> str:
    """Apply the chat template: the exact text that the model reads.

    Args:
        prompt: add the generation prompt, so that the text ends where the reply begins.
    """
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=prompt
    )


def prompt_is_prefix(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> bool:
    """Whether the prompt rendered for generation is a prefix of the text trained on."""
    asked = render(tokenizer, messages[:-1], prompt=True)
    return render(tokenizer, messages).startswith(asked)


def loss_mask(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and its loss mask: 1 where a token carries loss, else 0.

    Returns:
        Token ids and mask, two lists of equal length.
    """
    encoded = tokenizer.apply_chat_template(
        list(messages), return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), list(encoded["assistant_masks"])


def visible(text: str) -> str:
    """Text with visible whitespace: a dot per space, an arrow per line break and per tab."""
    return text.replace(" ", "·").replace("\n", "⏎\n").replace("\t", "⇥")


def pair_texts(tokenizer: PreTrainedTokenizerBase, pair: dict[str, Any]) -> dict[str, str]:
    """A preference row as texts for TRL: prompt as generation sees it, replies to the end token.

    TRL adds the end token to a text. Given messages instead, it renders the whole conversation
    and counts what the template puts behind the end token as part of the reply.

    Args:
        pair: ``prompt``, ``chosen`` and ``rejected``, each a list of messages.
    """
    prompt = render(tokenizer, pair["prompt"], prompt=True)
    texts = {"prompt": prompt}
    for side in ("chosen", "rejected"):
        whole = render(tokenizer, pair["prompt"] + pair[side])
        texts[side] = whole[len(prompt) :].rsplit(tokenizer.eos_token, 1)[0]
    begins = tokenizer("").get("input_ids") == [tokenizer.bos_token_id]
    if begins and prompt.startswith(tokenizer.bos_token):  # TRL's tokenizing adds it again
        texts["prompt"] = prompt.removeprefix(tokenizer.bos_token)
    return texts
