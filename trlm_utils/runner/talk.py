"""Talk to the models of a run in a terminal: `python -m trlm_utils chat FOLDER [FOLDER ...]`.

Every line is a question of its own: the course's models are trained on single turns. With
several folders each model answers, one below the other. In a terminal the thought is dimmed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import answers, chat, generation, machine, models
from trlm_utils.files import CourseError, from_root, shown

DIM, PLAIN = "\033[2m", "\033[0m"
LEAVE = ("exit", "quit")


def open_models(folders: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Name -> model and tokenizer, of stages' folders or of folders with a model in them.

    Raises:
        CourseError: for a folder without a whole model.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    found = {}
    for name in folders:
        place = from_root(name)
        place = place / "model" if (place / "model").is_dir() else place
        if not place.is_dir():
            raise CourseError(f"no model in {shown(from_root(name))}: name a stage of a run")
        try:
            found[name] = models.load_model(place)
        except models.ModelFolderError as error:
            raise CourseError(str(error)) from None
    return found


def reply(
    model: Any, tokenizer: Any, question: str, *, temperature: float, budget: int, system: str
) -> generation.Sample:
    """What a model says to one question.

    Args:
        temperature: 0 is greedy.
        budget: tokens at most.
        system: system message before the question; empty for none.
    """
    machine.limit_threads(model)
    prompt = chat.render(tokenizer, chat.to_prompt(question, system), prompt=True)
    (said,) = generation.sample(
        model, tokenizer, [prompt], max_new_tokens=budget, temperature=temperature
    )
    return said


def as_text(said: generation.Sample, colour: bool) -> str:
    """A reply for a terminal: the thought, dimmed if ``colour``, then the answer.

    A reply that the budget cut off says so.
    """
    parsed = answers.parse(said.text)
    dim, plain = (DIM, PLAIN) if colour else ("", "")
    lines = [] if parsed.thought is None else [f"{dim}{parsed.thought.strip()}{plain}"]
    if parsed.answer.strip():
        lines.append(parsed.answer.strip())
    if not said.finished:
        lines.append(f"{dim}(cut off after {said.tokens} tokens: raise --max-new-tokens){plain}")
    return "\n".join(lines) or "(nothing)"


def talk(
    folders: Sequence[str],
    *,
    temperature: float = 0.0,
    budget: int = 160,
    system: str = "",
    lines: Iterable[str] = (),
) -> None:
    """Answer questions line by line, until they end or one of `LEAVE` is typed.

    Args:
        folders: see `open_models`.
        temperature, budget, system: see `reply`.
        lines: the questions; without any, standard input.

    Raises:
        CourseError: see `open_models`; and for a temperature or budget that cannot be.
    """
    if temperature < 0 or budget < 1:
        raise CourseError("--temperature is 0 (greedy) or more, --max-new-tokens 1 or more")
    opened = open_models(folders)
    terminal = sys.stdin.isatty() and not lines
    colour = sys.stdout.isatty()
    if terminal:
        print("One question a line; exit or Ctrl-D ends.")
    for line in lines or _typed(terminal):
        question = line.strip()
        if question in LEAVE:
            return
        if not question:
            continue
        for name, (model, tokenizer) in opened.items():
            if len(opened) > 1:
                print(f"{Path(name).name}:")
            try:
                how = {"temperature": temperature, "budget": budget, "system": system}
                print(as_text(reply(model, tokenizer, question, **how), colour), flush=True)
            except ValueError as error:  # the question is too long
                print(f"error: {error}", flush=True)


def _typed(terminal: bool) -> Iterable[str]:
    while True:
        if terminal:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line
