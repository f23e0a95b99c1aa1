"""Tiny chat models, loaded by mlx_lm from a folder like any other.

Random ones never answer well; scripted ones have weights that make them say a given text on
each turn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import tiny
from tokenizers import AddedToken

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is not false %}<think>{% endif %}"
)


def described(folder: Path, template: str | None = TEMPLATE, **changes: Any) -> Path:
    """Make a base's folder that of a chat model, as mlx_lm wants it."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    kept = {"eos_token": "<|im_end|>", "model_max_length": 100, "chat_template": template}
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    return folder


def random_model(folder: Path, family: str = "llama", seed: int = 0, **changes: Any) -> Path:
    tiny.write_base(folder, family, seed)
    return described(folder, **({"max_position_embeddings": 8192} | changes))


def scripted_model(folder: Path, *answers: str) -> Path:
    """A model that says answers[n] on its n-th turn: token by token, each leads to the next.

    The template opens turn n with a token of its own, each answer is one token, the
    embedding is one-hot, the blocks add nothing, and the head knows what follows what.
    """
    folder.mkdir()
    vocab, turns = tiny.tokenizer(), [f"<|{2 * n + 1}|>" for n in range(len(answers))]
    vocab.add_tokens([AddedToken(text, normalized=False) for text in [*turns, *set(answers)]])
    vocab.save(str(folder / "tokenizer.json"))
    size, width = vocab.get_vocab_size(), 512
    assert size <= width
    end = vocab.token_to_id("<|im_end|>")
    one_hot = mx.eye(size, width)
    rows = 0.5 * mx.stack([mx.ones(width) if i == end else mx.zeros(width) for i in range(size)])
    for turn, answer in zip(turns, answers, strict=True):
        row = vocab.token_to_id(answer)
        rows[row] = rows[row] + one_hot[vocab.token_to_id(turn)]
    tensors = {"model.embed_tokens.weight": one_hot, "lm_head.weight": rows}
    shapes = {f"self_attn.{x}_proj": (width, width) for x in "qkvo"}
    shapes |= {"mlp.gate_proj": (8, width), "mlp.up_proj": (8, width), "mlp.down_proj": (width, 8)}
    tensors |= {f"model.layers.0.{n}.weight": mx.zeros(shape) for n, shape in shapes.items()}
    for norm in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
        tensors[f"model.{norm}.weight"] = mx.ones(width)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    config = {
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_key_value_heads": 4,
        "intermediate_size": 8,
        "vocab_size": size,
        "eos_token_id": end,
        "tie_word_embeddings": False,
        "max_position_embeddings": 8192,
    }
    (folder / "config.json").write_text(tiny.changed("llama", **config))
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}<|{{ messages|length }}|>"
    return described(folder, template)
