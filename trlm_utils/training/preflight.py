"""Pre-flight checks: find configurations that cannot work before training starts.

Each check returns a `Check` or a list of them. `report` shows all as one table. It raises
when a check failed, unless the recipe allows this check to fail and gives a reason
(parameter ALLOW_FAILED).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trlm_utils import answers, chat, generation, ranks
from trlm_utils.curation import data_sets
from trlm_utils.machine import Precision
from trlm_utils.rewards import hack_bench, library, mixes, model_rewards

# Names of all checks; a recipe may allow each of them to fail.
CHECKS = (
    "precision",
    "effective batch",
    "rows truncated",
    "rows that lose </think>",
    "rows that lose the end token",
    "prompt is a prefix",
    "end token carries loss",
    "probability of <think>",
    "end token in the replies",
    "length gap",
    "pass rate",
    "zero-variance groups",
    "completions clipped",
    "paid more than honest work",
)
HACK_PROBLEMS = 20  # number of problems in the hack bench
SAMPLE = 500  # rows used by checks whose cost grows with the data


class PreflightError(RuntimeError):
    """A pre-flight check failed; the message says why, and how to train nevertheless."""


@dataclass(frozen=True)
class Check:
    """One row of the table: name of the check, what was found, whether it passed, advice."""

    name: str
    found: str
    ok: bool
    advice: str = ""


def share(part: float) -> str:
    """A share in [0, 1] as text, in per cent."""
    return f"{100 * part:.1f} %"


def check_precision(precision: Precision) -> Check:
    """The number format that was chosen, and why; always passes."""
    return Check("precision", f"{precision.name} ({precision.why})", True)


def _rows_a_step(config: Any) -> int:
    """The batch of one optimizer step, of all ranks together."""
    own = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return own * ranks.world()


def check_batch(config: Any, rows: int) -> Check:
    """Effective batch size and number of optimizer steps; fails if there would be no step."""
    batch = _rows_a_step(config)
    steps = config.max_steps
    if steps <= 0:
        per_epoch = rows // batch if config.dataloader_drop_last else -(-rows // batch)
        steps = int(per_epoch * config.num_train_epochs)
    found = f"{batch} rows a step, {rows} rows, {steps} steps"
    return Check("effective batch", found, steps > 0, "use more rows or a smaller batch")


def check_truncation(
    texts: Sequence[str], tokenizer: Any, max_length: int, allowed: float = 0.02
) -> list[Check]:
    """Share of rows truncated at max_length, and of rows that lose their closing tag or end token.

    Args:
        texts: rendered rows.
        max_length: the trainer's limit, in tokens.
        allowed: largest share of truncated rows that passes.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    n, end = max(1, len(encoded)), tokenizer.eos_token
    rows = [(text, ids) for text, ids in zip(texts, encoded, strict=True) if len(ids) > max_length]
    kept = [tokenizer.decode(ids[:max_length]) for _, ids in rows]
    cut = len(rows) / n
    lost = {  # compares texts, because a tag may be several tokens
        f"lose {name}": sum(
            text.count(mark) > short.count(mark)
            for (text, _), short in zip(rows, kept, strict=True)
        )
        / n
        for name, mark in ((answers.CLOSE, answers.CLOSE), ("the end token", end))
    }
    advice = "raise MAX_LENGTH, or lower MAX_TOKENS in 01_data_curation"
    checks = [Check("rows truncated", share(cut), cut <= allowed, advice)]
    for name, part in lost.items():
        checks.append(Check(f"rows that {name}", share(part), part <= allowed, advice))
    return checks


def check_prefix(conversations: Sequence[Sequence[chat.Message]], tokenizer: Any) -> Check:
    """Whether rendered prompts are prefixes of the texts trained on (`chat.prompt_is_prefix`)."""
    looked = list(conversations)[:SAMPLE]
    good = sum(chat.prompt_is_prefix(tokenizer, messages) for messages in looked)
    found = f"{good} of {len(looked)} rows"
    return Check("prompt is a prefix", found, good == len(looked), "correct the chat template")


