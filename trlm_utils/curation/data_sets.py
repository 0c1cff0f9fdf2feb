"""Curation: bring every source to the course's rows, and check them before training.

Data sets, all JSON lines, all written by notebook 01:

    base_text     {id, source, prompt, completion}        plain text, no chat
    sft_stage1/2  {id, source, messages}                  conversations
    preferences   {id, source, prompt, chosen, rejected}  message lists
    check_prompts {id, source, prompt, answer}            to look at a stage while it trains
    dpo_prompts   {id, source, prompt, answer}            to sample own pairs from
    grpo_prompts  {id, source, prompt, answer}            to sample rollouts from; where no
                  rule can verify an answer, a ``reference`` reply in its place
    eval          {id, band, question, answer}            never trained on
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

from trlm_utils import chat, nanoworld

Row = dict[str, Any]
DataSets = dict[str, list[Row]]


# --- NanoWorld --------------------------------------------------------------------


def world_direct(n: int, seed: int, talk_share: float, max_steps: int = 4) -> list[Row]:
    """Stage 1 conversations: problems answered without thinking, and small talk.

    Args:
        talk_share: share of small talk, in [0, 1].
        max_steps: the most steps a problem has.
    """
    rng = random.Random(f"direct/{seed}")
    rows = []
    for i in range(n):
        if rng.random() < talk_share:
            talk = nanoworld.make_talk("sft_stage1", i, seed)
            messages = chat.to_messages(talk["question"], talk["answer"])
            rows.append(made(talk["id"], f"nanoworld/{talk['family']}", messages=messages))
            continue
        problem = nanoworld.make_problem("sft_stage1", i, seed=seed, steps=(1, max_steps))
        reply = nanoworld.answer_text(problem.answer)
        messages = chat.to_messages(problem.question, reply)
        rows.append(made(problem.id, "nanoworld/direct", messages=messages))
    return rows


def world_thinking(
    n: int,
    seed: int,
    teachers: dict[str, float],
    long_share: float,
    contract: str = "think",
    split: str = "sft_stage2",
) -> list[Row]:
    """Conversations with a thought, from teachers of mixed quality.

    Args:
        contract: the form of the replies (`chat.CONTRACTS`).
        split: which problems: those of stage 2, or of another name.
    """
    rows = []
    for i in range(n):
        problem = nanoworld.make_problem(split, i, seed=seed, long_share=long_share)
        teacher = nanoworld.draw_teacher(teachers, problem.id)
        thought, answer = nanoworld.teach(problem, teacher, seed)
        messages = chat.to_messages(problem.question, chat.answer_in(contract, thought, answer))
        rows.append(made(problem.id, f"nanoworld/{teacher}", messages=messages))
    return rows


def world_preferences(n: int, seed: int) -> list[Row]:
    """Off-policy pairs: the careful teacher against one that is hasty or slips."""
    rng = random.Random(f"preferences/{seed}")
    rows = []
    for i in range(n):
        problem = nanoworld.make_problem("preferences", i, seed=seed)
        bad = rng.choice(("hasty", "slipping"))
        thought, answer = nanoworld.teach(problem, bad, seed)
        if answer == problem.answer:
            continue  # a lucky guess is no worse answer
        rows.append(
            preference_row(
                problem.id,
                f"nanoworld/careful>{bad}",
                problem.question,
                chat.think(nanoworld.careful_trace(problem), nanoworld.answer_text(problem.answer)),
                chat.think(thought, nanoworld.answer_text(answer)),
            )
        )
    return rows


CHECK_PROMPTS = 100  # enough to see a curve, few enough to be asked often


def world_prompts(
    split: str, n: int, seed: int, long_share: float, held_out: bool = False
) -> list[Row]:
    """Prompts with their gold answer, to sample completions from.

    ``held_out`` takes them from the side of the hash split that nothing trains on.
    """
    problems = nanoworld.make_problems(
        split, n, seed=seed, long_share=long_share, held_out=held_out
    )
    return [
        made(
            p.id,
            f"nanoworld/{p.family}",
            prompt=chat.to_prompt(p.question),
            answer=p.answer,
        )
        for p in problems
    ]


def hold_out(sets: DataSets, seed: int, long_share: float) -> list[Row]:
    """Prompts that nothing trains on, to look at a stage while it trains.

    Where GRPO's prompts come from files or the Hub, some of them are taken out of every
    data set (`CHECK_PROMPTS`, at most a tenth). NanoWorld keeps questions out of training
    by itself, so elsewhere they come from there.

    Args:
        sets: loses every row that asks what the prompts ask.
    """
    prompts = [row for row in sets.get("grpo_prompts", ()) if row.get("answer")]
    outside = [row for row in prompts if not row["source"].startswith("nanoworld/")]
    chosen = outside[: min(CHECK_PROMPTS, len(outside) // 10)]
    if not chosen:
        return world_prompts("check", CHECK_PROMPTS, seed, long_share, held_out=True)
    asked = {normal_form(question_of(row)) for row in chosen}
    for name, rows in sets.items():
        if name not in NOT_TRAINED_ON:
            sets[name] = [row for row in rows if normal_form(question_of(row)) not in asked]
    return chosen


def world_talk(n: int, seed: int, split: str = "grpo") -> list[Row]:
    """Prompts whose answer no rule can verify, with a reply that would be a good one."""
    return [
        made(
            talk["id"],
            f"nanoworld/{talk['family']}",
            prompt=chat.to_prompt(talk["question"]),
            reference=talk["answer"],
        )
        for talk in (nanoworld.make_talk(split, i, seed) for i in range(n))
    ]


def world_eval(per_band: int, bands: Iterable[str] = nanoworld.BANDS) -> list[Row]:
    """Held-out questions of every band. They do not depend on the run's seed."""
    return [
        problem.row() | {"band": band}
        for band in bands
        for problem in nanoworld.band_problems(band, per_band)
    ]


