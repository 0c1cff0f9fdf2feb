"""One schema for the rows of all sources.

Input: chat messages, prompt and completion, question and answer, ShareGPT conversations, or
preference rows. Output: one of the four kinds of rows that the stages read:

    messages     {messages}                        a conversation; the last turn is the assistant's
    preferences  {prompt, chosen, rejected}        message lists
    prompts      {prompt, answer} or {prompt, reference}   prompts to sample completions for
    eval         {question, answer, band}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from trlm_utils import answers, chat, nanoworld
from trlm_utils.curation import equation, gsm8k

Row = dict[str, Any]
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
# Usual names of each column, tried if the source does not name the column.
NAMES = {
    "question": ("question", "problem", "instruction", "query", "prompt"),
    "answer": ("answer", "gold", "final_answer"),
    "reply": ("completion", "response", "output", "generation"),
    "thought": (),  # used only if a source names the column of the thought
    "reference": ("reference",),  # a good reply, where no answer can be verified
    "difficulty": (),
}
ANSWER_FORMS: dict[str, Callable[[str], str | None]] = {
    "plain": lambda text: text.strip() or None,
    "gsm8k": answers.gsm8k_gold,  # the number after ####
    "boxed": answers.last_boxed,
}
THOUGHT_FORMS = ("text", "equation")  # how a column with the thought is written
THINK = re.compile(r"<\|?begin_of_thought\|?>\s*(.*?)\s*<\|?end_of_thought\|?>", re.DOTALL)
SOLUTION = re.compile(r"<\|?begin_of_solution\|?>\s*(.*?)\s*<\|?end_of_solution\|?>", re.DOTALL)


class Unfit(ValueError):
    """A row lacks something that its data set needs; the message is the reason."""


def kind_of(name: str) -> str:
    """The kind of a data set's rows, by its name: messages, preferences, prompts or eval."""
    if name in ("preferences", "eval"):
        return name
    return "prompts" if name.endswith("_prompts") else "messages"


def bring(row: Row, kind: str, source: Row) -> Row:
    """Convert a row to the course's schema.

    Args:
        kind: "messages", "preferences", "prompts" or "eval".
        source: options of the source: which columns to read (``columns``), the form of
            answers and thoughts (``answer_form``, ``thought_form``), the ``system`` message and,
            for eval, the ``band``.

    Raises:
        Unfit: when the row lacks something, or is not a well-formed conversation.
    """
    return {
        "messages": _conversation,
        "preferences": _preference,
        "prompts": _prompt,
        "eval": _evaluation,
    }[kind](row, source)


def column(row: Row, what: str, source: Row) -> Any:
    """The content of a row's question, answer, ... (``what``); None if it has no such column."""
    named = (source.get("columns") or {}).get(what)
    if named is not None:
        found: Any = row
        for part in named.split("."):  # reward_model.ground_truth
            found = found.get(part) if isinstance(found, dict) else None
        return found
    return next((row[name] for name in NAMES[what] if row.get(name) is not None), None)


def to_messages(turns: Any) -> list[chat.Message]:
    """Messages from chat turns (role, content) or ShareGPT turns (from, value).

    Raises:
        Unfit: when a turn is empty, a role is unknown, or the roles do not alternate.
    """
    if not isinstance(turns, list | tuple) or not turns:
        raise Unfit("no turns")
    if _is_plain(turns):
        return list(turns)
    messages = [_message(turn) for turn in turns]
    if messages[0]["role"] == "system" and not messages[0]["content"].strip():
        del messages[0]
    roles = [message["role"] for message in messages]
    if roles[:1] == ["system"]:
        del roles[0]
    if roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
        raise Unfit("turns do not alternate")
    return messages


def _is_plain(turns: Sequence[Any]) -> bool:
    """Whether turns are already messages that alternate between user and assistant.

    This is true for most rows of most chat data sets, and several times faster to test than
    converting them.
    """
    wanted = "user"
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2 or turn.get("role") != wanted:
            return False
        content = turn.get("content")
        if type(content) is not str or not content or content.isspace():
            return False
        wanted = "assistant" if wanted == "user" else "user"
    return True


def _message(turn: Any) -> chat.Message:
    if not isinstance(turn, dict):
        raise Unfit("a turn is no object")
    said = turn.get("role") or turn.get("from")
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise Unfit(f"unknown role {str(said)[:20]!r}")
    content = turn["content"] if "content" in turn else turn.get("value")
    if not isinstance(content, str) or (role != "system" and (not content or content.isspace())):
        raise Unfit("an empty turn")
    return {"role": role, "content": content}


