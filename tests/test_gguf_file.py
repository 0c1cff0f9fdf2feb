"""GGUF files: written, opened again by transformers (and llama.cpp, if it is here), equal."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaConfig
from transformers import LlamaForCausalLM as Llama

from trlm_utils import architectures, chat, gguf_file, models, nanoworld
from trlm_utils.files import CourseError

PROMPTS, BUDGET = 20, 24


def opened(path, config=None):
    """The model in a GGUF file; some architectures need their configuration (see notebook 08)."""
    how = {"config": config} if config is not None else {}
    plain = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, quantization_config=plain, **how
    )


def prompts(tokenizer):
    problems = nanoworld.make_problems("gguf", PROMPTS, seed=0, held_out=True)
    return [chat.render(tokenizer, chat.to_prompt(p.question), prompt=True) for p in problems]


def greedy(model, tokenizer, texts):
    """New token ids of the greedy reply to each text, without padding."""
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    said = model.generate(**batch, max_new_tokens=BUDGET, do_sample=False)
    new = said[:, batch["input_ids"].shape[1] :].tolist()
    return [[i for i in ids if i != tokenizer.pad_token_id] for ids in new]


def small_llama(tokenizer, seed=0):
    """A random Llama whose keys have half as many heads as its queries."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = Llama(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, initializer_range=0.3))
    models.sync_tokens(model, tokenizer)
    return model.eval()


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_weights_and_greedy_replies_survive(kind, tokenizer, tmp_path):
    model = models.build_model(tokenizer, hidden_size=32, layers=2, heads=4, model_type=kind).eval()
    path = tmp_path / "model.gguf"
    gguf_file.write(model, tokenizer, path)
    again = opened(path, model.config).eval()
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    texts = prompts(tokenizer)
    assert greedy(model, tokenizer, texts) == greedy(again, tokenizer, texts)
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]  # no partial file


def test_a_llama_with_merges_needs_nothing_but_its_file(downloaded, tmp_path):
    """Configuration, tokenizer and weights all come from the file."""
    model, path = small_llama(downloaded), tmp_path / "model.gguf"
    gguf_file.write(model, downloaded, path)
    again, tokenizer = (
        opened(path).eval(),
        AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name),
    )
    texts = ["<b> I (think) so.</b>", "The answer is it: 12.", "<|im_start|>user\nis it?<|im_end|>"]
    assert tokenizer(texts)["input_ids"] == downloaded(texts)["input_ids"]
    assert tokenizer.eos_token_id == downloaded.eos_token_id
    assert greedy(model, downloaded, texts) == greedy(again, tokenizer, texts)


def test_rows_of_llamas_rotary_encoding_are_interleaved():
    rows = torch.arange(8.0)[:, None]  # 2 heads of 4: halves (0, 1) and (2, 3) become pairs
    assert gguf_file.interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_rows_without_a_token_are_named_and_unused(tokenizer, tmp_path):
    from gguf import GGUFReader

    path = tmp_path / "m"
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2, model_type="qwen3")
    model.resize_token_embeddings(len(tokenizer) + 3)
    gguf_file.write(model, tokenizer, path)
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    n = len(tokenizer)
    assert tokens[n:] == [f"[PAD{i}]" for i in range(n, n + 3)] and kinds[n:] == [5, 5, 5]
    assert tokens[:6] == tokenizer.convert_ids_to_tokens(range(6))
    assert kinds[:6] == [3, 3, 3, 3, 4, 4]  # special tokens, then the think tags
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert fields["general.architecture"].contents() == "qwen3"


def bpe(word, ranks, vocab):
    """What llama.cpp does with a word: merge the first rule first; else single characters."""
    parts = list(word)
    while pairs := [p for p in zip(parts, parts[1:], strict=False) if p in ranks]:
        best = min(pairs, key=ranks.get)
        i = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == best)
        parts[i : i + 2] = ["".join(best)]
    return [i for p in parts for i in ([vocab[p]] if p in vocab else [vocab[c] for c in p])]


def test_merges_made_for_whole_words_give_the_tokenizers_own_tokens(tokenizer):
    vocab = tokenizer.get_vocab()
    words = [token for token, i in vocab.items() if i not in tokenizer.added_tokens_decoder]
    merges = gguf_file.whole_word_merges(words)
    assert merges == gguf_file.whole_word_merges(words)
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges)))}
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    texts = [*nanoworld.sample_text(50), "A zebra? - and 7 + 12 = 19.\n\n", " 99 ~ Zoo0"]
    for text in texts:
        found = [i for word, _ in split(text) for i in bpe(word, ranks, vocab)]
        assert found == tokenizer(text)["input_ids"], text
    # the known difference: another number or word that begins like a known one
    (number,) = [word for word, _ in split(" 123")]
    assert bpe(number, ranks, vocab) != tokenizer(" 123")["input_ids"]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ([], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}], "smollm"),
        ([{"type": "Digits", "individual_digits": False}], None),
        ([{"type": "Split", "pattern": {"Regex": "x"}}], None),
    ],
)
def test_rules_that_cut_text_into_words_are_known_or_refused(rule, name):
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    content = {"model": {"type": "BPE"}, "pre_tokenizer": {"pretokenizers": [*rule, last]}}
    if name:
        assert gguf_file.pre_tokenizer(content) == name
        return
    with pytest.raises(CourseError, match="no GGUF for this tokenizer"):
        gguf_file.pre_tokenizer(content)


def test_qwens_rule_is_known():
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(vocab={"a": 0}, merges=[])
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    assert gguf_file.pre_tokenizer(content) == "qwen2"


def test_what_has_no_form_is_refused_before_anything_is_written(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2, model_type="llama")
    gemma, words = architectures.build_stand_in("gemma-2-2b-it", nanoworld.sample_text(100))
    with pytest.raises(CourseError, match="type gemma2, only for llama, qwen2, qwen3"):
        gguf_file.write(gemma, words, path)
    model.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(CourseError, match="rope_type is not default"):
        gguf_file.write(model, tokenizer, path)
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match="pip install gguf"):
        gguf_file.write(model, tokenizer, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_llama_cpp_gives_the_same_greedy_replies(kind, tokenizer, tmp_path):
    """Text in and text out, with the bindings xllamacpp where they are installed."""
    bindings = pytest.importorskip("xllamacpp")
    model = models.build_model(tokenizer, hidden_size=32, layers=2, heads=4, model_type=kind).eval()
    path = tmp_path / "model.gguf"
    gguf_file.write(model, tokenizer, path)
    settings = bindings.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.warmup = 512, 1, False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = bindings.Server(settings)
    texts = prompts(tokenizer)
    ids, replies = tokenizer(texts)["input_ids"], greedy(model, tokenizer, texts)
    for text, asked, said in zip(texts, ids, replies, strict=True):
        found = server.handle_completions(
            {"prompt": text, "n_predict": BUDGET, "temperature": 0.0, "top_k": 1}
        )
        assert found["usage"]["prompt_tokens"] == len(asked)
        assert found["choices"][0]["text"] == tokenizer.decode(said, skip_special_tokens=True)
