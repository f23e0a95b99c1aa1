"""What PEFT can save and a plain LoRA cannot hold, as data: the reason, and the way out.

An adapter is refused by its config's keys, by its peft_type, or by the names of its tensors,
since a checkpoint may come without a config. To refuse one thing more, add a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..errors import FormatError, listed
from .untrusted import shown


class Refusal(NamedTuple):
    """Why something is refused, and what to do about it."""

    reason: str
    remedy: str


_PLAIN = "Train it again as a plain LoRA, without it."
_MERGE = "Merge it into its base with peft's merge_and_unload, and use the result as a base."
_SAVE_AS_LORA = "Have peft write it as a LoRA: save_as_lora(path, model, rank=...)."
_CLOSE_LORA = "Have peft write a LoRA close to it: save_as_lora(path, model, rank=...)."
_NOTHING_TO_MERGE = "Train a LoRA instead: its weights do not change the base's."

_DORA = Refusal("DoRA rescales the base's weights, which is more than A and B", _MERGE)
_LORA_BIAS = Refusal("it carries biases besides A and B", _PLAIN)
_WHOLE_MODULES = Refusal("it replaces whole modules of the base", _MERGE)
_TOKENS = Refusal("it replaces embeddings of the base", _MERGE)
_KASA = Refusal("KaSA truncates the base's weights", _MERGE)
_VELORA = Refusal("VeLoRA keeps more than A and B, for its training", _SAVE_AS_LORA)
_MONTECLORA = Refusal("MonteCLoRA keeps more than A and B, for its training", _SAVE_AS_LORA)

# A key of the config -> why it must be absent or empty.
REFUSED: Mapping[str, Refusal] = {
    "use_dora": _DORA,
    "bias": Refusal("it changes the biases of the base", _MERGE),
    "lora_bias": _LORA_BIAS,
    "modules_to_save": _WHOLE_MODULES,
    "trainable_token_indices": _TOKENS,
    "layer_replication": Refusal("it runs layers of the base more than once", _PLAIN),
    "target_parameters": Refusal("it adapts parameters that are no linear module", _MERGE),
    "alora_invocation_tokens": Refusal(
        "an activated LoRA works on a part of the tokens only", _PLAIN
    ),
    "init_lora_weights": Refusal(
        "it may have changed the base's weights, and then does not fit the base that it names",
        "Save it with peft's path_initial_model_for_weight_conversion.",
    ),
    "use_qalora": Refusal("QA-LoRA pools its inputs, which is more than A and B", _PLAIN),
    "use_bdlora": Refusal("BD-LoRA's matrices are block-diagonal", _MERGE),
    "arrow_config": Refusal(
        "Arrow routes among several adapters", "Convert the adapters that it routes among."
    ),
    "kasa_config": _KASA,
    "velora_config": _VELORA,
    "monteclora_config": _MONTECLORA,
    "megatron_config": Refusal(
        "its matrices are split among Megatron's ranks", "Export it to Hugging Face's names first."
    ),
    "enable_lora": Refusal(
        "peft 0.2 adapted parts of a fused module, and A and B are those of several LoRAs",
        "Train it again with a newer peft.",
    ),
}
# The values that mean nothing, where a key's absent or empty ones are not all.
_HARMLESS: Mapping[str, tuple[object, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal", "mica"),
}

_VIRTUAL_TOKENS = Refusal("it trains virtual tokens, and no A and B", _NOTHING_TO_MERGE)
_ADDS = Refusal("what it adds to the base's weights is no product of A and B", _CLOSE_LORA)
_ROTATES = Refusal("it multiplies the base's weights, and adds nothing to them", _MERGE)
# The peft_type of an adapter that is no LoRA -> why it is refused. Others get `UNKNOWN_TYPE`.
REFUSED_TYPES: Mapping[str, Refusal] = {
    "ADALORA": Refusal("AdaLoRA scales every rank by a number of its own", _MERGE),
    "ADAPTION_PROMPT": _VIRTUAL_TOKENS,
    "BOFT": _ROTATES,
    "BONE": Refusal("what it adds to the base's weights is no product of A and B", _MERGE),
    "C3A": _ADDS,
    "CPT": _VIRTUAL_TOKENS,
    "DELORA": _ADDS,
    "FOURIERFT": _ADDS,
    "GRALORA": _ADDS,
    "HIRA": _ROTATES,
    "HRA": _ROTATES,
    "IA3": Refusal("IA3 rescales activations, and adds nothing to the weights", _MERGE),
    "LN_TUNING": Refusal("it trains the base's norms, and no A and B", _MERGE),
    "LOHA": _ADDS,
    "LOKR": _ADDS,
    "MISS": _ADDS,
    "MULTITASK_PROMPT_TUNING": _VIRTUAL_TOKENS,
    "OFT": _ROTATES,
    "POLY": Refusal("Poly mixes several LoRAs by task", "Convert a LoRA of one task."),
    "PREFIX_TUNING": Refusal("it trains keys and values, and no A and B", _NOTHING_TO_MERGE),
    "PROMPT_TUNING": _VIRTUAL_TOKENS,
    "PSOFT": _ADDS,
    "P_TUNING": _VIRTUAL_TOKENS,
    "RANDLORA": _ADDS,
    "ROAD": _ROTATES,
    "SHIRA": Refusal("it changes single weights of the base, here and there", _MERGE),
    "TINYLORA": _ADDS,
    "TRAINABLE_TOKENS": _TOKENS,
    "UNILORA": _ADDS,
    "VBLORA": _ADDS,
    "VERA": _ADDS,
    "WAVEFT": _ADDS,
    "XLORA": Refusal("X-LoRA mixes several LoRAs by token", "Convert the LoRAs that it mixes."),
}
UNKNOWN_TYPE = Refusal("only LORA is A and B", _MERGE)

# What a tensor may be called -> why it is refused, whatever a config says.
REFUSED_TENSORS: Mapping[str, Refusal] = {
    "*.lora_magnitude_vector*": _DORA,
    "*.lora_embedding_[AB]*": Refusal(
        "it adapts embeddings, which are no linear module of a layer", _MERGE
    ),
    "*.lora_[AB].bias": _LORA_BIAS,
    "*.lora_[AB].*.bias": _LORA_BIAS,
    "*.modules_to_save.*": _WHOLE_MODULES,
    "*.trainable_tokens_*": _TOKENS,
    "*.lora_E*": REFUSED_TYPES["ADALORA"],
    "*.lora_diag*": _KASA,
    "*.lora_velora_*": _VELORA,
    "*.lora_monteclora_*": _MONTECLORA,
}
_WHOLE_WEIGHTS = (
    "Where the embeddings are still the base's, save it again with "
    "save_pretrained(path, save_embedding_layers=False); where not, merge it into its base."
)


def check_config(config: Mapping[str, Any]) -> None:
    """Raise FormatError, with reason and remedy, for a config of more than a plain LoRA."""
    kind = config.get("peft_type")
    if kind != "LORA":
        refusal = REFUSED_TYPES.get(str(kind).upper(), UNKNOWN_TYPE)
        raise FormatError(f"peft_type is {shown(kind)}: {refusal.reason}", hint=refusal.remedy)
    for key, refusal in REFUSED.items():
        value = config.get(key)
        plain = value.lower() if isinstance(value, str) else value
        if plain and plain not in _HARMLESS.get(key, ()):
            raise FormatError(
                f"{key} {shown(value)} is not supported: {refusal.reason}", hint=refusal.remedy
            )


def check_tensors(names: Iterable[str]) -> None:
    """Raise FormatError, with reason and remedy, for tensors of more than a plain LoRA."""
    names = sorted(names)
    for pattern, refusal in REFUSED_TENSORS.items():
        if found := [name for name in names if fnmatchcase(name, pattern)]:
            raise FormatError(
                f"{len(found)} tensors are not supported, such as {shown(found[0])}: "
                f"{refusal.reason}",
                hint=refusal.remedy,
            )


def check_only_lora(names: Iterable[str]) -> None:
    """Raise FormatError if there are weights of the base besides A and B."""
    whole = [n for n in sorted(names) if n.endswith((".weight", ".bias")) and ".lora_" not in n]
    if whole:
        raise FormatError(
            f"{len(whole)} tensors are whole weights of the base, which would be lost: "
            + listed([shown(name) for name in whole]),
            hint=_WHOLE_WEIGHTS,
        )
