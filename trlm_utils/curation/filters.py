"""Filters ("checks") for the rows of a mixture: each gives the reason for rejecting a row.

A check gets a batch of rows in the course's schema (`trlm_utils.curation.schema`) and returns a
reason or None for each row. A recipe selects them with ``checks`` of a mixture:

    duplicates: true              rejects exact duplicates (on by default)
    near_duplicates: 0.8          rejects rows of at least this MinHash similarity
    contamination: 13             rejects an n-gram of so many words of an evaluation question
    contract: think_format        requires the full format reward of `rewards.library`
    max_tokens: 4096              limits the length, rendered with the chat template
    language: [en]                requires one of these languages, detected by py3langid
    verified: true                requires that the reply's answer equals the gold answer
    numeric: true                 requires that the gold answer is one plain number
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trlm_utils import answers
from trlm_utils.curation import data_sets
from trlm_utils.files import CourseError
from trlm_utils.rewards import mixes

Row = dict[str, Any]
Check = Callable[[Sequence[Row]], list[str | None]]
PLAIN_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,6})?")
SHORTEST = 40  # characters; language detection is unreliable on shorter texts
PERMUTATIONS, SHINGLE = 64, 5
CONTRACTS = (
    "think_format",
    "think_answer_format",
    "reasoning_answer_format",
    "boxed_format",
)
DEFAULTS: dict[str, Any] = {"duplicates": True}
TYPES: dict[str, type | tuple[type, ...]] = {
    "duplicates": bool,
    "near_duplicates": (int, float),
    "contamination": int,
    "contract": str,
    "max_tokens": int,
    "language": list,
    "verified": bool,
    "numeric": bool,
}


def validate(checks: dict[str, Any]) -> None:
    """Validate the ``checks`` of a mixture.

    Raises:
        CourseError: for an unknown check or an invalid value; says what is expected.
    """
    for name, value in checks.items():
        if name not in TYPES:
            raise CourseError(f"unknown check {name!r}; there are: {', '.join(TYPES)}")
        if not isinstance(value, TYPES[name]) or (isinstance(value, bool) != (TYPES[name] is bool)):
            raise CourseError(f"check {name} is {value!r}, of the wrong type")
    if not 0 < checks.get("near_duplicates", 0.8) <= 1:
        raise CourseError("check near_duplicates is a similarity above 0 and at most 1")
    for name in ("contamination", "max_tokens"):
        if checks.get(name, 1) < 1:
            raise CourseError(f"check {name} must be above 0")
    if checks.get("contract", CONTRACTS[0]) not in CONTRACTS:
        raise CourseError(f"check contract is one of {', '.join(CONTRACTS)}")


def build(checks: dict[str, Any], tokenizer: Any, questions: Iterable[str]) -> dict[str, Check]:
    """The selected checks of single rows, cheapest first.

    Args:
        checks: name -> value, as in the module's description; missing ones from `DEFAULTS`.
        tokenizer: needed for max_tokens.
        questions: evaluation questions, for contamination.

    Returns:
        Name -> check.

    Raises:
        CourseError: see `validate`; or for max_tokens without a tokenizer.
    """
    checks = DEFAULTS | checks
    validate(checks)
    if "max_tokens" in checks and tokenizer is None:
        raise CourseError("check max_tokens needs a tokenizer")
    makers: dict[str, Callable[[Any], Check]] = {
        "numeric": lambda _: each(not_a_number),
        "contract": lambda name: outside_contract(name),
        "verified": lambda _: each(not_verified),
        "contamination": lambda n: each(Contamination(questions, n)),
        "language": lambda wanted: each(OtherLanguage(wanted)),
        "max_tokens": lambda n: TooLong(tokenizer, n),
    }
    return {name: make(checks[name]) for name, make in makers.items() if checks.get(name)}


def build_comparing(checks: dict[str, Any]) -> dict[str, Duplicates | NearDuplicates]:
    """The selected checks that compare a row with earlier kept rows, cheapest first.

    They remember a row only when it is kept (`keep`). If another check, a quota or a stratum
    rejects a row, its duplicate in a later source may still be kept.
    """
    checks = DEFAULTS | checks
    found: dict[str, Duplicates | NearDuplicates] = {}
    if checks["duplicates"]:
        found["duplicates"] = Duplicates()
    if checks.get("near_duplicates"):
        found["near_duplicates"] = NearDuplicates(checks["near_duplicates"])
    return found


def each(look: Callable[[Row], str | None]) -> Check:
    """Turn a function of one row into a check of a batch."""
    return lambda rows: [look(row) for row in rows]


def words(row: Row) -> list[str]:
    """All words of a row's question and reply, in lower case."""
    return re.findall(r"\w+", " ".join(texts(row)).casefold())


def texts(row: Row) -> list[str]:
    """The texts of a row's turns, in order; for a preference row, of both replies."""
    if "question" in row:
        return [row["question"]]
    turns = [*row.get("messages", ()), *row.get("prompt", ())]
    turns += [*row.get("chosen", ()), *row.get("rejected", ())]
    return [turn["content"] for turn in turns]


