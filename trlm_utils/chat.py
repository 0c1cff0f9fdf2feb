"""Messages, the chat template, and what a model sees of them.

There is one Jinja file for each family of models (`templates/`): the course's own models
and those that know its tokens use ``chatml``. It is stored with every model the course
writes. Two properties are what the templates exist for, and both are tested: the prompt
rendered for generation is byte for byte the beginning of the text trained on, and
the ``{% generation %}`` marks put the loss on the assistant's turn and its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
# How a reply with a thought may be written; which one a recipe asks for is its contract.
# A space precedes what may be a number: only so is it one token.
CONTRACTS = {
    "think": "<think> {thought}</think> {reply}",
    "think_answer": "<think> {thought}</think>\n<answer> {reply}</answer>",
    "reasoning_answer": "<reasoning> {thought}</reasoning>\n<answer> {reply}</answer>",
    "boxed": "<think> {thought}</think> {reply}",
}


def to_prompt(question: str, system: str = "") -> list[Message]:
    """A conversation that waits for the assistant."""
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": question}]


def to_messages(question: str, reply: str, system: str = "") -> list[Message]:
    """A finished conversation of one question and one reply."""
    return [*to_prompt(question, system), {"role": "assistant", "content": reply}]


def with_system(messages: Sequence[Message], system: str) -> list[Message]:
    """The same conversation, opened by a system message unless it has one."""
    if not system or (messages and messages[0]["role"] == "system"):
        return list(messages)
    return [{"role": "system", "content": system}, *messages]


def think(thought: str, answer: str) -> str:
    """A reply with its thought in the tags of the contract "think"."""
    return in_contract("think", thought, answer)


def in_contract(contract: str, thought: str, reply: str) -> str:
    """A thought and what is said after it, in the form of a contract.

    Raises:
        ValueError: for a contract that is not known.
    """
    if contract not in CONTRACTS:
        raise ValueError(f"no contract {contract!r}; there are: {', '.join(CONTRACTS)}")
    return CONTRACTS[contract].format(thought=thought, reply=reply)


def answer_in(contract: str, thought: str, answer: str) -> str:
    """A thought and an answer, which the contract "boxed" puts into a box."""
    shown = f"\\boxed{{ {answer} }}" if contract == "boxed" else answer
    return in_contract(contract, thought, f"The answer is {shown}.")


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    prompt: bool = False,
) -> str:
    """The exact text the model sees; with ``prompt`` it ends where the reply begins."""
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=prompt
    )


def prompt_is_prefix(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> bool:
    """Whether generation would start from the very bytes that training puts there."""
    asked = render(tokenizer, messages[:-1], prompt=True)
    return render(tokenizer, messages).startswith(asked)


def loss_mask(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and, per token, 1 where it carries loss.

    Returns:
        Two lists of equal length (tokens).
    """
    encoded = tokenizer.apply_chat_template(
        list(messages), return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), list(encoded["assistant_masks"])


def visible(text: str) -> str:
    """Text with its whitespace made visible: a middle dot per space, a sign per line."""
    return text.replace(" ", "·").replace("\n", "⏎\n").replace("\t", "⇥")
