"""Suites of published benchmarks, evaluated with lm-eval.

A suite is a YAML file in ``suites/``. It names the tasks of each benchmark (lm-eval's own, or
the course's in ``tasks/``), the metric that is the score, the sampling settings, and published
scores with the evaluation harness they were measured with. The data come from the Hub, or
from a folder with the same files (`find_files`). Records are those of `held_out.evaluate`,
with the benchmark as band, so ladders, intervals and paired differences are computed alike.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trlm_utils import answers
from trlm_utils.curation.sources import FORMATS
from trlm_utils.evaluation.chat_lm import TASKS, chat_lm, put_questions
from trlm_utils.evaluation.held_out import Record
from trlm_utils.evaluation.tasks import scoring
from trlm_utils.files import CourseError, shown

FOLDER = Path(__file__).with_name("suites")
READERS = {"jsonl": "json", "json": "json", "csv": "csv", "parquet": "parquet"}


@dataclass(frozen=True)
class Suite:
    """The content of a suite's file.

    Attributes:
        tasks: benchmark -> lm-eval's task or group, the metric and filter to read, the number
            of questions, and whether replies are generated (else options are chosen).
        hub: the data sets that it needs.
        lm_eval: folders of lm-eval's own tasks; empty for a suite of the course's tasks.
        sampling: sampling settings; empty means those of each task, with one reply.
        published: models with their scores in % and the harness they were measured with.
    """

    name: str
    about: str
    tasks: dict[str, dict[str, Any]]
    hub: list[str]
    lm_eval: list[str] = field(default_factory=list)
    sampling: dict[str, Any] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)

    def replies(self, tasks: Sequence[str], samples: int, limit: int = 0) -> int:
        """Number of replies that a model generates for all questions; ``limit`` as in `ask`."""
        return sum(
            min(spec["questions"], limit or spec["questions"]) * (samples if self.sampling else 1)
            for band, spec in self.tasks.items()
            if spec.get("written", True) and (not tasks or band in tasks)
        )


def names() -> list[str]:
    """Names of all suites."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Suite:
    """Read a suite's file.

    Raises:
        CourseError: for an unknown name.
    """
    if name not in names():
        raise CourseError(f"no suite {name!r}; there are {', '.join(['nano', *names()])}")
    return Suite(name, **yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class OpenSuite:
    """A suite with its data loaded: benchmark -> lm-eval's task objects."""

    suite: Suite
    tasks: dict[str, list[Any]]

    def questions(self, limit: int = 0) -> Any:
        """Number of questions of each benchmark, as a series; ``limit`` as in `ask`."""
        import pandas as pd

        counts = {
            band: sum(min(len(task.eval_docs), limit or len(task.eval_docs)) for task in group)
            for band, group in self.tasks.items()
        }
        return pd.Series(counts, dtype=int)

    def published_rows(self) -> list[Record]:
        """Published scores: suite, model, band, score (a share), harness."""
        return [
            {"suite": self.suite.name, "model": entry["model"], "band": band}
            | {"score": entry["scores"][band] / 100, "harness": entry["harness"]}
            for entry in self.suite.published
            for band in self.tasks
            if band in entry["scores"]
        ]


def check(suites: Sequence[str], tasks: Sequence[str] = ()) -> None:
    """Check that suites, and benchmarks in them, exist.

    Raises:
        CourseError: for an unknown name; lists the known ones.
    """
    known = [task for name in suites if name != "nano" for task in load(name).tasks]
    for task in tasks:
        if task not in known:
            raise CourseError(f"no benchmark {task!r} in {', '.join(suites)}; {', '.join(known)}")


def open_suites(
    suites: Sequence[str],
    tasks: Sequence[str] = (),
    folder: str = "",
    samples: int = 1,
    taken: Iterable[str] = (),
) -> list[OpenSuite]:
    """Load suites with their data. ``nano`` is skipped: its questions are in the run's folder.

    Args:
        tasks: benchmarks to open; empty means all.
        folder: folder of the data files; empty means the Hub.
        samples: replies per question, for suites that sample.
        taken: band names that are already used.

    Raises:
        CourseError: when a suite or benchmark is unknown, its name is already used, or a file
            is missing.
    """
    check(suites, tasks)
    opened = [_open_suite(load(n), tasks, folder, samples) for n in suites if n != "nano"]
    if twice := sorted({band for suite in opened for band in suite.tasks} & set(taken)):
        raise CourseError(f"{twice[0]} is asked by a suite and by the questions of the run")
    return [suite for suite in opened if suite.tasks]


def _open_suite(suite: Suite, wanted: Sequence[str], folder: str, samples: int) -> OpenSuite:
    _show_nltk(folder)
    manager = task_manager(suite)
    tasks = {
        band: [
            _open_task(manager, leaf, suite, spec, folder, samples)
            for leaf in leaves(manager, spec["task"])
        ]
        for band, spec in suite.tasks.items()
        if not wanted or band in wanted
    }
    return OpenSuite(suite, tasks)


def task_manager(suite: Suite) -> Any:
    """lm-eval's index of the suite's tasks only; indexing all tasks takes 14 seconds."""
    from lm_eval import tasks as lm_eval_tasks

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    root = Path(lm_eval_tasks.__file__).parent
    places = [str(root / place) for place in suite.lm_eval] or str(TASKS)
    return lm_eval_tasks.TaskManager(include_path=places, include_defaults=False)


def leaves(manager: Any, name: str) -> list[str]:
    """Names of all tasks in a group or tag, recursively; for a task, its own name."""
    entry = manager.task_index[name]
    if entry.cfg is None:  # a tag
        return sorted(entry.tags)
    members = entry.cfg["task"] if "group" in entry.cfg else ()
    return [leaf for member in members for leaf in leaves(manager, member)] or [name]


def _open_task(
    manager: Any, leaf: str, suite: Suite, spec: Record, folder: str, samples: int
) -> Any:
    entry = manager.task_index[leaf]
    settings: Record = {"include": str(entry.yaml_path), "task": leaf}
    if "num_fewshot" in spec:
        settings["num_fewshot"] = spec["num_fewshot"]
    if suite.sampling:
        take = [{"function": "take_first_k", "k": samples}]
        settings |= {
            "repeats": samples,
            "generation_kwargs": entry.cfg["generation_kwargs"] | suite.sampling,
            "filter_list": [{"name": "all", "filter": take}],
        }
    if folder:
        alone = len(leaves(manager, spec["task"])) == 1
        settings |= _from_folder(entry.cfg, folder, spec, alone)
    with tempfile.TemporaryDirectory() as place:  # lm-eval reads changes to a task from a file
        path = Path(place, f"{leaf}.yaml")
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        try:
            (task,) = manager.load([str(path)])["tasks"].values()
        except _unreadable() as error:
            raise CourseError(f"{_called(entry.cfg, folder)}: {_reason(error)}") from None
    return task


def _unreadable() -> tuple[type[Exception], ...]:
    """Types of errors that datasets and lm-eval raise for damaged or unexpected data."""
    from datasets.exceptions import DatasetGenerationError
    from jinja2 import UndefinedError

    return DatasetGenerationError, UndefinedError, ValueError, KeyError, StopIteration


def _reason(error: Exception) -> str:
    if isinstance(error, StopIteration):
        return "no rows"
    if isinstance(error, KeyError):
        return f"no column {error}"
    return str(error.__cause__ or error).strip().splitlines()[0]


def _called(config: Record, folder: str) -> str:
    """Description of a data set for messages: its name, subset and where it was read."""
    place = f" in {shown(Path(folder))}" if folder else ""
    return f"{config['dataset_path']} ({_subset(config)}){place}"


def _from_folder(config: Record, folder: str, spec: Record, alone: bool) -> Record:
    """Settings with which a task reads local files instead of the Hub."""
    uses = ("test_split", "validation_split", "fewshot_split", "training_split")
    splits = {use: config[use] for use in uses if config.get(use)}
    asked = splits.get("test_split") or splits["validation_split"]
    wanted = list(dict.fromkeys([asked, *splits.values()]))
    files = find_files(config, wanted, folder, spec.get("files", ""), alone)
    needed = [asked]
    if spec.get("num_fewshot") and "fewshot_split" in splits:
        needed.append(splits["fewshot_split"])
    for split in needed:
        if split not in files:
            raise CourseError(
                f"{_called(config, folder)}: no file of split {split}, "
                f"such as {_placed(config)}/{split}.jsonl"
            )
    kind = READERS[files[asked][0].suffix[1:]]
    data = {split: list(map(str, paths)) for split, paths in files.items()}
    source = {"dataset_path": kind, "dataset_name": None, "dataset_kwargs": {"data_files": data}}
    # a split that the task names but that is not needed may be missing
    return source | {use: None for use, split in splits.items() if split not in files}


def _subset(config: Record) -> str:
    return config.get("dataset_name") or "default"


def _placed(config: Record) -> str:
    return f"{config['dataset_path'].replace('/', '__')}/{_subset(config)}"


def find_files(
    config: Record, splits: Sequence[str], folder: str, files: str = "", alone: bool = True
) -> dict[str, list[Path]]:
    """The files of each split of a data set in a folder, all in one format.

    The folders ``<owner>__<name>/<subset>`` and ``<name>/<subset>`` are searched. If no other
    subset is used, ``data`` and the data set's own folder are searched too. A split's files
    are named ``test.jsonl``, or ``test-00000-of-00002.parquet`` and so on. A folder counts
    only if it has the first split.

    Args:
        config: lm-eval's dataset_path and dataset_name.
        splits: names of the splits; the first is the one whose questions are asked.
        files: another folder to search, or the file of the first split.
        alone: whether no other task reads another subset of this data set.

    Raises:
        CourseError: when some of a split's shards are missing.
    """
    named = [config["dataset_path"].replace("/", "__"), config["dataset_path"].split("/")[-1]]
    inside = [_subset(config), *(["data", "."] if alone else [])]
    places = [Path(folder, root, part) for root in named for part in inside]
    if files and Path(folder, files).is_file():
        return {splits[0]: [Path(folder, files)]}
    for place in [*places, *([Path(folder, files)] if files else [])]:
        for form in FORMATS:
            found = {split: _shards(place, split, form) for split in splits}
            if found[splits[0]]:
                return {split: paths for split, paths in found.items() if paths}
    return {}


def _shards(place: Path, split: str, form: str) -> list[Path]:
    """The file of a split, or all its shards; CourseError if some are missing."""
    name = re.compile(rf"{split}(?:-\d+-of-(\d+))?\.{form}")
    found = {
        path: match for path in place.glob(f"{split}*") if (match := name.fullmatch(path.name))
    }
    for path, match in found.items():
        if match[1] and len(found) != int(match[1]):
            raise CourseError(f"{shown(path)}: {len(found)} of {int(match[1])} shards are there")
    return sorted(found)


def _show_nltk(folder: str) -> None:
    """Point nltk to local files: IFEval needs them to count sentences, and would download them."""
    if folder and Path(folder, "nltk_data").is_dir():
        import nltk

        nltk.data.path.insert(0, str(Path(folder, "nltk_data").resolve()))


def ask(
    model: Any,
    tokenizer: Any,
    opened: OpenSuite,
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    seed: int = 0,
    system: str = "",
    engine: str = "course",
    questions: int = 0,
) -> list[Record]:
    """Evaluate a model on a suite.

    Args:
        opened: see `open_suites`.
        max_new_tokens: token budget of a generated reply (not used for multiple choice).
        batch_size: replies, or likelihoods, computed at once.
        system: system message before every question.
        engine: what draws completions, see `samplers.named`.
        questions: ask only the first so many of each task, for a quick look; 0 means all.

    Returns:
        One record per question, as in `held_out.evaluate`. For multiple choice (decoding
        "likelihood") texts has the chosen option, and truncated, well_formed and tokens are
        None.
    """
    suite, tasks = opened.suite, opened.tasks
    lm = chat_lm(
        model,
        tokenizer,
        batch_size,
        seed,
        max_new_tokens=max_new_tokens,
        thoughts=not suite.lm_eval,
        engine=engine,
    )
    asked = [task for group in tasks.values() for task in group]
    samples = put_questions(lm, asked, seed, system, questions)
    records = []
    for band, group in tasks.items():
        spec = suite.tasks[band]
        for task in group:
            for found in samples[task.task_name]:
                if found["filter"] == spec.get("filter", found["filter"]):
                    replies = lm.drawn.get((task.task_name, found["doc_id"]))
                    record = {"id": f"{task.task_name}/{found['doc_id']}", "band": band}
                    record |= {"form": "chat", "checked": None}
                    record |= {"accuracy": float(found[spec["metric"]])}
                    record |= {"prompt": found["arguments"][0][0], "gold": str(found["target"])}
                    record |= (
                        _written(replies, suite) if replies else _chosen(found, spec["metric"])
                    )
                    records.append(record)
    return records


def _written(replies: Sequence[Any], suite: Suite) -> Record:
    forms = [scoring.form(answers.parse(r.text), r.finished) for r in replies]
    return {
        "decoding": "sampled" if suite.sampling else "greedy",
        **{name: sum(form[name] for form in forms) / len(forms) for name in forms[0]},
        "tokens": sum(r.tokens for r in replies) / len(replies),
        "texts": [r.text for r in replies],
    }


def _chosen(found: Record, metric: str) -> Record:
    """The option with the highest log-likelihood, divided by its length for acc_norm."""
    options = [arguments[1].strip() for arguments in found["arguments"]]
    scores = [
        answer[0] / (len(option) if metric == "acc_norm" else 1)
        for answer, option in zip(found["filtered_resps"], options, strict=True)
    ]
    chosen = options[max(range(len(options)), key=scores.__getitem__)]
    nothing = dict.fromkeys(("truncated", "well_formed", "tokens"))
    gold = options[int(found["target"])]
    return {"decoding": "likelihood", **nothing, "texts": [chosen], "gold": gold}
