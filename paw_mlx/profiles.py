"""Everything that differs between bases, as data.

A `Family` (`families.py`) is an architecture: its modules and what each layout calls them. A
`Profile` is one base of a family: sizes, window, chat turn. To add a base, add a row to `PROFILES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .adapter import Adapter, Site
from .errors import AdapterMismatch, FormatError, listed
from .families import FAMILIES, MAX_LAYERS, Family, family_of

_CHATML = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
MAX_SIZE = 1 << 24  # of what a config counts, and of a matrix's rows and columns
_NO_THINKING = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Profile:
    """One base. `shapes` maps a module to (d_in, d_out); `window` counts tokens."""

    name: str
    family: Family
    num_layers: int
    num_heads: int
    num_kv_heads: int
    shapes: Mapping[str, tuple[int, int]]
    window: int
    repos: tuple[str, ...] = ()  # hub repos with these weights; the first is the original
    compiler: str = ""  # the hub repo of the published compiler that writes programs for it
    turn: tuple[str, str] = ("", "")  # what opens and closes the user's turn
    eos: tuple[str, ...] = ()  # tokens that end an output, besides the tokenizer's own

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str = "") -> Profile:
        """Return the profile of a Hugging Face config; a known one where all sizes agree."""
        family = family_of(config)
        try:
            sized = _sizes(config)
            if "vocab_size" in config:  # the model wants it, an adapter does not
                _size(config, "vocab_size")
        except KeyError as error:
            raise FormatError(f"the base's config lacks {error}") from error
        layers, heads, kv_heads = (
            sized[key] for key in ("num_layers", "num_heads", "num_kv_heads")
        )
        if layers > MAX_LAYERS or heads % kv_heads:
            raise FormatError(
                f"the base's config gives {layers} layers (at most {MAX_LAYERS}), {heads} heads "
                f"and {kv_heads} key-value heads"
            )
        if (widest := max(map(max, sized["shapes"].values()))) > MAX_SIZE:
            raise FormatError(
                f"the base's config gives a matrix of {widest:,} rows or columns, "
                f"and at most {MAX_SIZE:,} are known"
            )
        hidden = config.get("n_embd") or config["hidden_size"]
        derived = cls(name or f"{family.name}-{layers}x{hidden}", family, **sized)
        return next((p for p in PROFILES.values() if p.fits(derived)), derived)

    @property
    def repo(self) -> str:
        """The reference a program records: the original hub repo, or the name."""
        return self.repos[0] if self.repos else self.name

    @property
    def num_kv_elements(self) -> int:
        """Numbers that attention keeps for a token, all layers."""
        if "c_attn" in self.shapes:  # q, k and v in one
            return self.num_layers * self.shapes["c_attn"][1] * 2 // 3
        return self.num_layers * (self.shapes["k_proj"][1] + self.shapes["v_proj"][1])

    def sites(self) -> Iterator[Site]:
        """Return every site a LoRA may have, by layer, modules sorted."""
        return (Site(i, m) for i in range(self.num_layers) for m in self.family.modules)

    def check(self, adapter: Adapter) -> None:
        """Raise AdapterMismatch, listing every site the base lacks or shapes otherwise."""
        known = {site: self.shapes[site.module] for site in self.sites()}
        surplus = [str(site) for site in sorted(adapter.sites) if site not in known]
        fitting = find_fitting(adapter)
        fits = f"; its sizes are those of {fitting.name}" if fitting else ""
        hint = f"It was made for another base{fits}."
        if surplus:
            raise AdapterMismatch(
                f"the adapter names {len(surplus)} sites that {self.name} does not have: "
                f"{listed(surplus)}",
                hint=hint,
            )
        wrong = [
            f"{site} is {lora.shape}, the base's {known[site]}"
            for site, lora in sorted(adapter.sites.items())
            if lora.shape != known[site]
        ]
        if wrong:
            raise AdapterMismatch(
                f"{len(wrong)} sites have another (d_in, d_out) than {self.name}: {listed(wrong)}",
                hint=hint,
            )

    def has_room(self, adapter: Adapter) -> bool:
        """Return whether the base has every site of an adapter, of its size."""
        return all(
            site.layer < self.num_layers and lora.shape == self.shapes.get(site.module)
            for site, lora in adapter.sites.items()
        )

    def fits(self, other: Profile) -> bool:
        """Return whether an adapter for one can run on the other: same family and sizes."""
        return (
            self.family is other.family
            and self.num_layers == other.num_layers
            and (self.num_heads, self.num_kv_heads) == (other.num_heads, other.num_kv_heads)
            and dict(self.shapes) == dict(other.shapes)
        )


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a size of an unchecked config; KeyError if it is absent without a default."""
    value = config[key] if default is None else config.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value <= MAX_SIZE:
        raise FormatError(f"the base's config gives {key} as {value!r}, which is no size")
    return value


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says about a base, as `Profile` takes it; KeyError for what it lacks."""
    return _gpt2_sizes(config) if config["model_type"] == "gpt2" else _llama_sizes(config)


def _llama_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    kv_heads = _size(config, "num_key_value_heads", heads)
    head_dim = _size(config, "head_dim", max(hidden // heads, 1))
    inner = _size(config, "intermediate_size")
    thinks = config["model_type"] == "qwen3"
    return {
        "num_layers": _size(config, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "shapes": MappingProxyType(
            {
                "q_proj": (hidden, heads * head_dim),
                "k_proj": (hidden, kv_heads * head_dim),
                "v_proj": (hidden, kv_heads * head_dim),
                "o_proj": (heads * head_dim, hidden),
                "gate_proj": (hidden, inner),
                "up_proj": (hidden, inner),
                "down_proj": (inner, hidden),
            }
        ),
        "window": _size(config, "max_position_embeddings"),
        "turn": (_CHATML[0], _CHATML[1] + _NO_THINKING) if thinks else ("", ""),
    }


def _gpt2_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = _size(config, "n_embd"), _size(config, "n_head")
    inner = _size(config, "n_inner", 4 * hidden)
    return {
        "num_layers": _size(config, "n_layer"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "shapes": MappingProxyType(
            {
                "attn_c_proj": (hidden, hidden),
                "c_attn": (hidden, 3 * hidden),
                "c_fc": (hidden, inner),
                "mlp_c_proj": (inner, hidden),
            }
        ),
        "window": _size(config, "n_positions"),
    }


def _known(name: str, config: dict[str, Any], **extra: Any) -> Profile:
    return Profile(name, FAMILIES[config["model_type"]], **(_sizes(config) | extra))


PROFILES = {
    profile.name: profile
    for profile in (
        _known(
            "qwen3-0.6b",
            {
                "model_type": "qwen3",
                "hidden_size": 1024,
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 3072,
                "num_hidden_layers": 28,
                "max_position_embeddings": 2048,
            },
            repos=("Qwen/Qwen3-0.6B", "programasweights/Qwen3-0.6B-GGUF-Q6_K"),
            compiler="programasweights/paw-4b-qwen3-0.6b",
            eos=("<|im_end|>", "<|endoftext|>"),
        ),
        _known(
            "gpt2",
            {
                "model_type": "gpt2",
                "n_embd": 768,
                "n_head": 12,
                "n_layer": 12,
                "n_positions": 2048,
            },
            repos=("gpt2", "openai-community/gpt2", "programasweights/GPT2-GGUF-Q8_0"),
            compiler="programasweights/paw-4b-gpt2",
            eos=("<|endoftext|>",),
        ),
        _known(
            "smollm2-135m",
            {
                "model_type": "llama",
                "hidden_size": 576,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "intermediate_size": 1536,
                "num_hidden_layers": 30,
                "max_position_embeddings": 2048,
            },
            repos=("HuggingFaceTB/SmolLM2-135M-Instruct",),
            turn=_CHATML,
            eos=("<|im_end|>", "<|endoftext|>"),
        ),
    )
}
ROUNDS = "mlx-community"  # whose repos are the named ones, quantized
_FORM = re.compile(r"-(\d{1,2}bit|bf16|fp16|mlx|dwq|awq|gguf|q\d\w*)\b")


def base_name(interpreter: str) -> str:
    """Return what to load of the base a file names: its short name if it is known."""
    profile = find_profile(interpreter)
    return profile.name if profile else interpreter


def find_profile(reference: str) -> Profile | None:
    """Return the known base whose weights a name or hub repo promises; None if unknown.

    `mlx-community/Qwen3-0.6B-4bit` is `qwen3-0.6b`: its weights are the same, rounded. Nobody
    else's repo is, whatever its last part: `unsloth/SmolLM2-135M` has other weights.
    """
    wanted = reference.lower()
    for profile in PROFILES.values():
        if wanted == profile.name or wanted in (repo.lower() for repo in profile.repos):
            return profile
    stem = _FORM.sub("", wanted.removeprefix(f"{ROUNDS}/"))
    same = (p for p in PROFILES.values() if stem in (r.split("/")[-1].lower() for r in p.repos))
    return next(same, None) if wanted.startswith(f"{ROUNDS}/") else None


def find_fitting(adapter: Adapter) -> Profile | None:
    """Return a known base whose sizes an adapter fits; of its weights that says nothing."""
    return next((profile for profile in PROFILES.values() if profile.has_room(adapter)), None)
