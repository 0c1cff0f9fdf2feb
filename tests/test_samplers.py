"""Other libraries' sampling: the same completions and distribution, a model left as it was."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trlm_utils import engines, generation, models, samplers
from trlm_utils.evaluation import held_out
from trlm_utils.files import CourseError, write_rows

HERE = ("course", "generate", "transformers")  # what runs without a GPU
PROMPTS = [[5, 6, 7], [8], [5, 6, 7], [9, 10, 11, 12, 13]]


@pytest.fixture(autouse=True)
def without_the_rehearsals_device(monkeypatch):
    """Another test of this process may have registered its accelerator, which has no graphs."""
    monkeypatch.setattr(torch, "get_device_module", lambda *_: torch.cpu)


@pytest.fixture
def sharp(tokenizer):
    """A small model that is sure enough for few tokens to hold most of the probability."""
    torch.manual_seed(1)
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
    # not the embeddings: with those it would repeat the last token
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model.eval()


def drawn(engine, model, tokenizer, prompts=PROMPTS, **how):
    ids = {"end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    return samplers.named(engine)(model, prompts, **ids, **{"max_new_tokens": 6, **how})


@pytest.mark.parametrize("engine", HERE[1:])
def test_greedy_completions_are_those_of_the_courses_loop(engine, sharp, tokenizer):
    ours = drawn("course", sharp, tokenizer, temperature=0.0)
    theirs = drawn(engine, sharp, tokenizer, temperature=0.0, batch_size=3)
    assert theirs == ours and len({tuple(ids) for ids in ours}) == 3


@pytest.mark.parametrize("engine", HERE)
def test_a_completion_stops_after_the_end_token(engine, sharp, tokenizer):
    (free,) = drawn("course", sharp, tokenizer, [[8]], temperature=0.0)
    end = free[2]  # as if the third token ended a completion
    assert end not in free[:2]
    ids = {"end": end, "pad": tokenizer.pad_token_id, "max_new_tokens": 6, "temperature": 0.0}
    assert samplers.named(engine)(sharp, [[8]], **ids) == [free[:3]]


@pytest.mark.parametrize("engine", HERE)
def test_tokens_are_drawn_as_often_as_the_model_says(engine, sharp, tokenizer):
    """First token of 2,000 completions at temperature 0.8 from the nucleus of 0.7."""
    n, heat, top_p = 2000, 0.8, 0.7
    with torch.no_grad():
        chances = (sharp(torch.tensor([[8]])).logits[0, -1].float() / heat).softmax(-1)
    ordered, ids = chances.sort(descending=True)
    kept = int((ordered.cumsum(-1) < top_p).sum()) + 1
    shares = (ordered[:kept] / ordered[:kept].sum()).tolist()
    nucleus = dict(zip(ids[:kept].tolist(), shares, strict=True))
    assert 2 <= kept <= 30  # few enough for frequencies to say something
    torch.manual_seed(0)
    found = drawn(
        engine, sharp, tokenizer, [[8]] * n, temperature=heat, top_p=top_p, max_new_tokens=1
    )
    counts = Counter(row[0] for row in found)
    assert set(counts) <= set(nucleus)
    for token, chance in nucleus.items():
        error = (n * chance * (1 - chance)) ** 0.5
        assert abs(counts[token] - n * chance) < 5 * error, (token, chance, counts[token])


@pytest.mark.parametrize("engine", HERE[1:])
def test_a_models_own_generation_settings_are_left_aside(engine, sharp, tokenizer):
    plain = drawn("course", sharp, tokenizer, temperature=0.0)
    sharp.generation_config.repetition_penalty = 5.0
    sharp.generation_config.top_k = 1
    assert drawn(engine, sharp, tokenizer, temperature=0.0) == plain
    torch.manual_seed(0)
    first = {row[0] for row in drawn(engine, sharp, tokenizer, [[8]] * 50)}
    assert len(first) > 1


@pytest.mark.parametrize("engine", HERE[1:])
def test_the_model_is_as_before_when_it_has_drawn(engine, sharp, tokenizer):
    sharp.train()
    attention = sharp.config._attn_implementation
    before = sharp(torch.tensor([[5, 6, 7]])).logits
    drawn(engine, sharp, tokenizer)
    assert sharp.training and sharp.config._attn_implementation == attention
    assert torch.equal(sharp(torch.tensor([[5, 6, 7]])).logits, before)


@pytest.mark.parametrize("engine", HERE[1:])
def test_no_prompts_no_completions(engine, sharp, tokenizer):
    assert drawn(engine, sharp, tokenizer, []) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "0 of 2 prompts were completed .it ended early.: take ROLLOUTS course"),
        (
            {
                "a": SimpleNamespace(generated_tokens=[7], error=None),
                "b": SimpleNamespace(generated_tokens=[], error="no memory"),
            },
            "1 of 2 prompts were completed .no memory.",
        ),
    ],
)
def test_completions_that_the_library_lost_are_told(found, said, sharp, tokenizer, monkeypatch):
    monkeypatch.setattr(sharp, "generate_batch", lambda *_, **__: found)
    with pytest.raises(CourseError, match=said):
        drawn("transformers", sharp, tokenizer, [[5], [6]])


def test_continuous_batching_takes_little_of_a_cpus_memory(sharp, tokenizer):
    import psutil

    free = psutil.virtual_memory().available
    before = psutil.Process().memory_info().rss
    drawn("transformers", sharp, tokenizer)
    assert psutil.Process().memory_info().rss - before < 0.2 * free


# --- through the evaluation -------------------------------------------------------


@pytest.mark.parametrize("engine", HERE[1:])
def test_an_evaluation_by_another_engine_has_the_same_greedy_replies(
    engine, model, tokenizer, tmp_path
):
    rows = [
        {"id": f"q{i}", "band": "b", "question": f"What is {i} + 2?", "answer": str(i + 2)}
        for i in range(3)
    ]
    path = tmp_path / "questions.jsonl"
    write_rows(path, rows)
    how = {"max_new_tokens": 5, "decodings": ["greedy"], "plain_samples": 1}
    ours = held_out.evaluate(model, tokenizer, path, **how)
    assert held_out.evaluate(model, tokenizer, path, engine=engine, **how) == ours


def test_the_engine_reaches_all_that_the_evaluation_draws(model, tokenizer, tmp_path, monkeypatch):
    asked = []

    def own(model, prompts, **how):
        asked.append(len(prompts))
        return generation.complete(model, prompts, **how)

    monkeypatch.setitem(samplers.BY_NAME, "own", own)
    rows = [{"id": "q", "band": "b", "question": "What is 1 + 2?", "answer": "3"}]
    path = tmp_path / "questions.jsonl"
    write_rows(path, rows)
    how = {"max_new_tokens": 2, "engine": "own"}
    held_out.evaluate(model, tokenizer, path, samples=3, plain_samples=2, **how)
    held_out.count_right(model, tokenizer, rows, samples=4, **how)
    assert sorted(asked) == [1, 1, 2, 3, 4]  # greedy and sampled in both forms; pass@k


# --- vLLM, which cannot run here --------------------------------------------------


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in with the names of vLLM's interface; keeps what it is given."""
    given = SimpleNamespace(models=[], prompts=[], sampling=[])

    class LLM:
        def __init__(self, **settings):
            given.models.append(settings)

        def generate(self, prompts, sampling, use_tqdm):
            given.prompts += prompts
            given.sampling += sampling
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(7, 3))]) for _ in prompts]

    stand_in = SimpleNamespace(
        LLM=LLM, SamplingParams=SimpleNamespace, TokensPrompt=dict, __spec__=object()
    )
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    samplers._reader.cache_clear()
    yield given
    samplers._reader.cache_clear()