def reply_of(row: Row) -> str | None:
    """The assistant's last turn; for a preference row, of the chosen reply."""
    turns = row.get("messages") or row.get("chosen")
    return turns[-1]["content"] if turns else None


def content_digest(row: Row) -> bytes:
    """An 8-byte hash of a row's content; its source does not count."""
    import orjson

    content = {k: row[k] for k in ("messages", "prompt", "chosen", "rejected") if k in row}
    content = content or {"question": row.get("question")}
    return hashlib.blake2b(orjson.dumps(content), digest_size=8).digest()


class Duplicates:
    """Exact duplicates of rows that were kept before."""

    reason = "duplicate"

    def __init__(self) -> None:
        self.kept: set[bytes] = set()

    def key(self, row: Row) -> bytes:
        """The key that is compared: a hash of the content."""
        return content_digest(row)

    def known(self, key: bytes) -> bool:
        """Whether a row with this key was kept."""
        return key in self.kept

    def keep(self, key: bytes) -> None:
        """Compare later rows with this one, too."""
        self.kept.add(key)


class NearDuplicates:
    """Near-duplicates of rows kept before: MinHash similarity of their 5-word shingles.

    Broder 1997, *On the resemblance and containment of documents*. ``least`` is the
    smallest estimated Jaccard similarity, in [0, 1], at which a row is rejected.
    """

    reason = "near duplicate"

    def __init__(self, least: float):
        from datasketch import MinHashLSH

        self.index = MinHashLSH(threshold=least, num_perm=PERMUTATIONS)
        self.count = 0

    def key(self, row: Row) -> Any:
        """The key that is compared: the MinHash of the row's shingles."""
        from datasketch import MinHash

        said = words(row)
        last = max(1, len(said) - SHINGLE + 1)
        shingles = {" ".join(said[i : i + SHINGLE]).encode() for i in range(last)}
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch(shingles)
        return sketch

    def known(self, key: Any) -> bool:
        """Whether a similar row was kept."""
        return bool(self.index.query(key))

    def keep(self, key: Any) -> None:
        """Compare later rows with this one, too."""
        self.index.insert(self.count, key)
        self.count += 1


class Contamination:
    """Rows that share an n-gram of ``n`` words with an evaluation question.

    A shorter question counts if the row contains all its words consecutively.
    """

    def __init__(self, questions: Iterable[str], n: int):
        self.n = n
        self.known: dict[int, set[str]] = {}
        for question in questions:
            said = re.findall(r"\w+", question.casefold())
            size = min(n, len(said))
            if size:
                found = self.known.setdefault(size, set())
                found.update(" ".join(said[i : i + size]) for i in range(len(said) - size + 1))

    def __call__(self, row: Row) -> str | None:
        """The reason, or None."""
        said = words(row)
        for size, known in self.known.items():
            if any(" ".join(said[i : i + size]) in known for i in range(len(said) - size + 1)):
                return "in the evaluation"
        return None


class TooLong:
    """Rows of more than ``most`` tokens; stores each row's length in ``_tokens``."""

    def __init__(self, tokenizer: Any, most: int):
        self.tokenizer, self.most = tokenizer, most

    def __call__(self, rows: Sequence[Row]) -> list[str | None]:
        """Per row, the reason or None."""
        lengths = data_sets.token_lengths(rows, self.tokenizer)
        for row, length in zip(rows, lengths, strict=True):
            row["_tokens"] = length
        return [None if n <= self.most else f"over {self.most} tokens" for n in lengths]


class OtherLanguage:
    """Rows in a language that is not among the wanted ones."""

    def __init__(self, wanted: Sequence[str]):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self.wanted = set(wanted)
        self.identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        unknown = self.wanted - set(self.identifier.nb_classes)
        if unknown:
            raise CourseError(f"check language: unknown code {sorted(unknown)[0]!r}")

    def __call__(self, row: Row) -> str | None:
        """The reason, or None."""
        text = " ".join(texts(row))[:2000]
        if len(text) < SHORTEST:
            return None
        language, _ = self.identifier.classify(text)
        return None if language in self.wanted else f"language {language}"


def outside_contract(name: str) -> Check:
    """A check for replies that do not get the full format reward of this name."""
    reward = mixes.REWARDS[name]

    def check(rows: Sequence[Row]) -> list[str | None]:
        replies = [reply_of(row) for row in rows]
        paid = reward([reply or "" for reply in replies])
        return [
            None if reply is None or value == 1.0 else f"breaks {name}"
            for reply, value in zip(replies, paid, strict=True)
        ]

    return check


def not_verified(row: Row) -> str | None:
    """The reason if a reply's answer is not the gold answer, or if there is no gold answer."""
    reply, gold = reply_of(row), row.get("answer")
    if reply is None:
        return None
    verdict = answers.grade(reply, gold) if gold else None
    if verdict is None:
        return "no gold answer to verify with"
    return None if verdict else "wrong answer"


def not_a_number(row: Row) -> str | None:
    """The reason if the gold answer is not one plain number, which a rule could misjudge."""
    answer = row.get("answer")
    if answer is None:  # no gold answer, so no rule can misjudge it
        return None
    return None if PLAIN_NUMBER.fullmatch(answer.strip()) else "answer is no plain number"