def check_end_token(trainer: Any) -> Check:
    """Whether the end token carries loss, tested on one batch of the trainer.

    Otherwise the model never learns to stop. The usual reason is a pad token that equals the
    end token, so that masking the padding also masks the end token.
    """
    import torch

    name = "end token carries loss"
    if not len(trainer.train_dataset):  # TRL drops rows in which no token carries loss
        return Check(name, "no row has a token to train on", False, "raise MAX_LENGTH")
    batch = next(iter(trainer.get_train_dataloader()))
    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten()
    # a packed row has several conversations; position_ids restart at 0 in each
    each_row = torch.arange(batch["input_ids"].shape[1], device=ids.device)
    each_row = each_row.expand_as(batch["input_ids"])
    conversation = (batch.get("position_ids", each_row).flatten() == 0).cumsum(0)
    tokenizer = trainer.processing_class
    end = tokenizer.eos_token_id
    asked = len(conversation[ids != tokenizer.pad_token_id].unique())
    carried = len(conversation[(ids == end) & (labels == end)].unique())
    return Check(
        name,
        f"{carried} of {asked} rows in a batch",
        carried == asked,
        "the pad token must differ from the end token, and the template must mark it",
    )


def check_sft(
    trainer: Any, conversations: Sequence[Sequence[chat.Message]], precision: Precision
) -> list[Check]:
    """All checks for an SFT stage on conversations."""
    tokenizer = trainer.processing_class
    texts = [chat.render(tokenizer, messages) for messages in conversations]
    return [
        *check_truncation(texts, tokenizer, trainer.args.max_length),
        check_prefix(conversations, tokenizer),
        check_end_token(trainer),
        check_precision(precision),
        check_batch(trainer.args, len(conversations)),
    ]


def check_dpo(
    config: Any, rows: Sequence[data_sets.Row], tokenizer: Any, precision: Precision
) -> list[Check]:
    """All checks for a DPO stage on preference rows."""
    texts = [text for row in rows for text in data_sets.texts_of(row, tokenizer)]
    conversations = [row["prompt"] + row["chosen"] for row in rows]
    ends = sum(text.rstrip("\n").endswith(tokenizer.eos_token) for text in texts)
    lengths = {
        side: sum(len(row[side][-1]["content"]) for row in rows) / max(1, len(rows))
        for side in ("chosen", "rejected")
    }
    gap = f"chosen {lengths['chosen']:.0f}, rejected {lengths['rejected']:.0f} characters"
    return [
        *check_truncation(texts, tokenizer, config.max_length),
        check_prefix(conversations, tokenizer),
        Check(
            "end token in the replies",
            f"{ends} of {len(texts)}",
            ends == len(texts),
            "the chat template must close a reply with the end token",
        ),
        Check("length gap", gap, True),
        check_precision(precision),
        check_batch(config, len(rows)),
    ]


@dataclass(frozen=True)
class Probe:
    """Statistics of a few groups of completions sampled before GRPO.

    Attributes:
        pass_rate: share of correct completions.
        zero_spread: share of groups whose rewards are all equal, so that advantages are 0.
        clipped: share of truncated completions.
        mean_tokens: mean length of a completion, in tokens.
        table: one row per completion, see `probe_rewards`.
        hacks: bad behaviours that get more reward than honest work.
    """

    pass_rate: float
    zero_spread: float
    clipped: float
    mean_tokens: float
    table: Any
    hacks: tuple[str, ...] = ()


