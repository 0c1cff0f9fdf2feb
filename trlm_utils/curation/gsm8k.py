"""Convert GSM8K (Cobbe et al. 2021), from a folder of its files, to the course's data sets."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from trlm_utils import answers, chat, nanoworld
from trlm_utils.curation.data_sets import DataSets, Row, hold_out, made, preference_row
from trlm_utils.files import CourseError, read_rows, shown


def check_folder(folder: Path) -> None:
    """Check that a folder has GSM8K's files, before anything is started.

    Raises:
        CourseError: when a file is missing, cut off, or lacks a column.
    """
    wanted = {
        "train.jsonl": ("question", "answer"),
        "test.jsonl": ("question", "answer"),
        "model_solutions.jsonl": ("question",),
    }
    if not folder.is_dir():
        raise CourseError(f"DATA_DIR {shown(folder)} is not a folder")
    for name, columns in wanted.items():
        rows = read_rows(folder / name)
        lacking = [c for c in columns if any(c not in row for row in rows)]
        if lacking or not rows:
            raise CourseError(f"{shown(folder / name)} has no column {lacking or columns}")


def data_sets_of(folder: Path, *, dpo_prompts: int, grpo_prompts: int, seed: int) -> DataSets:
    """All data sets of the course, made from GSM8K's files.

    The preference pairs come from ``model_solutions.jsonl``: for each question, a correct
    solution is chosen and a wrong one rejected. These are questions of the *test* split.

    Args:
        dpo_prompts, grpo_prompts: number of prompts for DPO and GRPO.
        seed: seed of the sampling.

    Raises:
        CourseError: see `check_folder`.
    """
    check_folder(folder)
    sets: DataSets = {"base_text": [], "sft_stage1": [], "sft_stage2": []}
    prompts = []
    for i, row in enumerate(read_rows(folder / "train.jsonl")):
        gold = answers.gsm8k_gold(row["answer"])
        if gold is None:
            continue
        key, question = f"gsm8k/train/{i}", row["question"].strip()
        work, answer = work_of(row["answer"]), nanoworld.answer_text(gold)
        source = "gsm8k/train"
        plain = {"prompt": question, "completion": f" {work} {answer}"}
        sets["base_text"].append(made(key, source, **plain))
        direct = chat.to_messages(question, answer)
        sets["sft_stage1"].append(made(key, source, messages=direct))
        thinking = chat.to_messages(question, chat.think(work, answer))
        sets["sft_stage2"].append(made(key, source, messages=thinking))
        prompts.append(made(key, source, prompt=chat.to_prompt(question), answer=gold))
    random.Random(f"gsm8k/{seed}").shuffle(prompts)
    sets["grpo_prompts"] = prompts
    sets["check_prompts"] = hold_out(sets, seed, nanoworld.between(1, 4))  # before sampling
    prompts = sets["grpo_prompts"]
    sets["grpo_prompts"] = prompts[:grpo_prompts]
    sets["dpo_prompts"] = prompts[grpo_prompts : grpo_prompts + dpo_prompts]
    sets["preferences"] = list(_preferences(folder / "model_solutions.jsonl"))
    sets["eval"] = [
        {
            "id": f"gsm8k/test/{i}",
            "band": "gsm8k_test",
            "question": row["question"].strip(),
            "answer": answers.gsm8k_gold(row["answer"]),
        }
        for i, row in enumerate(read_rows(folder / "test.jsonl"))
    ]
    return sets


def _preferences(path: Path) -> Iterator[Row]:
    for i, row in enumerate(read_rows(path)):
        replies: dict[bool, list[str]] = {True: [], False: []}
        for model in sorted(k for k, v in row.items() if isinstance(v, dict)):
            solution = row[model].get("solution", "")
            work, mark, answer = solution.rpartition("\nA:")
            if mark and work.strip() and answer.strip():
                text = chat.think(work_of(work), nanoworld.answer_text(answer.strip()))
                replies[bool(row[model].get("is_correct"))].append(text)
        if replies[True] and replies[False]:
            yield preference_row(
                f"gsm8k/model_solutions/{i}",
                "gsm8k/model_solutions",
                row["question"].strip(),
                replies[True][0],
                replies[False][0],
            )


def work_of(solution: str) -> str:
    """A solution as one line, without GSM8K's calculator annotations and the final answer."""
    work = solution.partition("####")[0]
    return re.sub(r"\s+", " ", re.sub(r"<<.*?>>", "", work)).strip()
