"""Architectures as data: their modules, and what each layout calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .adapter import Site
from .errors import FormatError, listed


@dataclass(frozen=True)
class Family:
    """An architecture. Module names are those of the paper's mapper.

    `paths` are Hugging Face's, below a layer; `gguf` the names in `blk.<i>.<name>`; `others` are
    the tensors that no module has, Hugging Face's name to GGUF's, {} being the layer; `permuted`
    the modules whose output rows GGUF reorders for its rotary embedding. Of Hugging Face's
    tensors `ignored` matches those that are no weights, `transposed` those stored as (in, out);
    `prefix` may be absent from their names. `fits_float16` is whether its activations stay
    below 65,504.
    """

    name: str
    layers: str  # the path of the list of layers: `model.layers`
    paths: Mapping[str, str]
    gguf: Mapping[str, str]
    others: Mapping[str, str]
    permuted: tuple[str, ...] = ()
    ignored: str = "(?!)"
    transposed: str = "(?!)"
    prefix: str = ""
    fits_float16: bool = True

    @cached_property
    def modules(self) -> tuple[str, ...]:
        return tuple(sorted(self.paths))

    def path(self, site: Site) -> str:
        """Return Hugging Face's path of a site's linear module."""
        return f"{self.layers}.{site.layer}.{self.paths[site.module]}"

    def gguf_name(self, site: Site) -> str:
        """Return GGUF's name of a site's weight, without `.weight`."""
        return f"blk.{site.layer}.{self.gguf[site.module]}"

    def site_of_path(self, path: str) -> Site | None:
        """Return the site of a Hugging Face path, or None."""
        match = re.fullmatch(re.escape(self.layers) + r"\.(\d{1,5})\.(.+)", path)
        return self._site(match, self.paths)

    def site_of_gguf(self, name: str) -> Site | None:
        """Return the site of a GGUF name without `.weight`, or None."""
        return self._site(re.fullmatch(r"blk\.(\d{1,5})\.(.+)", name), self.gguf)

    @staticmethod
    def _site(match: re.Match[str] | None, names: Mapping[str, str]) -> Site | None:
        if match is None:
            return None
        module = next((m for m, name in names.items() if name == match[2]), None)
        return Site(int(match[1]), module) if module else None


_LLAMA_PATHS = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
}
_LLAMA_GGUF = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
_LLAMA_OTHERS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
}
_QWEN3_NORMS = {
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
}
_LLAMA = Family(
    "llama",
    layers="model.layers",
    paths=_LLAMA_PATHS,
    gguf=_LLAMA_GGUF,
    others=_LLAMA_OTHERS,
    permuted=("q_proj", "k_proj"),
    ignored=r".*rotary_emb\.inv_freq",
)
_GPT2 = Family(
    "gpt2",
    layers="transformer.h",
    paths={
        "attn_c_proj": "attn.c_proj",
        "c_attn": "attn.c_attn",
        "c_fc": "mlp.c_fc",
        "mlp_c_proj": "mlp.c_proj",
    },
    gguf={
        "attn_c_proj": "attn_output",
        "c_attn": "attn_qkv",
        "c_fc": "ffn_up",
        "mlp_c_proj": "ffn_down",
    },
    others={
        "transformer.wte": "token_embd",
        "transformer.wpe": "position_embd",
        "transformer.ln_f": "output_norm",
        "lm_head": "output",
        "transformer.h.{}.ln_1": "blk.{}.attn_norm",
        "transformer.h.{}.ln_2": "blk.{}.ffn_norm",
    },
    ignored=r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
    transposed=r"transformer\.h\.\d+\.(attn|mlp)\.(c_attn|c_proj|c_fc)\.weight",
    prefix="transformer.",  # absent from the names in the original checkpoint
)
FAMILIES = {
    "qwen3": replace(
        _LLAMA,
        name="qwen3",
        others=_LLAMA_OTHERS | _QWEN3_NORMS,
        permuted=(),
        fits_float16=False,
    ),
    "llama": _LLAMA,
    "gpt2": _GPT2,
}
MAX_LAYERS = 1024


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of a config's model_type; FormatError if there is none."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise FormatError(
            f"model_type {kind!r} is not supported",
            hint=f"Supported: {listed(sorted(FAMILIES))}.",
        )
    return FAMILIES[kind]
