"""The course's data sets: generate them from NanoWorld, and check them before training.

Notebook 01 writes all data sets as JSON lines:

    base_text     {id, source, prompt, completion}        plain text, no chat template
    sft_stage1/2  {id, source, messages}                  conversations
    preferences   {id, source, prompt, chosen, rejected}  message lists
    check_prompts {id, source, prompt, answer}            held out: accuracy during training
    dpo_prompts   {id, source, prompt, answer}            to sample on-policy pairs for DPO
    grpo_prompts  {id, source, prompt, answer}            to sample rollouts for GRPO; where
                  no rule can verify an answer, it has a ``reference`` reply instead
    eval          {id, band, question, answer}            never trained on
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

from trlm_utils import chat, nanoworld
from trlm_utils.files import CourseError

Row = dict[str, Any]
DataSets = dict[str, list[Row]]


# --- NanoWorld --------------------------------------------------------------------


def world_direct(n: int, seed: int, talk_share: float, max_steps: int = 4) -> list[Row]:
    """Conversations for SFT stage 1: problems answered without a thought, and small talk.

    Args:
        n: number of rows.
        talk_share: share of small talk, in [0, 1].
        max_steps: largest number of steps of a problem.
    """
    rng = random.Random(f"direct/{seed}")
    lengths = nanoworld.between(1, max_steps)
    rows = []
    for i in range(n):
        if rng.random() < talk_share:
            talk = nanoworld.make_talk("sft_stage1", i, seed)
            messages = chat.to_messages(talk["question"], talk["answer"])
            rows.append(made(talk["id"], f"nanoworld/{talk['family']}", messages=messages))
            continue
        problem = nanoworld.make_problem("sft_stage1", i, seed=seed, lengths=lengths)
        reply = nanoworld.answer_text(problem.answer)
        messages = chat.to_messages(problem.question, reply)
        rows.append(made(problem.id, "nanoworld/direct", messages=messages))
    return rows


def world_thinking(
    n: int,
    seed: int,
    teachers: dict[str, float],
    lengths: Sequence[float],
    contract: str = "think",
    split: str = "sft_stage2",
) -> list[Row]:
    """Conversations with a thought, written by teachers of different quality.

    Args:
        n: number of rows.
        teachers: teacher -> share of the rows (`nanoworld.draw_teacher`).
        lengths: relative frequency of 1, 2, 3, ... steps (`nanoworld.make_problem`).
        contract: format of the replies (`chat.CONTRACTS`).
        split: split of the problems; by default that of SFT stage 2.
    """
    rows = []
    for i in range(n):
        problem = nanoworld.make_problem(split, i, seed=seed, lengths=lengths)
        teacher = nanoworld.draw_teacher(teachers, problem.id)
        thought, answer = nanoworld.teach(problem, teacher, seed)
        messages = chat.to_messages(problem.question, chat.answer_in(contract, thought, answer))
        rows.append(made(problem.id, f"nanoworld/{teacher}", messages=messages))
    return rows


def trained_tokens(rows: Sequence[Row], tokenizer: Any) -> int:
    """Tokens of conversations that carry loss: the last reply of each and its end token."""
    replies = [row["messages"][-1]["content"] for row in rows]
    encoded = tokenizer(replies, add_special_tokens=False)["input_ids"] if replies else []
    return sum(len(ids) + 1 for ids in encoded)


def world_careful(
    tokens: int, seed: int, lengths: Sequence[float], tokenizer: Any, contract: str = "think"
) -> list[Row]:
    """Conversations of the careful teacher alone, as many as have so many trained tokens.

    They begin with the problems of `world_thinking`, in the same order.

    Args:
        tokens: at least so many tokens carry loss (`trained_tokens`); the last row passes it.
        lengths: relative frequency of 1, 2, 3, ... steps (`nanoworld.make_problem`).
        tokenizer: counts the tokens.
    """
    rows: list[Row] = []
    while tokens > 0:
        for i in range(len(rows), len(rows) + 1000):
            problem = nanoworld.make_problem("sft_stage2", i, seed=seed, lengths=lengths)
            thought, answer = nanoworld.teach(problem, "careful", seed)
            messages = chat.to_messages(problem.question, chat.answer_in(contract, thought, answer))
            row = made(problem.id, "nanoworld/careful", messages=messages)
            rows.append(row)
            tokens -= trained_tokens([row], tokenizer)
            if tokens <= 0:
                break
    return rows


def world_preferences(n: int, seed: int) -> list[Row]:
    """Off-policy preference pairs: the careful teacher's reply against a hasty or slipping one."""
    rng = random.Random(f"preferences/{seed}")
    rows = []
    for i in range(n):
        problem = nanoworld.make_problem("preferences", i, seed=seed)
        bad = rng.choice(("hasty", "slipping"))
        thought, answer = nanoworld.teach(problem, bad, seed)
        if answer == problem.answer:
            continue  # a lucky correct answer must not be the rejected one
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


CHECK_PROMPTS = 100  # enough for a curve, few enough to be evaluated often


def world_prompts(
    split: str, n: int, seed: int, lengths: Sequence[float], held_out: bool = False
) -> list[Row]:
    """Prompts with gold answers, to sample completions for.

    With ``held_out`` they are from the held-out side of the hash split
    (`nanoworld.is_held_out`).
    """
    problems = nanoworld.make_problems(split, n, seed=seed, lengths=lengths, held_out=held_out)
    return [
        made(
            p.id,
            f"nanoworld/{p.family}",
            prompt=chat.to_prompt(p.question),
            answer=p.answer,
        )
        for p in problems
    ]


