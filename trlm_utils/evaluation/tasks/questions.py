"""Convert questions of published benchmarks to the course's columns: question and answer."""

import hashlib
import re
from typing import Any

from trlm_utils import answers

LETTERS = "ABCD"
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def mathematics(docs: Any) -> Any:
    """Mathematics problems with an answer, or with a boxed answer at the end of a solution."""
    return docs.map(_problem, remove_columns=docs.column_names)


def _problem(doc: dict[str, Any]) -> dict[str, str]:
    answer = doc["answer"] if "answer" in doc else answers.last_boxed(doc["solution"])
    if answer is None:
        raise ValueError(f"no boxed answer in the solution of: {doc['problem'][:80]}")
    # Minerva writes 4.5e33, in which e would be parsed as Euler's number
    answer = re.sub(r"^(-?[\d.]+)e([+-]?\d+)$", r"\1 \\times 10^{\2}", str(answer).strip())
    return {"question": doc["problem"], "answer": answer}


def four_options(docs: Any) -> Any:
    """GPQA's questions with the options A to D.

    A hash of the question determines the letter of the correct option, so it is the same for
    every model and seed.
    """
    return docs.map(_lettered, remove_columns=docs.column_names)


def _lettered(doc: dict[str, Any]) -> dict[str, str]:
    options = [doc[name].strip() for name in WRONG]
    place = hashlib.sha256(doc["Question"].encode()).digest()[0] % 4
    options.insert(place, doc["Correct Answer"].strip())
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True)]
    ask = "Which option is right? State its letter as the answer."
    return {"question": "\n".join([doc["Question"].strip(), *lines, ask]), "answer": LETTERS[place]}
