"""The families of NanoWorld problems: how each question is worded and each step computed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# more names than a chain can be long, so that nobody comes back in a comparison
NAMES = tuple("Ana Ben Cleo Dan Eva Finn Gus Hana Ivan Jade Kai Lena".split())
PLAYERS = NAMES[:6]  # of swaps, and owners in stories
THINGS = ("apples", "books", "coins", "cups")
MONTHS = (
    "January February March April May June July August September October November December"
).split()
VARIABLES = "abcdefghij"
MAX_NUMBER = 99  # every number is one token, so nothing may exceed this
MAX_CHANGE = 5  # largest number added or subtracted in one step, so 1,000 facts to learn


@dataclass(frozen=True)
class Step:
    """One change of state: its ``sentence`` in the question, the states ``before`` and ``after``.

    ``work`` is the computation that a careful solver writes for it, e.g. ``12 + 5 = 17``.
    """

    sentence: str
    operator: str
    operand: str
    before: str
    after: str

    @property
    def work(self) -> str:
        """The computation as text, from the state before to the state after."""
        return work_text(self.operator, self.operand, self.before, self.after)


def work_text(operator: str, operand: str, before: str, after: str) -> str:
    """Write one computation: ``12 + 5 = 17`` or, for moves, ``Ana to Ben``."""
    if operator in "+-":
        return f"{before} {operator} {operand} = {after}"
    return f"{before} to {after}" if operator == "swap" else after


def _changes(rng: random.Random, n: int) -> tuple[int, list[tuple[str, int, int, int]]]:
    """A starting number and n signed changes that keep every state within 0..MAX_NUMBER."""
    start = value = rng.randint(5, 60)
    changes = []
    for _ in range(n):
        by = rng.randint(1, MAX_CHANGE)
        up = rng.random() < 0.5
        if value + by > MAX_NUMBER:
            up = False
        elif value - by < 0:
            up = True
        after = value + by if up else value - by
        changes.append(("+" if up else "-", by, value, after))
        value = after
    return start, changes


def _months(rng: random.Random, n: int) -> list[str]:
    """n consecutive months. They mark the order of the steps, so no counting is needed."""
    first = rng.randrange(len(MONTHS))
    return [MONTHS[(first + k) % len(MONTHS)] for k in range(n)]


def _story(rng: random.Random, n: int, reworded: bool) -> tuple[str, list[Step]]:
    name, things = rng.choice(PLAYERS), rng.choice(THINGS)
    start, changes = _changes(rng, n)
    verbs = {"+": "brings", "-": "takes"}
    if reworded:
        verbs = {"+": "adds", "-": "costs"}
    steps = [
        Step(f"{month} {verbs[op]} {by}", op, str(by), str(before), str(after))
        for month, (op, by, before, after) in zip(_months(rng, n), changes, strict=True)
    ]
    ask = f"How many {things} are left?" if reworded else f"How many {things} now?"
    return f"{name} has {start} {things}. {_told(steps)} {ask}", steps


def _expression(rng: random.Random, n: int, reworded: bool) -> tuple[str, list[Step]]:
    start, changes = _changes(rng, n)
    first = rng.randrange(len(VARIABLES) - n + 1)
    names = VARIABLES[first : first + n]
    steps = []
    for k, (op, by, before, after) in enumerate(changes):
        left = names[k - 1] if k else str(start)
        sentence = f"{names[k]} = {left} {op} {by}"
        steps.append(Step(sentence, op, str(by), str(before), str(after)))
    return f"Compute {_told(steps)} What is {names[-1]}?", steps


def _compare(rng: random.Random, n: int, reworded: bool) -> tuple[str, list[Step]]:
    # Each sentence leads from a person with a known score to the next person: whoever beats
    # another by 5 has 5 more. With more steps than names, a name is used again; then the
    # latest sentence about it counts.
    people = [rng.choice(NAMES)]
    while len(people) <= n:
        people.append(rng.choice([m for m in NAMES if m not in people]))
    start, changes = _changes(rng, n)
    verbs = {"+": "trails", "-": "beats"}
    if reworded:
        verbs = {"+": "follows", "-": "leads"}
    steps = []
    for k, (op, by, before, after) in enumerate(changes):
        sentence = f"{people[k]} {verbs[op]} {people[k + 1]} by {by}"
        steps.append(Step(sentence, op, str(by), str(before), str(after)))
    ask = f"How many points has {people[-1]}?"
    return f"{people[0]} has {start} points. {_told(steps)} {ask}", steps


def _swap(rng: random.Random, n: int, reworded: bool) -> tuple[str, list[Step]]:
    holder = start = rng.choice(PLAYERS)
    steps = []
    for month in _months(rng, n):
        # Some swaps move the ball; the others are distractors.
        moves = rng.random() < 0.6
        others = [m for m in PLAYERS if m != holder]
        pair = [holder, rng.choice(others)] if moves else rng.sample(others, 2)
        after = pair[1] if moves else holder
        rng.shuffle(pair)
        # The name directly follows the month, so that copying it takes one attention look-up.
        sentence = f"In {month} {pair[0]} and {pair[1]} swap"
        steps.append(Step(sentence, "swap", " and ".join(pair), holder, after))
        holder = after
    return f"{start} has the ball. {_told(steps)} Who has the ball?", steps


def _told(steps: list[Step]) -> str:
    return " ".join(f"{step.sentence}." for step in steps)


def _truth(rng: random.Random, n: int, reworded: bool) -> tuple[str, list[Step]]:
    people = [rng.choice(NAMES)]
    while len(people) <= n:
        people.append(rng.choice([m for m in NAMES if m not in people[-2:]]))
    honest = rng.random() < 0.5
    opening = f"{people[0]} is {'honest' if honest else 'lying'}."
    steps = []
    for a, b in zip(people, people[1:], strict=False):
        says_honest = rng.random() < 0.5
        before = f"{a} is {'honest' if honest else 'lying'}"
        honest = says_honest == honest  # a liar's statement means its opposite
        claim = f"{b} is {'honest' if says_honest else 'lying'}"
        after = f"{b} is {'honest' if honest else 'lying'}"
        steps.append(Step(f"{a} says {claim}", "says", claim, before, after))
    return f"{opening} {_told(steps)} Is {people[-1]} honest?", steps


MAKERS: dict[str, Callable[[random.Random, int, bool], tuple[str, list[Step]]]] = {
    "story": _story,
    "expression": _expression,
    "compare": _compare,
    "swap": _swap,
    "truth": _truth,
}


def answer_of(family: str, steps: list[Step]) -> str:
    if family == "truth":
        return "yes" if steps[-1].after.endswith("honest") else "no"
    return steps[-1].after
