"""Process rewards: each step of a thought is checked, and each token gets its own advantage.

NanoWorld knows every correct step, so the check is exact. Where the steps are unknown, a
learned process reward model (`trlm_utils.rewards.reward_models`) replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trlm_utils import answers, nanoworld

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Steps = list[tuple[int, float]]  # position of each step's last token, and the step's reward


def expected(problem: nanoworld.Problem) -> set[str]:
    """The sentences of a correct thought, one per step."""
    return {nanoworld.step_text(step) for step in problem.steps}


def step_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Positions of the tokens that end a sentence of the thought, in a completion's token ids.

    The closing tag may be several tokens; the first of them may also contain the full stop.
    """
    pieces = [tokenizer.decode([token]) for token in ids]
    thought = "".join(pieces).partition(answers.CLOSE)[0]
    ends, start = [], 0
    for place, piece in enumerate(pieces):
        if thought[start : start + len(piece)].rstrip().endswith("."):
            ends.append(place)
        start += len(piece)
    return ends


def steps(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, wanted: set[str]) -> Steps:
    """Reward of each step of a thought: 1.0 if it is one of the wanted steps, else 0.0.

    A repeated step gets 0.0; otherwise the policy could gain reward by repeating a correct
    step.

    Args:
        ids: token ids of the completion.
        wanted: the correct steps (`expected`).
    """
    left, found, start = set(wanted), [], 0
    for end in step_ends(ids, tokenizer):
        text = tokenizer.decode(ids[start : end + 1]).replace(answers.OPEN, "")
        text = text[: text.rindex(".") + 1].strip()  # the last token may go beyond the full stop
        found.append((end, float(text in left)))
        left.discard(text)
        start = end + 1
    return found


def token_advantages(
    group: Sequence[Steps], lengths: Sequence[int], scale: bool = True
) -> list[list[float]]:
    """Token advantages of a group of completions: sums of the rewards of later steps.

    The rewards of all steps in the group are centred (and with ``scale`` divided by their
    standard deviation). A token's advantage is the sum over the steps that end at this token
    or later (GRPO with process supervision: Shao et al. 2024, DeepSeekMath, 4.1.3). So a
    step is also credited with its consequences.

    Args:
        group: the steps of each completion. A reward for the answer is one more step at the
            end; it may be at the same token as the step before it.
        lengths: number of tokens of each completion.
        scale: divide by the standard deviation; without it as in Dr. GRPO.

    Returns:
        One list per completion, with one advantage per token.
    """
    mean, spread = _mean_and_spread([reward for found in group for _, reward in found])
    spread = spread if scale else 1.0
    advantages = []
    for found, length in zip(group, lengths, strict=True):
        row, later = [0.0] * length, 0.0
        at: dict[int, float] = {}
        for end, reward in found:  # a step and the answer may end at the same token
            at[end] = at.get(end, 0.0) + (reward - mean) / spread
        for place in reversed(range(length)):
            later += at.get(place, 0.0)
            row[place] = later
        advantages.append(row)
    return advantages


def smallest_advantages(
    group: Sequence[Steps], lengths: Sequence[int], scale: bool = True
) -> list[list[float]]:
    """Token advantages of a group of completions: the smallest reward of the later steps.

    A token's return is the smallest reward of the steps that end at this token or later. The
    mean return of whole completions over the group is subtracted (and with ``scale`` the
    result divided by their standard deviation). So the number of steps has no influence.
    This is the hard minimum in place of the soft minimum of Cheng et al. 2025, *Stop
    Summation*.

    Arguments and result are those of `token_advantages`. Tokens after the last step get 0.
    """
    worst = [min((reward for _, reward in found), default=0.0) for found in group]
    mean, spread = _mean_and_spread(worst)
    spread = spread if scale else 1.0
    advantages = []
    for found, length in zip(group, lengths, strict=True):
        row, ahead = [0.0] * length, math.inf
        at: dict[int, float] = {}
        for end, reward in found:  # a step and the answer may end at the same token
            at[end] = min(reward, at.get(end, math.inf))
        for place in reversed(range(length)):
            ahead = min(ahead, at.get(place, math.inf))
            row[place] = (ahead - mean) / spread if ahead < math.inf else 0.0
        advantages.append(row)
    return advantages


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / max(1, len(values))
    squares = sum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / max(1, len(values) - 1)) + 1e-4


def problem_of(row: dict[str, Any], **options: Any) -> nanoworld.Problem:
    """The NanoWorld problem of a prompt, generated again from its id.

    Args:
        row: ``id`` and ``prompt`` of a data set's row.
        options: options that the data set was generated with (see `nanoworld.make_problem`).

    Raises:
        ValueError: when these options give another problem, or the row is not from NanoWorld.
    """
    split, _, place = row["id"].partition("/")
    seed, _, index = place.partition("/")
    question = row["prompt"][-1]["content"]
    if index.isdigit() and seed.isdigit():
        problem = nanoworld.make_problem(split, int(index), seed=int(seed), **options)
        if problem.question == question:
            return problem
    raise ValueError(f"{row['id']} cannot be made again: other options, or not NanoWorld's")