def hold_out(sets: DataSets, seed: int, lengths: Sequence[float]) -> list[Row]:
    """Held-out prompts (``check_prompts``), to measure accuracy during training.

    If GRPO's prompts come from files or the Hub, `CHECK_PROMPTS` of them (at most a tenth)
    are removed from all data sets and returned. Otherwise the prompts are from the held-out
    side of NanoWorld's hash split.

    Args:
        sets: the data sets; rows that ask the same questions are removed in place.
    """
    prompts = [row for row in sets.get("grpo_prompts", ()) if row.get("answer")]
    outside = [row for row in prompts if not row["source"].startswith("nanoworld/")]
    chosen = outside[: min(CHECK_PROMPTS, len(outside) // 10)]
    if not chosen:
        return world_prompts("check", CHECK_PROMPTS, seed, lengths, held_out=True)
    asked = {normal_form(question_of(row)) for row in chosen}
    for name, rows in sets.items():
        if name not in NOT_TRAINED_ON:
            sets[name] = [row for row in rows if normal_form(question_of(row)) not in asked]
    return chosen


def world_talk(n: int, seed: int, split: str = "grpo") -> list[Row]:
    """Prompts whose answer no rule can verify, each with a good ``reference`` reply."""
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
    """Held-out questions of every band; the same for every seed of a run."""
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
    """The question of a row of any data set: its question, plain prompt or last user turn."""
    if "question" in row:
        return row["question"]
    messages = row.get("messages") or row.get("prompt") or []
    if isinstance(messages, str):
        return messages
    asked = [m["content"] for m in messages if m["role"] == "user"]
    return asked[-1] if asked else ""


def normal_form(text: str) -> str:
    """Normalised text for comparing questions: lower case; words, numbers and operators only."""
    return " ".join(re.findall(r"\w+|[-+*/=]", text.casefold()))


NOT_TRAINED_ON = ("eval", "check_prompts")


def contaminated(sets: DataSets, questions: Sequence[Row]) -> dict[str, set[str]]:
    """Contamination: evaluation questions that also occur in training data.

    Returns:
        Data set -> ids of the evaluation rows whose question (in `normal_form`) it contains.
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
    """Evaluation rows without the contaminated ones, and the number of removed rows.

    Args:
        questions: evaluation rows.
        found: what `contaminated` returns.
    """
    bad = set().union(*found.values()) if found else set()
    kept = [row for row in questions if row["id"] not in bad]
    return kept, len(questions) - len(kept)


def drop_duplicates(rows: Sequence[Row]) -> list[Row]:
    """Rows without exact duplicates of their text (messages, prompt and replies, plain text)."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        content = {k: v for k, v in row.items() if k not in ("id", "source")}
        key = repr(sorted(content.items(), key=lambda item: item[0]))
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def sample_per_band(rows: Sequence[Row], per_band: int | dict[str, int], seed: int) -> list[Row]:
    """At most ``per_band`` questions of every band, sampled with the seed; bands stay in order.

    Args:
        per_band: a number for every band, or band -> number, which leaves out all other bands.

    Raises:
        CourseError: see `check_bands`.
    """
    bands: dict[str, list[Row]] = {}
    for row in rows:
        bands.setdefault(row["band"], []).append(row)
    limits = per_band if isinstance(per_band, dict) else dict.fromkeys(bands, per_band)
    check_bands(limits, list(bands))
    kept = []
    for band, found in bands.items():
        limit = limits.get(band, 0)
        if len(found) > limit:
            found = random.Random(f"{band}/{seed}").sample(found, limit)
        kept += found
    return kept


def check_bands(wanted: dict[str, int], known: Sequence[str]) -> None:
    """Check the parameter EVAL_BANDS: numbers of questions, of known bands.

    Raises:
        CourseError: when a number is below 1, or a band is unknown (if any is known).
    """
    for band, number in wanted.items():
        if known and band not in known:
            raise CourseError(f"EVAL_BANDS names {band!r}; there are: {', '.join(known)}")
        if type(number) is not int or number < 1:
            raise CourseError(f"EVAL_BANDS: {band} is {number!r}, not a number of questions")


def texts_of(row: Row, tokenizer: Any) -> list[str]:
    """The rendered text of a row as the model reads it; two texts for a preference row."""
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
    """Length of each row in tokens; for a preference row, of its longer conversation."""
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


def drop_overlong(
    rows: Sequence[Row], lengths: Sequence[int], max_tokens: int
) -> tuple[list[Row], list[int]]:
    """Rows of at most ``max_tokens``, and their lengths.

    A row that is truncated in training loses its ``</think>`` and end token, so the model
    does not learn to stop. Therefore overlong rows are dropped here.

    Args:
        lengths: of the rows, in tokens (`token_lengths`).
    """
    kept = [(row, n) for row, n in zip(rows, lengths, strict=True) if n <= max_tokens]
    return [row for row, _ in kept], [n for _, n in kept]


def summary(sets: DataSets, lengths: dict[str, Sequence[int]]) -> Any:
    """Data frame: data set, source, rows, token lengths (median, 95 % quantile, maximum).

    Args:
        lengths: data set -> length of each of its rows, in tokens.
    """
    import pandas as pd

    table = []
    for name, rows in sets.items():
        by_source: dict[str, list[int]] = {}
        for row, n in zip(rows, lengths[name], strict=True):
            by_source.setdefault(row.get("source") or row.get("band", ""), []).append(n)
        for source, found in sorted(by_source.items()):
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
    """A row with ``id``, ``source`` and the given columns."""
    return {"id": key, "source": source, **content}