def test_vllm_reads_the_saved_model_and_draws_each_prompt_with_its_own_seed(
    vllm, sharp, tokenizer, tmp_path
):
    sharp.name_or_path = str(tmp_path)
    (tmp_path / "config.json").touch()
    found = [drawn("vllm", sharp, tokenizer, [[5], [5]], temperature=0.5) for _ in range(2)]
    assert found == [[[7, 3], [7, 3]]] * 2
    (settings,) = vllm.models  # started once
    assert (settings["model"], settings["dtype"]) == (str(tmp_path), "float32")
    assert settings["generation_config"] == "vllm"  # not the model's own settings
    assert vllm.prompts[0] == {"prompt_token_ids": [5]}
    assert {(s.temperature, s.max_tokens, s.top_k) for s in vllm.sampling} == {(0.5, 6, 0)}
    assert vllm.sampling[0].stop_token_ids == [tokenizer.eos_token_id]
    assert len({s.seed for s in vllm.sampling}) == 4


def test_vllm_is_not_given_a_model_that_lies_nowhere(vllm, sharp, tokenizer):
    with pytest.raises(CourseError, match="reads a saved model"):
        drawn("vllm", sharp, tokenizer)


# --- what a recipe may ask for ----------------------------------------------------


def test_another_name_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="'fast': write one of course, generate, transformers"):
        samplers.named("fast")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"METHOD": "ppo", "ROLLOUTS": "vllm"}, "PPO's loop hands no weights to vLLM"),
        ({"METHOD": "ppo", "ROLLOUTS": "vllm_server"}, "PPO's loop hands no weights to vLLM"),
        ({"EVALUATE": ["a"], "ROLLOUTS": "vllm_server"}, "is for training; in an evaluation: "),
        ({"ROLLOUTS": "generate", "ROLLOUT_DTYPE": "bfloat16"}, "is about ROLLOUTS course"),
    ],
)
def test_an_engine_that_cannot_draw_there_is_refused(values, said, vllm):
    with pytest.raises(ValueError, match=said):
        engines.check(values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"METHOD": "ppo", "ROLLOUTS": "transformers"},
        {"METHOD": "rloo", "ROLLOUTS": "vllm"},
        {"EVALUATE": ["a"], "ROLLOUTS": "vllm"},
        {"ROLLOUTS": "course", "ROLLOUT_DTYPE": "bfloat16"},
    ],
)
def test_the_others_are_taken(values, vllm):
    engines.check(values)


def test_vllm_is_asked_for_before_anything_runs():
    assert Path(samplers.__file__).is_file() and "vllm" not in sys.modules
    with pytest.raises(CourseError, match="ROLLOUTS vllm_server needs the package vllm"):
        engines.check({"ROLLOUTS": "vllm_server"})