def probe_rewards(
    model: Any,
    tokenizer: Any,
    rows: Sequence[data_sets.Row],
    weights: dict[str, float],
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    models: model_rewards.Models | None = None,
) -> Probe:
    """Sample a group for each prompt and score it with the mix of rewards used in training.

    Args:
        rows: the prompts.
        weights: the mix (see `trlm_utils.rewards.mixes`).
        group_size: completions per prompt.
        max_new_tokens: token budget of a completion.
        models: models for rewards that call one.

    Returns:
        A probe whose table has one row per completion: prompt (the row's id), question,
        answer, text, right, one column per reward, total. Lengths are in tokens.
    """
    import pandas as pd

    prompts = [chat.render(tokenizer, row["prompt"], prompt=True) for row in rows]
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    drawn = generation.sample(
        model,
        tokenizer,
        repeated,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    texts = [s.text for s in drawn]
    asked = [row for row in rows for _ in range(group_size)]
    columns = {n: [row.get(n) or "" for row in asked] for n in ("answer", "reference", "id")}
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    given = [row["prompt"] for row in asked]
    scored = mixes.score(weights, texts, models, prompts=given, completion_ids=ids, **columns)
    table = pd.DataFrame(scored).assign(
        prompt=columns["id"],
        question=[prompt[-1]["content"] for prompt in given],
        answer=columns["answer"],
        text=texts,
        right=library.accuracy(texts, answer=columns["answer"]),
    )
    spread = table.groupby("prompt", sort=False)["total"].agg(lambda t: t.max() - t.min())
    return Probe(
        pass_rate=float(table["right"].fillna(0).mean()),
        zero_spread=float((spread < 1e-9).mean()),
        clipped=sum(not s.finished for s in drawn) / len(drawn),
        mean_tokens=sum(s.tokens for s in drawn) / len(drawn),
        table=table,
        hacks=tuple(hack_bench.hackable(weights, HACK_PROBLEMS, models)),
    )


def check_grpo(
    config: Any,
    prompts: int,
    probe: Probe,
    precision: Precision,
) -> list[Check]:
    """All checks for GRPO: results of the reward probe, and that there is at least one step."""
    batch = _rows_a_step(config)
    per_step = batch // config.num_generations
    found = f"{per_step} prompts x {config.num_generations} completions, {prompts} prompts"
    return [
        Check("pass rate", share(probe.pass_rate), True),
        Check(
            "zero-variance groups",
            share(probe.zero_spread),
            probe.zero_spread < 0.95,
            "no group teaches anything: use other prompts or a graded reward",
        ),
        Check(
            "completions clipped",
            share(probe.clipped),
            probe.clipped <= 0.5,
            "raise MAX_NEW_TOKENS, or train stage 2 longer",
        ),
        Check(
            "paid more than honest work",
            "; ".join(probe.hacks) or "nothing on the hack bench",
            not probe.hacks,
            "the mix will be gamed: see hackbench.verdict, give accuracy more weight",
        ),
        check_precision(precision),
        Check(
            "effective batch",
            found,
            prompts >= per_step,
            "TRL would train 0 steps: use more prompts or fewer a step",
        ),
    ]


def report(checks: Sequence[Check], allowed: dict[str, str] | None = None) -> Any:
    """The checks as a data frame.

    Args:
        allowed: name of a check that may fail -> reason (parameter ALLOW_FAILED).

    Raises:
        PreflightError: when a check failed that is not in ``allowed``.
    """
    import pandas as pd

    allowed = allowed or {}
    failed = [check for check in checks if not check.ok and check.name not in allowed]
    if failed:
        reasons = "; ".join(f"{c.name}: {c.found} ({c.advice})" for c in failed)
        raise PreflightError(
            f"training refused: {reasons}. To train regardless set ALLOW_FAILED: "
            f'{{"{failed[0].name}": "why"}}'
        )
    verdict = ["ok" if c.ok else f"failed, allowed: {allowed[c.name]}" for c in checks]
    table = pd.DataFrame({"check": [c.name for c in checks]})
    return table.assign(found=[c.found for c in checks], verdict=verdict)


def outcome(checks: Sequence[Check]) -> dict[str, bool]:
    """Name of each check -> whether it passed, for a stage's metrics."""
    return {check.name: check.ok for check in checks}
