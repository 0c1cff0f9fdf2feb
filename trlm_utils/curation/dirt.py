"""Dirt: a small mixture of NanoWorld rows with the faults of real ones, each of them known.

Every row says in ``kind`` what is wrong with it, which the checks of `filters` do not read, so
what they find can be counted: what of the dirt was dropped, and how many clean rows with it.

    clean           a question and the careful teacher's reply
    duplicate       a clean row once more
    near_duplicate  a clean row once more, with a few words around its question
    leaked          a held-out question with its reply: as it is, after "Solve:", or in other words
    cut             a reply that breaks off within its thought
    unformatted     a reply without think tags, without ``</think>``, or without an answer
    wrong           a reply with a slip in one step, or with a guess in place of work
    foreign         question and reply in German or French
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from trlm_utils import chat, nanoworld
from trlm_utils.curation import data_sets
from trlm_utils.families import MONTHS
from trlm_utils.nanoworld import Problem

Row = dict[str, Any]
CLEAN = "clean"
FAMILIES, LENGTHS = ("story", "expression"), (1, 1)  # as small as a short training can learn
SHARES = {
    "duplicate": 0.10,
    "near_duplicate": 0.05,
    "leaked": 0.04,
    "cut": 0.08,
    "unformatted": 0.05,
    "wrong": 0.16,
    "foreign": 0.07,
}
LEAKS = 20  # held-out questions that leak; the rows take them in turn
AROUND = ("Please solve this. {}", "{} Thank you!", "{} Show your work, please.")
OTHER_WORDS = (("brings", "adds"), ("takes", "costs"), ("now?", "are left?"))
# Language -> months, things, sentence of a gain, of a loss, and what else is said.
LANGUAGES: dict[str, dict[str, Any]] = {
    "de": {
        "months": "Januar Februar März April Mai Juni Juli August September Oktober November "
        "Dezember",
        "things": {"apples": "Äpfel", "books": "Bücher", "coins": "Münzen", "cups": "Tassen"},
        "has": "{name} hat {start} {things}.",
        "+": "Im {month} kommen {by} dazu",
        "-": "Im {month} gehen {by} weg",
        "now": "Wie viele {things} sind es jetzt?",
        "compute": "Berechne {steps} Wie groß ist {last}?",
        "answer": "Die Antwort ist {answer}.",
    },
    "fr": {
        "months": "janvier février mars avril mai juin juillet août septembre octobre novembre "
        "décembre",
        "things": {"apples": "pommes", "books": "livres", "coins": "pièces", "cups": "tasses"},
        "has": "{name} a {start} {things}.",
        "+": "En {month}, il en arrive {by}",
        "-": "En {month}, il en part {by}",
        "now": "Combien de {things} maintenant ?",
        "compute": "Calcule {steps} Que vaut {last} ?",
        "answer": "La réponse est {answer}.",
    },
}


def mixture(n: int, seed: int = 0, shares: dict[str, float] = SHARES) -> list[Row]:
    """A dirty mixture in random order; a copy always comes after the row it copies.

    Args:
        n: number of rows.
        shares: kind of dirt -> share of the rows; the others are clean, with questions of
            which no two are equal.

    Returns:
        Rows with id, source, messages, answer (the gold answer) and kind.

    Raises:
        ValueError: for an unknown kind, or shares that leave no clean row.
    """
    if unknown := sorted(set(shares) - set(SHARES)):
        raise ValueError(f"unknown kind of dirt {unknown[0]!r}; known: {', '.join(SHARES)}")
    counts = {kind: round(share * n) for kind, share in shares.items()}
    own = n - counts.get("duplicate", 0) - counts.get("near_duplicate", 0)  # not copied
    own -= counts.get("leaked", 0)
    spoiled = [kind for kind in SPOILED for _ in range(counts.get(kind, 0))]
    if own <= len(spoiled):
        raise ValueError(f"shares {shares} of {n} rows leave no clean row")
    rng = random.Random(f"dirt/{seed}")
    problems = _different(own, seed, held_out=False)
    kinds = [*spoiled, *[CLEAN] * (own - len(spoiled))]
    rows = [_row(p, kind, *_told(p, kind, rng)) for p, kind in zip(problems, kinds, strict=True)]
    first = len(spoiled)
    leaks = leaked_problems(seed)
    for k in range(counts.get("leaked", 0)):
        problem = leaks[k % LEAKS]
        rows.append(_row(problem, "leaked", *_leaked(problem, k % 3)))
    copies = {}
    for kind in ("duplicate", "near_duplicate"):
        for _ in range(counts.get(kind, 0)):
            copies[len(rows)] = rng.randrange(first, own)
            rows.append(_copied(rows[copies[len(rows)]], kind, rng))
    return _shuffled(rows, copies, rng)


def leaked_problems(seed: int = 0) -> list[Problem]:
    """The held-out problems that the mixture of this seed leaks."""
    return _different(LEAKS, seed, held_out=True)


def held_out_problems(n: int, seed: int = 0) -> list[Problem]:
    """``n`` held-out problems that do not leak, of the same families and lengths."""
    return _different(LEAKS + n, seed, held_out=True)[LEAKS:]


def _different(n: int, seed: int, held_out: bool) -> list[Problem]:
    """``n`` problems, all with different questions."""
    found: dict[str, Problem] = {}
    index = 0
    while len(found) < n:
        problem = nanoworld.make_problem(
            f"dirt_{held_out}",
            index,
            seed=seed,
            families=FAMILIES,
            lengths=LENGTHS,
            held_out=held_out,
        )
        found.setdefault(problem.question, problem)
        index += 1
    return list(found.values())


def _row(problem: Problem, kind: str, question: str, reply: str) -> Row:
    messages = chat.to_messages(question, reply)
    row = data_sets.made(f"{kind}/{problem.id}", f"dirt/{kind}", messages=messages)
    return row | {"answer": problem.answer, "kind": kind}


def _told(problem: Problem, kind: str, rng: random.Random) -> tuple[str, str]:
    """Question and reply of a problem, spoiled in the way of this kind."""
    if kind == "foreign":
        return foreign(problem, rng.choice(tuple(LANGUAGES)))
    reply = _reply(problem, "careful")
    return problem.question, reply if kind == CLEAN else SPOILED[kind](problem, reply, rng)


def _reply(problem: Problem, teacher: str) -> str:
    thought, answer = nanoworld.teach(problem, teacher)
    return chat.think(thought, nanoworld.answer_text(answer))


def _cut(_problem: Problem, reply: str, rng: random.Random) -> str:
    """The reply up to a word of its thought, neither the first nor the last."""
    words = reply.partition("</think>")[0].split(" ")
    return " ".join(words[: rng.randint(2, len(words) - 1)])


def _unformatted(_problem: Problem, reply: str, rng: random.Random) -> str:
    thought, _, answer = reply.partition("</think>")
    bare = thought.removeprefix("<think> ")
    return rng.choice([bare + answer, thought + answer, thought + "</think>"])


def _wrong(problem: Problem, _reply_: str, rng: random.Random) -> str:
    return _reply(problem, rng.choice(["slipping", "hasty"]))


SPOILED: dict[str, Callable[[Problem, str, random.Random], str] | None] = {
    "cut": _cut,
    "unformatted": _unformatted,
    "wrong": _wrong,
    "foreign": None,  # the question changes, too
}


def foreign(problem: Problem, language: str) -> tuple[str, str]:
    """A story or an expression and its worked reply in German ("de") or French ("fr").

    The calculations are the same as in English, as is the notation.
    """
    said = LANGUAGES[language]
    if problem.family == "expression":
        sentences = [step.sentence for step in problem.steps]
        steps = " ".join(f"{sentence}." for sentence in sentences)
        question = said["compute"].format(steps=steps, last=sentences[-1][0])
    else:
        name, start, things = re.match(r"(\w+) has (\d+) (\w+)\.", problem.question).groups()
        names = dict(zip(MONTHS, said["months"].split(), strict=True))
        sentences = [
            said[step.operator].format(month=names[step.sentence.split()[0]], by=step.operand)
            for step in problem.steps
        ]
        things = said["things"][things]
        told = " ".join(f"{sentence}." for sentence in sentences)
        begin = said["has"].format(name=name, start=start, things=things)
        question = f"{begin} {told} {said['now'].format(things=things)}"
    pairs = zip(sentences, problem.steps, strict=True)
    thought = " ".join(f"{sentence}: {step.work}." for sentence, step in pairs)
    return question, chat.think(thought, said["answer"].format(answer=problem.answer))


def _leaked(problem: Problem, form: int) -> tuple[str, str]:
    """A held-out question and its reply: as it is, after "Solve:", or in other words, in turn."""
    question, reply = problem.question, _reply(problem, "careful")
    if form == 1:
        question = f"Solve: {question}"
    elif form == 2:
        for old, new in OTHER_WORDS:
            question, reply = question.replace(old, new), reply.replace(old, new)
    return question, reply


def _copied(row: Row, kind: str, rng: random.Random) -> Row:
    question, reply = (message["content"] for message in row["messages"])
    if kind == "near_duplicate":
        question = rng.choice(AROUND).format(question)
    changed = {"id": f"{kind}/{row['id']}", "source": f"dirt/{kind}", "kind": kind}
    return row | changed | {"messages": chat.to_messages(question, reply)}


def _shuffled(rows: Sequence[Row], copies: dict[int, int], rng: random.Random) -> list[Row]:
    """Rows in random order, each copy (index -> index of its original) after its original."""
    place = list(range(len(rows)))
    rng.shuffle(place)
    originals: dict[int, list[int]] = {}
    for copy, original in copies.items():
        originals.setdefault(original, []).append(copy)
    for original, own in originals.items():
        first = min([original, *own], key=place.__getitem__)
        place[original], place[first] = place[first], place[original]
    found: list[Row] = [{}] * len(rows)
    for row, at in zip(rows, place, strict=True):
        found[at] = row
    return found


def reasons(rows: Sequence[Row], check: Any) -> list[str | None]:
    """Per row, the reason for which a check of `filters` alone drops it, or None.

    Args:
        check: from `filters.build` or `filters.build_comparing`.
    """
    if not hasattr(check, "known"):
        return check(rows)
    found: list[str | None] = []
    for row in rows:
        key = check.key(row)
        found.append(check.reason if check.known(key) else None)
        if found[-1] is None:
            check.keep(key)
    return found


def tally(rows: Sequence[Row], dropped: Sequence[Any], kinds: Sequence[str]) -> Row:
    """What a check did to rows of known kinds.

    Args:
        dropped: per row, a true value if the check dropped it (`reasons`).
        kinds: the kinds that the check is for.

    Returns:
        Counts ``dropped``, ``of its kind``, ``other dirt``, ``clean`` (clean rows lost) and
        ``missed`` (rows of its kind that it kept); ``precision``, the share of the dropped
        rows that are dirt of whatever kind, and ``recall``, the share of its kind that it
        dropped. Each share is None if there is nothing that it could be a share of.
    """
    gone = [row["kind"] for row, out in zip(rows, dropped, strict=True) if out]
    own = sum(kind in kinds for kind in gone)
    clean = gone.count(CLEAN)
    there = sum(row["kind"] in kinds for row in rows)
    return {
        "dropped": len(gone),
        "of its kind": own,
        "other dirt": len(gone) - own - clean,
        "clean": clean,
        "missed": there - own,
        "precision": (len(gone) - clean) / len(gone) if gone else None,
        "recall": own / there if there else None,
    }


def spend(rows: Sequence[Row], tokens: int, tokenizer: Any, seed: int = 0) -> list[Row]:
    """Rows in random order, over and over, until so many of their tokens carry loss.

    The last row passes the number (`data_sets.trained_tokens`). So data sets of different size
    can be compared at equal cost.

    Raises:
        ValueError: when there are no rows.
    """
    if not rows:
        raise ValueError("no rows to spend tokens on")
    rng = random.Random(f"spend/{seed}")
    costs = [data_sets.trained_tokens([row], tokenizer) for row in rows]
    found: list[Row] = []
    while tokens > 0:
        for i in rng.sample(range(len(rows)), len(rows)):
            if tokens <= 0:
                break
            found.append(rows[i])
            tokens -= costs[i]
    return found