# --- checks and summaries ---------------------------------------------------------


def preference_row(key: str, source: str, question: str, chosen: str, rejected: str) -> Row:
    """A preference row from a question and two replies."""
    return made(
        key,
        source,
        prompt=chat.to_prompt(question),
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
    )


def question_of(row: Row) -> str:
    """What a row of any data set asks: its question, plain prompt or last user turn."""
    if "question" in row:
        return row["question"]
    messages = row.get("messages") or row.get("prompt") or []
    if isinstance(messages, str):
        return messages
    asked = [m["content"] for m in messages if m["role"] == "user"]
    return asked[-1] if asked else ""


def normal_form(text: str) -> str:
    """Text for comparing questions: lower case; words, numbers and operators only."""
    return " ".join(re.findall(r"\w+|[-+*/=]", text.casefold()))


NOT_TRAINED_ON = ("eval", "check_prompts")


def contaminated(sets: DataSets, questions: Sequence[Row]) -> dict[str, set[str]]:
    """Evaluation questions that also stand in training data.

    Returns:
        For every data set, the ids of the evaluation rows whose question (in
        `normal_form`) it contains.
    """
    held_out = {normal_form(question_of(row)): row["id"] for row in questions}
    found: dict[str, set[str]] = {}
    for name, rows in sets.items():
        if name in NOT_TRAINED_ON:
            continue
        trained = {normal_form(question_of(row)) for row in rows}
        found[name] = {held_out[q] for q in trained if q in held_out}
    return found


def leave_out(questions: Sequence[Row], found: dict[str, set[str]]) -> tuple[list[Row], int]:
    """Evaluation rows without the contaminated ones, and how many were left out."""
    bad = set().union(*found.values()) if found else set()
    kept = [row for row in questions if row["id"] not in bad]
    return kept, len(questions) - len(kept)


def drop_duplicates(rows: Sequence[Row]) -> list[Row]:
    """Rows whose text (messages, prompt and replies, or plain text) is new."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        content = {k: v for k, v in row.items() if k not in ("id", "source")}
        key = repr(sorted(content.items(), key=lambda item: item[0]))
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def sample_per_band(rows: Sequence[Row], per_band: int, seed: int) -> list[Row]:
    """At most ``per_band`` questions of every band, drawn by seed, bands kept in order."""
    bands: dict[str, list[Row]] = {}
    for row in rows:
        bands.setdefault(row["band"], []).append(row)
    kept = []
    for band, found in bands.items():
        if len(found) > per_band:
            found = random.Random(f"{band}/{seed}").sample(found, per_band)
        kept += found
    return kept


def texts_of(row: Row, tokenizer: Any) -> list[str]:
    """What the model sees of a row: one text, or two for a preference row."""
    if "completion" in row:
        return [row["prompt"] + row["completion"]]
    if "messages" in row:
        return [chat.render(tokenizer, row["messages"])]
    if "chosen" in row:
        return [
            chat.render(tokenizer, row["prompt"] + row[side]) for side in ("chosen", "rejected")
        ]
    prompt = row.get("prompt") or chat.to_prompt(row["question"])
    return [chat.render(tokenizer, prompt, prompt=True)]


def token_lengths(rows: Sequence[Row], tokenizer: Any) -> list[int]:
    """Length of each row in tokens; the longer side of a preference row."""
    flat, owner = [], []
    for i, row in enumerate(rows):
        for text in texts_of(row, tokenizer):
            flat.append(text)
            owner.append(i)
    lengths = [0] * len(rows)
    if flat:
        encoded = tokenizer(flat, add_special_tokens=False)["input_ids"]
        for i, ids in zip(owner, encoded, strict=True):
            lengths[i] = max(lengths[i], len(ids))
    return lengths


def drop_overlong(rows: Sequence[Row], tokenizer: Any, max_tokens: int) -> tuple[list[Row], int]:
    """Rows of at most ``max_tokens``, and how many were dropped.

    A row that is cut off at training time loses its ``</think>`` and end token, and
    the model learns not to stop; so overlong rows are dropped here, and counted.
    """
    lengths = token_lengths(rows, tokenizer)
    kept = [row for row, n in zip(rows, lengths, strict=True) if n <= max_tokens]
    return kept, len(rows) - len(kept)


def summary(sets: DataSets, tokenizer: Any) -> Any:
    """Data frame: data set, source, rows, and token lengths (median, 95 %, longest)."""
    import pandas as pd

    table = []
    for name, rows in sets.items():
        lengths: dict[str, list[int]] = {}
        for row, n in zip(rows, token_lengths(rows, tokenizer), strict=True):
            lengths.setdefault(row.get("source") or row.get("band", ""), []).append(n)
        for source, found in sorted(lengths.items()):
            found.sort()
            table.append(
                {
                    "data set": name,
                    "source": source,
                    "rows": len(found),
                    "median tokens": found[len(found) // 2],
                    "95 % tokens": found[int(len(found) * 0.95)],
                    "longest": found[-1],
                }
            )
    return pd.DataFrame(table)


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> Any:
    """A data frame from rows of cells."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))


def made(key: str, source: str, **content: Any) -> Row:
    """A row with its id and where it comes from."""
    return {"id": key, "source": source, **content}