def _conversation(row: Row, source: Row) -> Row:
    turns = row.get("messages") or row.get("conversations")
    if turns is not None:
        messages = to_messages(turns)
        system = row.get("system")
        if isinstance(system, str) and system.strip():
            messages = chat.with_system(messages, system)
    elif isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        messages = to_messages([*row["prompt"], *row["completion"]])
    else:
        messages = chat.to_messages(_question(row, source), _reply(row, source))
    if not messages or messages[-1]["role"] != "assistant":
        raise Unfit("the assistant does not end it")
    last = messages[-1]
    messages[-1] = last | {"content": one_contract(last["content"], source.get("contract", ""))}
    return {"messages": chat.with_system(messages, source.get("system", ""))}


def one_contract(reply: str, contract: str = "") -> str:
    """Convert the tags around a reply's thought to those of a contract.

    Known are ``<think>``, ``<reasoning>``, and the tags of OpenThoughts and Bespoke.

    Args:
        contract: one of `chat.CONTRACTS`; if empty, only the tags of OpenThoughts and Bespoke
            are converted.

    Raises:
        Unfit: when a contract is given and the reply has no complete thought.
    """
    if "begin_of_thought" in reply:
        thought, answer = THINK.search(reply), SOLUTION.search(reply)
        if thought and answer:
            return chat.in_contract(contract or "think", thought[1], answer[1])
    if not contract:
        return reply
    parsed = answers.parse(reply)
    if not parsed.well_formed:
        raise Unfit("no whole thought")
    inside = re.sub(r"</?answer>", "", parsed.answer).strip()
    return chat.in_contract(contract, parsed.thought or "", inside)


def _question(row: Row, source: Row) -> str:
    question = column(row, "question", source)
    if isinstance(question, list):
        question = next((m.get("content") for m in question if m.get("role") == "user"), None)
    if not isinstance(question, str) or not question.strip():
        raise Unfit("no question")
    return question.strip()


def gold(row: Row, source: Row) -> str | None:
    """The gold answer of a row, or None."""
    found = column(row, "answer", source)
    if found is None or isinstance(found, (list, dict, bool)):
        return None
    return ANSWER_FORMS[source.get("answer_form", "plain")](str(found))


def _reply(row: Row, source: Row) -> str:
    thought = column(row, "thought", source)
    if isinstance(thought, str) and thought.strip():
        answer = gold(row, source)
        if not answer:
            raise Unfit("no answer")
        return chat.think(_thought(thought, answer, source), nanoworld.answer_text(answer))
    reply = column(row, "reply", source)
    if isinstance(reply, str) and reply.strip():
        return reply
    answer = gold(row, source)
    if not answer:
        raise Unfit("no reply")
    return nanoworld.answer_text(answer)


def _thought(text: str, answer: str, source: Row) -> str:
    """A thought as sentences: as it stands, or an equation worked step by step."""
    if source.get("thought_form", "text") == "text":
        return gsm8k.work_of(text)
    try:
        steps, value = equation.worked(text)
    except ValueError:
        raise Unfit("no equation") from None
    if not equation.gives(value, answer):
        raise Unfit("the equation gives another answer")
    return steps


def _preference(row: Row, source: Row) -> Row:
    sides = []
    for name in ("chosen", "rejected"):
        found = row.get(name)
        if isinstance(found, str):
            found = chat.to_messages(_question(row, source), found)
        elif isinstance(found, dict):
            found = [{"role": "user", "content": _question(row, source)}, found]
        elif found and len(found) == 1 and isinstance(row.get("prompt"), list):
            found = [*row["prompt"], *found]
        if not found:
            raise Unfit(f"no {name} reply")
        sides.append(to_messages(found))
    chosen, rejected = sides
    if chosen[:-1] != rejected[:-1] or chosen[-1]["role"] != "assistant" or len(chosen) < 2:
        raise Unfit("not two replies to one prompt")
    if chosen == rejected:
        raise Unfit("both replies are the same")
    return {
        "prompt": chat.with_system(chosen[:-1], source.get("system", "")),
        "chosen": chosen[-1:],
        "rejected": rejected[-1:],
    }


def _prompt(row: Row, source: Row) -> Row:
    prompt = chat.to_prompt(_question(row, source), source.get("system", ""))
    reference = column(row, "reference", source)
    answer = gold(row, source)
    if answer:
        return {"prompt": prompt, "answer": answer}
    if isinstance(reference, str) and reference.strip():
        return {"prompt": prompt, "reference": reference.strip()}
    raise Unfit("no answer")


def _evaluation(row: Row, source: Row) -> Row:
    answer = gold(row, source)
    if not answer:
        raise Unfit("no answer")
    band = source.get("band") or row["_source_dataset"]
    return {"question": _question(row, source), "answer": answer, "band": band}
