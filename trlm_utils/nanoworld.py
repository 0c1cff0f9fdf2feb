"""NanoWorld: small procedural problems with exact answers and exact worked steps.

Every problem is a chain: a starting state and a list of steps, each of which
changes the state. The answer is the last state. Because the chain is known, this
module can generate questions, correct and incorrect reasoning traces, preference
pairs and verifiers.

Problem ``i`` depends only on ``(seed, split, i)`` and the options, so any part of a
split can be generated alone and in any order. Training and held-out problems are
disjoint by construction: a hash of the question assigns it to one of the two sides
(`is_held_out`).

    python -c "from trlm_utils import nanoworld; print(nanoworld.make_problem('train', 3))"
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from trlm_utils.families import (
    MAKERS,
    MAX_NUMBER,
    NAMES,
    PLAYERS,
    THINGS,
    Step,
    answer_of,
    work_text,
)

FAMILIES = ("story", "expression", "compare", "swap")  # seen in training
HELD_OUT_FAMILY = "truth"  # never trained on
TEACHERS = ("careful", "hasty", "rambling", "slipping")
MOST_STEPS = 10  # as many as there are variables, and fewer than months and names
EASY, CHECK = "This is easy.", "Let me check."  # phrases of the hasty and rambling teachers

# Evaluation band -> (families, smallest and largest number of steps, reworded?)
BANDS: dict[str, tuple[tuple[str, ...], int, int, bool]] = {
    "in_distribution": (FAMILIES, 1, 4, False),
    "longer": (FAMILIES, 5, 6, False),
    "longest": (FAMILIES, 7, 8, False),
    "beyond": (FAMILIES, 9, 10, False),
    "new_phrasing": (("story", "compare"), 1, 4, True),
    "new_family": ((HELD_OUT_FAMILY,), 1, 4, False),
}


@dataclass(frozen=True)
class Problem:
    """A question, its answer, and the exact steps from one to the other."""

    id: str
    family: str
    question: str
    answer: str
    steps: tuple[Step, ...]

    def row(self) -> dict[str, object]:
        """The flat record written to data files.

        ``difficulty`` counts steps; ``worked`` are the steps as a right solution states them.
        """
        return {
            "id": self.id,
            "family": self.family,
            "difficulty": len(self.steps),
            "question": self.question,
            "answer": self.answer,
            "worked": [step_text(step)[:-1] for step in self.steps],
        }


def is_held_out(question: str) -> bool:
    """Whether a question is on the held-out side, which no training split may contain.

    This is about a tenth of all questions: the first byte of their SHA-256 hash decides.
    """
    return hashlib.sha256(question.encode()).digest()[0] % 10 == 0


# --- problems ---------------------------------------------------------------------


def make_problem(
    split: str,
    index: int,
    *,
    seed: int = 0,
    families: tuple[str, ...] = FAMILIES,
    lengths: Sequence[float] = (1, 1, 1, 1),
    reworded: bool = False,
    held_out: bool = False,
) -> Problem:
    """Generate problem ``index`` of ``split``.

    Args:
        split: any name; different names give different problems.
        index: position in the split, from 0.
        seed: seed of the problem generator.
        families: families to draw from, uniformly.
        lengths: relative frequency of problems with 1, 2, 3, ... steps (see `between`).
        reworded: use the wording that training data never contain.
        held_out: draw from the held-out side of the hash split (`is_held_out`).

    Raises:
        ValueError: for an unknown family, or lengths that `check_lengths` refuses.
    """
    unknown = [f for f in families if f not in MAKERS]
    if unknown or not families:
        raise ValueError(f"unknown family {unknown}; known: {sorted(MAKERS)}")
    check_lengths(lengths)
    rng = random.Random(f"{seed}/{split}/{index}")
    family = rng.choice(families)
    (n,) = rng.choices(range(1, len(lengths) + 1), lengths)
    while True:
        question, chain = MAKERS[family](rng, n, reworded)
        if is_held_out(question) == held_out:
            break
    answer = answer_of(family, chain)
    return Problem(f"{split}/{seed}/{index}", family, question, answer, tuple(chain))


def between(low: int, high: int) -> list[float]:
    """Lengths for `make_problem`: from ``low`` to ``high`` steps, all equally frequent."""
    return [0.0] * (low - 1) + [1.0] * (high - low + 1)


@cache
def guessing_level(family: str, steps: int) -> float:
    """The best share of right answers without working anything out, for problems so long.

    A guess may know the start and the last sentence. For numbers it is the change from the
    start that occurs most often; for swaps the start's holder or one of the last pair,
    whichever is right most often; else the most frequent answer. Counted on 2,000 problems.
    """
    rules: Counter[str] = Counter()
    for i in range(2000):
        problem = make_problem(
            f"guess_{family}", i, families=(family,), lengths=between(steps, steps)
        )
        first, last, answer = problem.steps[0], problem.steps[-1], problem.answer
        if family == "swap":
            pair = dict(zip(("one", "other"), last.operand.split(" and "), strict=True))
            guesses = pair | {"start": first.before}
            rules.update(name for name, guess in guesses.items() if guess == answer)
        elif answer.isdigit():
            rules[str(int(answer) - int(first.before))] += 1
        else:
            rules[answer] += 1
    return max(rules.values()) / 2000


def check_lengths(lengths: Sequence[float]) -> None:
    """Refuse relative frequencies that no problem can be drawn by.

    Raises:
        ValueError: when they are not numbers from 0 on, all are 0, or there are more of
            them than a problem can have steps.
    """
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in lengths)
    if not numbers or not all(0 <= n < math.inf for n in lengths) or not sum(lengths):
        raise ValueError(f"{list(lengths)} are no relative frequencies of 1, 2, 3, ... steps")
    if len(lengths) > MOST_STEPS:
        raise ValueError(
            f"{len(lengths)} relative frequencies, but a problem has at most {MOST_STEPS} steps"
        )


def make_problems(split: str, n: int, **options: object) -> list[Problem]:
    """Problems 0 to n-1 of a split; options as in `make_problem`."""
    return [make_problem(split, i, **options) for i in range(n)]


def band_problems(band: str, n: int, seed: int = 0) -> list[Problem]:
    """``n`` different held-out problems of an evaluation band (`BANDS`).

    Raises:
        ValueError: for an unknown band.
    """
    if band not in BANDS:
        raise ValueError(f"unknown band {band!r}; known: {', '.join(BANDS)}")
    families, low, high, reworded = BANDS[band]
    found: dict[str, Problem] = {}
    index = 0
    while len(found) < n:
        problem = make_problem(
            f"eval_{band}",
            index,
            seed=seed,
            families=families,
            lengths=between(low, high),
            reworded=reworded,
            held_out=True,
        )
        found.setdefault(problem.question, problem)
        index += 1
    return list(found.values())


# --- traces -----------------------------------------------------------------------


def step_text(step: Step) -> str:
    """One step of a reasoning trace: the sentence restated, then its computation."""
    return f"{step.sentence}: {step.work}."


def careful_trace(problem: Problem) -> str:
    """The correct reasoning trace: every step restated and computed."""
    return " ".join(step_text(step) for step in problem.steps)


def _slipped(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """A trace with one wrong step, whose error carries through the later steps; its answer."""
    wrong_at = rng.randrange(len(problem.steps))
    state, lines = problem.steps[0].before, []
    for k, step in enumerate(problem.steps):
        after = _apply(problem.family, step, state)
        if k == wrong_at:
            after = _wrong_state(problem.family, after, rng)
        work = work_text(step.operator, step.operand, state, after)
        lines.append(f"{step.sentence}: {work}.")
        state = after
    return " ".join(lines), state


def _apply(family: str, step: Step, state: str) -> str:
    """The state after ``step`` when it starts from ``state`` (which may be wrong)."""
    if family == "swap":
        first, second = step.operand.split(" and ")
        return {first: second, second: first}.get(state, state)
    change = int(step.operand) if step.operator == "+" else -int(step.operand)
    return str(min(max(int(state) + change, 0), MAX_NUMBER))


def _wrong_state(family: str, state: str, rng: random.Random) -> str:
    if family == "swap":
        return rng.choice([m for m in PLAYERS if m != state])
    off = rng.choice([-10, -2, -1, 1, 2, 10])
    wrong = int(state) + off
    return str(wrong if 0 <= wrong <= MAX_NUMBER else int(state) - off)


def _guess(problem: Problem, rng: random.Random) -> str:
    """A plausible answer drawn at random, without working through the steps."""
    if problem.family == "swap":
        return rng.choice(PLAYERS)
    low = max(0, int(problem.steps[0].before) - 20)
    high = min(MAX_NUMBER, int(problem.steps[0].before) + 20)
    return str(rng.randint(low, high))


def teach(problem: Problem, teacher: str, seed: int = 0) -> tuple[str, str]:
    """The reply that a simulated teacher of a given quality writes: ``(thought, answer)``.

    The careful teacher works through every step. The rambling teacher does this twice.
    The slipping teacher gets one step wrong. The hasty teacher calls the problem easy and
    guesses.

    Raises:
        ValueError: for an unknown teacher, or for the hasty or slipping teacher on the
            family that is never trained on.
    """
    if teacher not in TEACHERS:
        raise ValueError(f"unknown teacher {teacher!r}; known: {', '.join(TEACHERS)}")
    if problem.family == HELD_OUT_FAMILY and teacher in ("hasty", "slipping"):
        raise ValueError(f"{teacher} has no wrong traces for {HELD_OUT_FAMILY}")
    rng = random.Random(f"{seed}/{teacher}/{problem.id}")
    if teacher == "careful":
        return careful_trace(problem), problem.answer
    if teacher == "rambling":
        return f"{careful_trace(problem)} {CHECK} {careful_trace(problem)}", problem.answer
    if teacher == "slipping":
        return _slipped(problem, rng)
    return EASY, _guess(problem, rng)


def draw_teacher(shares: dict[str, float], key: str) -> str:
    """Pick a teacher by share; the same ``key`` always gets the same teacher.

    Raises:
        ValueError: when shares name an unknown teacher or do not add up to 1.
    """
    unknown = sorted(set(shares) - set(TEACHERS))
    if unknown:
        raise ValueError(f"unknown teacher {unknown}; known: {', '.join(TEACHERS)}")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"teacher shares add up to {sum(shares.values())}, not 1")
    names = list(shares)
    rng = random.Random(f"teacher/{key}")
    return rng.choices(names, [shares[name] for name in names])[0]


# --- verifiers --------------------------------------------------------------------


def style_of(thought: str) -> str:
    """The style of a thought: "careful", "rambling" or "hasty" like that teacher, or "other".

    ``careful`` means worked step by step without repetition. It does not mean that the
    steps are correct (see `steps_right`).
    """
    sentences = [s.strip() for s in thought.split(".") if s.strip()]
    if not sentences or EASY in thought:
        return "hasty"
    if CHECK in thought or len(set(sentences)) < len(sentences):
        return "rambling"
    return "careful" if all(":" in s for s in sentences) else "other"


def steps_right(problem: Problem, thought: str) -> list[bool]:
    """For each step of the problem, whether the thought contains it, worked correctly."""
    said = {s.strip() for s in thought.split(".")}
    return [step_text(step)[:-1] in said for step in problem.steps]


def work_right(worked: Sequence[str], text: str) -> bool:
    """Whether a solution states every step of a problem correctly, and no other step.

    Steps may be repeated, as the rambling teacher repeats them. A sentence without a colon is
    no step and does not count.

    Args:
        worked: the correct steps (see `Problem.row`).
        text: a thought, or a solution in plain text.
    """
    said = {s.strip() for s in text.split(".") if ":" in s}
    return said == set(worked)


# --- tasks without a verifiable answer --------------------------------------------

_PEOPLE_TALK = (
    ("Hello!", "Hello! It is good to see you."),
    ("Good morning!", "Good morning! How are you?"),
    ("How are you?", "I am well, thank you."),
    ("Thank you!", "You are welcome."),
    ("Goodbye!", "Goodbye! See you soon."),
)


def make_talk(split: str, index: int, seed: int = 0) -> dict[str, str]:
    """A task without a single correct answer: small talk or a polite rewrite.

    Returns:
        A row with ``id``, ``family`` ("talk" or "rewrite"), ``question``, ``answer``.
    """
    rng = random.Random(f"{seed}/talk/{split}/{index}")
    row = {"id": f"talk/{split}/{seed}/{index}"}
    if rng.random() < 0.5:
        question, answer = rng.choice(_PEOPLE_TALK)
        name = rng.choice(NAMES)
        question = f"{name}: {question}"
        return row | {"family": "talk", "question": question, "answer": answer}
    things, name = rng.choice(THINGS), rng.choice(NAMES)
    verb = rng.choice(("give", "show"))
    return row | {
        "family": "rewrite",
        "question": f"Say it politely: {verb} {name} the {things}.",
        "answer": f"Please {verb} {name} the {things}.",
    }


def plain_row(problem: Problem) -> dict[str, str]:
    """Pretraining text for a base model, without chat template or tags.

    Returns:
        A row with ``prompt`` (the question) and ``completion`` (the correct trace and answer).
    """
    work = f" {careful_trace(problem)} {answer_text(problem.answer)}"
    return {"prompt": problem.question, "completion": work}


def answer_text(answer: str) -> str:
    """The sentence that states the answer."""
    return f"The answer is {answer}."


def sample_text(n: int = 2000) -> Iterator[str]:
    """NanoWorld text to build a tokenizer from: every family, wording, teacher and task."""
    for i in range(n):
        families = (*FAMILIES, HELD_OUT_FAMILY)
        problem = make_problem("text", i, families=families, reworded=i % 5 == 0)
        yield problem.question  # the first word has no space before it
        yield f" {careful_trace(problem)} {answer_text(problem.answer)} {EASY} {CHECK}"
        talk = make_talk("text", i)
        yield talk["question"]
        yield talk["answer"]
        yield f"{answer_text(problem.answer)} system user assistant"
    yield " ".join(f" {number}" for number in range(MAX_NUMBER + 1))
