"""Test and measure the course on a real GPU: ``python -m tools.gpu`` (``make gpu``).

It runs the smoke recipe on the GPU, times training and rollouts of a model with 135 million
random parameters, compares the memory that training takes with the estimate, times the
attention back ends, checks bf16 and fp16 for NaN, and writes ``figures/gpu-<name>.md``.

    python -m tools.gpu              # on the accelerator that torch finds
    python -m tools.gpu --tiny       # a tiny model, on any device: does the script itself work?
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import architectures, generation, machine, models, nanoworld, tokenization
from trlm_utils.files import PROJECT_ROOT, shown, write_text

MODEL = "SmolLM2-135M-Instruct"
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flex_attention")
BATCH, LENGTH, PROMPTS, BUDGET = 8, 512, 64, 128


def device_name() -> str:
    """The GPU's name, or the kind of device if it has none."""
    import torch

    device = machine.torch_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronize() -> None:
    """Wait until the GPU is done, because its kernels run asynchronously."""
    import torch

    device = machine.torch_device()
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest time of several calls, after a warm-up call."""
    work()
    found = []
    for _ in range(repeats):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


def random_model(attention: str = "sdpa", tiny: bool = False) -> Any:
    """The real architecture with random weights, on the device."""
    import torch
    from transformers import AutoModelForCausalLM

    config = architectures.architecture(MODEL)
    if tiny:
        config.hidden_size, config.intermediate_size, config.num_hidden_layers = 36, 72, 1
        config.vocab_size = 2000
    torch.manual_seed(0)
    return models.placed(AutoModelForCausalLM.from_config(config, attn_implementation=attention))


def training_step(model: Any, dtype: Any, batch: int = BATCH, length: int = LENGTH) -> Any:
    """A function that takes one optimizer step in a number format and returns the loss."""
    import torch

    device = machine.torch_device()
    ids = torch.randint(10, 1000, (batch, length), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    half = dtype != torch.float32

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=half):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def attention_lines(tiny: bool) -> list[str]:
    """Lines with the seconds of a training step for each attention back end that works here."""
    import torch

    lines = ["| attention | ms a training step |", "| --- | --- |"]
    for name in ATTENTION:
        try:
            took = seconds(training_step(random_model(name, tiny), torch.float32))
            lines.append(f"| {name} | {1e3 * took:.1f} |")
        except Exception as error:  # a back end that is not installed or not for this GPU
            lines.append(f"| {name} | does not work: {_one_line(error)} |")
    return lines


def precision_lines(tiny: bool, steps: int = 20) -> list[str]:
    """Lines on each number format: whether the loss stays finite, and how fast training is."""
    import torch

    chosen = machine.choose_precision(*machine.detect_device())
    lines = [
        f"The course chooses {chosen.name} here ({chosen.why}).",
        "",
        "| format | finite after steps | ms a training step |",
        "| --- | --- | --- |",
    ]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        try:
            step = training_step(random_model(tiny=tiny), dtype)
            losses = [step() for _ in range(steps)]
            finite = sum(bool(torch.isfinite(loss)) for loss in losses)
            lines.append(f"| {name} | {finite} of {steps} | {1e3 * seconds(step):.1f} |")
        except Exception as error:
            lines.append(f"| {name} | does not work: {_one_line(error)} | |")
    return lines


def speed_lines(tiny: bool) -> list[str]:
    """Lines with tokens per second of training and rollouts, and measured and estimated memory."""
    import torch

    model = random_model(tiny=tiny)
    size = sum(p.numel() for p in model.parameters())
    training = BATCH * LENGTH / seconds(training_step(model, torch.float32))
    peak = machine.peak_device_memory_mb()
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    # as in `estimate`: weights, gradients and AdamW's states; 34 bytes of activations per
    # token, layer and unit of width; logits of every position are held three times
    expected = 16 * size + BATCH * LENGTH * (34 * width * layers + 12 * model.config.vocab_size)
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text())
    prompts = [p.question for p in nanoworld.make_problems("gpu", PROMPTS)]
    began = time.perf_counter()
    drawn = generation.sample(model, tokenizer, prompts, max_new_tokens=BUDGET, seed=0)
    synchronize()
    rollouts = sum(s.tokens for s in drawn) / (time.perf_counter() - began)
    return [
        f"- {size:,} parameters, fp32, batch {BATCH} x {LENGTH} tokens",
        f"- training: {training:,.0f} tokens/s",
        f"- rollouts: {rollouts:,.0f} tokens/s, {PROMPTS} completions of at most {BUDGET} tokens",
        f"- peak memory of training: {peak:,.0f} MiB; estimated {expected / 2**20:,.0f} MiB",
    ]


def smoke_lines() -> list[str]:
    """Lines with the result of the smoke recipe on this GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "trlm_utils", "run", "smoke", "--force"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    kept = [line for line in done.stdout.splitlines() if "done in" in line or "All stages" in line]
    kept += done.stderr.strip().splitlines()[-1:] if done.returncode else []
    return [f"Exit status {done.returncode}.", "", "```", *kept, "```"]


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120].replace("|", "/")


def page(tiny: bool) -> str:
    """All results as Markdown."""
    versions = ", ".join(f"{k} {v}" for k, v in machine.package_versions().items())
    parts = [f"# {device_name()}", "", f"{time.strftime('%Y-%m-%d')}; {versions}.", ""]
    for title, lines in (
        ("Smoke recipe", [] if tiny else smoke_lines()),
        ("Speed and memory", speed_lines(tiny)),
        ("Attention", attention_lines(tiny)),
        ("Number formats", precision_lines(tiny)),
    ):
        parts += [f"## {title}", "", *lines, ""] if lines else []
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on any device")
    parser.add_argument("--folder", type=Path, default=PROJECT_ROOT / "figures")
    options = parser.parse_args(arguments)
    if machine.torch_device().type == "cpu" and not options.tiny:
        print("error: torch finds no GPU here; see `make doctor`", file=sys.stderr)
        return 2
    name = re.sub(r"[^\w.-]+", "-", device_name()).strip("-").lower()
    path = options.folder / f"gpu-{name}.md"
    write_text(path, page(options.tiny))
    print(shown(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
