"""Fixtures shared by all tests. The network is blocked here and in every subprocess."""

import importlib.util
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BLOCK = HERE / "no_network"

os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(BLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two workers share the cores
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
_spec = importlib.util.spec_from_file_location("no_network", BLOCK / "sitecustomize.py")
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))


@pytest.fixture(scope="session")
def tokenizer():
    """The course's own tokenizer, trained in-process."""
    from trlm_utils import nanoworld, tokenization

    return tokenization.build_tokenizer(nanoworld.sample_text(300))


@pytest.fixture
def downloaded():
    """A tokenizer as models bring it: no think tags, and its end token pads.

    A BPE with merges: ``.</`` is one token, a full stop and the beginning of a tag.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    learn = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["<b> I (think) so.</b> The answer is it."] * 9, learn)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


@pytest.fixture
def model(tokenizer):
    """A tiny model with random weights."""
    from trlm_utils import models

    return models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)


@pytest.fixture(scope="session")
def real_data():
    """Folder with real data sets; tests that use it are skipped where it is absent."""
    folder = Path(os.environ.get("TRLM_REAL_DATA") or HERE.parent.parent / "shared/data")
    if not (folder / "gsm8k" / "train.jsonl").is_file():
        pytest.skip("no real data here; set TRLM_REAL_DATA")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The longest file first, and each file on one worker, because of its fixtures.

    A file may spread its tests itself: a test with a group of its own keeps it.
    """
    items.sort(key=lambda item: "sequence" not in item.keywords)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_terminal_summary(terminalreporter):
    """Name what continuous integration could not run, just before the last line."""
    if left_out := os.environ.get("TRLM_LEFT_OUT"):
        terminalreporter.write_line(f"NOT RUN: {left_out}")
