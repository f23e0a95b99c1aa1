"""Tiny bases as GGUF files, written by the reference package."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import tiny

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


def write_gguf(path: Path, folder: Path, family: str, kinds: list[str]) -> dict[str, np.ndarray]:
    """Write a tiny base as GGUF with the reference package, types taking turns over weights.

    Returns the tensors under Hugging Face's names as the file really holds them, decoded by
    the reference package, to be written back as safetensors.
    """
    config = tiny.config(family)
    tensors = {k: np.array(v) for k, v in mx.load(str(folder / "model.safetensors")).items()}
    writer = gguf.GGUFWriter(path, family)
    heads = config.get("num_attention_heads") or config["n_head"]
    kv_heads = config.get("num_key_value_heads", heads)
    writer.add_block_count(config.get("num_hidden_layers") or config["n_layer"])
    writer.add_embedding_length(config.get("hidden_size") or config["n_embd"])
    writer.add_head_count(heads)
    writer.add_context_length(256)
    writer.add_feed_forward_length(config.get("intermediate_size") or 256)
    if family == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        if family == "qwen3":
            writer.add_key_length(config["head_dim"])
    vocab = tiny.tokenizer()
    names = [vocab.id_to_token(i) for i in range(vocab.get_vocab_size())]
    merges = json.loads(vocab.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([3 if name in tiny.CONTROL else 1 for name in names])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template(CHAT_TEMPLATE)
    arch = gguf.MODEL_ARCH[family.upper()]
    mapping = gguf.get_tensor_name_map(arch, 8)
    stored: dict[str, np.ndarray] = {}
    for i, (name, tensor) in enumerate(sorted(tensors.items())):
        conv1d = family == "gpt2" and ".h." in name and tensor.ndim == 2
        rows = tensor.T if conv1d else tensor
        permute = family == "llama" and ("q_proj" in name or "k_proj" in name)
        if permute:
            n = heads if "q_proj" in name else kv_heads
            rows = rows.reshape(n, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
        kind = gguf.GGMLQuantizationType[kinds[i % len(kinds)] if tensor.ndim == 2 else "F32"]
        data = gguf.quants.quantize(np.ascontiguousarray(rows), kind)
        writer.add_tensor(mapping.get_name(name, (".weight", ".bias")), data, raw_dtype=kind)
        back = gguf.quants.dequantize(data, kind).reshape(rows.shape).astype(np.float32)
        if permute:
            back = back.reshape(n, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
        stored[name] = back.T if conv1d else back
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored
