"""A model as one GGUF file, the format of llama.cpp, written by the package gguf.

A GGUF file holds weights, hyperparameters, tokenizer and chat template together. llama.cpp's
own conversion script is on no package registry; the package gguf has the writer and the names
of the tensors. What is left is here: which number goes by which name, for the architectures
that this course trains (Llama and Qwen3; Qwen2 differs by biases alone).

Layout and names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trlm_utils.files import CourseError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # `model_type` here is the architecture's name there
SPACE = "Ġ"  # a space in the alphabet of byte-level BPE
DIGITS = {"type": "Digits", "individual_digits": True}


def check(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a model and its tokenizer have a form in GGUF that is known here.

    Raises:
        CourseError: without the package gguf; for another architecture, another kind of
            tokenizer, or position encodings stretched for long texts.
    """
    if find_spec("gguf") is None:
        raise CourseError("a GGUF file needs the package gguf: pip install gguf")
    config = model.config
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CourseError(f"no GGUF for a model of type {config.model_type}, only for {known}")
    if config.rope_parameters["rope_type"] != "default":
        raise CourseError("no GGUF for a model whose rope_type is not default")
    pre_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, name: str = "model"
) -> None:
    """Write model and tokenizer to ``path``, weights in float32; a whole file or none.

    Args:
        name: of the model, stored in the file.

    Raises:
        CourseError: see `check`.
    """
    check(model, tokenizer)
    import gguf

    config = model.config
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, config.model_type)
    writer.add_name(name)
    _add_sizes(writer, config)
    _add_tokenizer(writer, tokenizer, model.get_input_embeddings().num_embeddings)
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers
    )
    for key, weight in _weights(model).items():
        writer.add_tensor(names.get_name(key, (".weight", ".bias")), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def _add_sizes(writer: Any, config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Name in transformers -> weight as llama.cpp wants it: fp32, on the CPU, tied ones once."""
    config = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found = {}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = weight.detach().float().cpu()
        part = key.split(".")[-2]
        if config.model_type == "llama" and part in heads:
            weight = interleaved(weight, heads[part])
        found[key] = weight.contiguous()
    return found


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """A Llama's query or key weights with the rows of each head in llama.cpp's order.

    Rotary position encodings turn pairs of dimensions. transformers pairs dimension i of a head
    with dimension i + d/2, llama.cpp (for this architecture) with its neighbour.

    Args:
        weight: [heads x d, ...].
    """
    shape = weight.shape
    return weight.view(heads, 2, shape[0] // heads // 2, *shape[1:]).transpose(1, 2).reshape(shape)


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Add vocabulary (filled up to the rows of the embedding), merges, special ids, template."""
    from gguf import TokenType

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = content["model"]
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name of byte-level BPE
    writer.add_tokenizer_pre(pre_tokenizer(content))
    added = {i: token.special for i, token in tokenizer.added_tokens_decoder.items()}
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(rows)]
    kinds = [TokenType.NORMAL if i in by_id else TokenType.UNUSED for i in range(rows)]
    for i, special in added.items():
        kinds[i] = TokenType.CONTROL if special else TokenType.USER_DEFINED
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = [tuple(pair) for pair in pieces["merges"]]
    if pieces.get("ignore_merges") and not merges:
        words = [token for token, i in pieces["vocab"].items() if i not in added]
        merges = whole_word_merges(words)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    begins = tokenizer("").get("input_ids") == [tokenizer.bos_token_id]
    writer.add_add_bos_token(bool(begins))
    for name in ("bos", "eos", "pad"):
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def pre_tokenizer(content: dict[str, Any]) -> str:
    """llama.cpp's name of a tokenizer's rule for cutting text into words.

    GGUF stores a name, not the rule. Known here: that of GPT-2 (and of the course's own
    tokenizer), of SmolLM2, of Qwen2 and Qwen3.

    Args:
        content: of a tokenizer.json.

    Raises:
        CourseError: for any other rule, and for a tokenizer that is no byte-level BPE.
    """
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    rule = content["pre_tokenizer"] or {}
    parts = rule.get("pretokenizers", [rule])
    last, first = parts[-1], parts[:-1]
    if content["model"]["type"] == "BPE" and last.get("type") == "ByteLevel":
        if last["use_regex"] and not last["add_prefix_space"]:
            if not first:
                return "gpt-2"
            if first == [DIGITS]:
                return "smollm"
        elif [part.get("pattern") for part in first] == [{"Regex": PRETOKENIZE_REGEX}]:
            return "qwen2"
    raise CourseError(
        "no GGUF for this tokenizer: its rule for cutting text into words is not one of "
        "GPT-2's, SmolLM2's or Qwen's; keep the model's folder"
    )


def whole_word_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that build each whole word, for a tokenizer that looks whole words up.

    The course's own tokenizer has words and no merges (``ignore_merges``): a piece of text is
    in the vocabulary, or it falls back to bytes. llama.cpp has that rule only together with
    other ways to cut numbers off, so the file gets merges, learned by BPE on the words until
    each is one piece. Their intermediate pieces are in no vocabulary; llama.cpp falls back to
    bytes there. The space is merged last, so a word that stays in pieces keeps its bytes.

    Words and numbers of the vocabulary come out as before; a longer one that begins like them
    (``123``, after ``12``) does not.

    Args:
        words: in the alphabet of byte-level BPE.
    """
    from tokenizers import Tokenizer, models, trainers

    bare = [word.removeprefix(SPACE) for word in words]
    learned = Tokenizer(models.BPE())
    learn = trainers.BpeTrainer(vocab_size=1 << 20, min_frequency=1, show_progress=False)
    learned.train_from_iterator(sorted({word for word in bare if word}), learn)
    merges = json.loads(learned.to_str())["model"]["merges"]
    spaced = [(SPACE, b) for b, word in zip(bare, words, strict=True) if b and word != b]
    return [tuple(pair) for pair in merges] + spaced
