"""The compile pipeline by torch and transformers alone, and tiny compilers to try it on.

Nothing of this package is imported: an oracle is other people's code. `oracle` follows the
paper; given one of `MISTAKES` it makes that mistake, so that a test can show it would notice.

    hidden  (L, P, H)   float32: the compiler's states at its P prefix tokens
    sites   {(layer, module): (A (r, d_in), B (d_out, r))}

Random weights are scaled: with plain ones the averaged states hardly depend on what was read,
and the mapper's inputs lie where GELU's tanh form is small and wrong by percents.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from torch import nn
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

QWEN3_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GPT2_MODULES = ["c_attn", "attn_c_proj", "c_fc", "mlp_c_proj"]
INTERPRETERS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 2048,
    },
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_inner": 64, "n_positions": 640},
}
COMPILER = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
    "rope_theta": 5000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
ALPHA = 16.0
CONTROL = {"qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "gpt2": ["<|endoftext|>"]}
# Qwen3-Instruct-2507's template without tools, and the hybrid models', which may think.
TURNS = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
)
INSTRUCT = TURNS + "{%- endif %}"
HYBRID = (
    TURNS + "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
SPEC = "Decide whether a log line needs a person. Return ONLY one of: alert, quiet."
PSEUDO_PROGRAM = """[PSEUDO_PROGRAM]
Task: Read one log line and answer alert or quiet, nothing else.

Examples:
Input: disk full on db-3
Output: alert
Input: job 17 done in 4 s
Output: quiet
[END_PSEUDO_PROGRAM]"""
ENCODER_MISTAKES = [
    "the last layer before the final norm",
    "the first layers",
    "no end of turn",
    "prefix tokens before the end of turn",
    "thinking on",
]
MAPPER_MISTAKES = [
    "mean over the features",  # the wrong axis; it fits where P = H
    "mean over the last position",
    "mean over the last layer",
    "tanh gelu",
    "mapper in bf16",
    "modules unsorted",  # as in the file
    "modules before layers",
    "A and B exchanged",
    "scaled",
]
MISTAKES = ENCODER_MISTAKES + MAPPER_MISTAKES

Sites = dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]


def make_tokenizer(path: Path, kind: str) -> Path:
    """Write a byte-level BPE of 300 tokens and the control tokens, in a family's own way."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if kind == "qwen3":
        split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.normalizer = normalizers.NFC()
        made.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([SPEC, PSEUDO_PROGRAM], trainer)
    made.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL[kind]])
    if kind == "qwen3":
        made.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>")])
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(path))
    return path


def make_interpreter(folder: Path, kind: str, tokenizer_json: Path, seed: int = 0) -> Path:
    """Save a tiny base that a mapper of `make_repo` fits, in Hugging Face's layout."""
    vocab = Tokenizer.from_file(str(tokenizer_json))
    sizes = {**INTERPRETERS[kind], "vocab_size": vocab.get_vocab_size()}
    end = vocab.token_to_id(CONTROL[kind][-1])
    if kind == "qwen3":
        config = transformers.Qwen3Config(**sizes, eos_token_id=end, tie_word_embeddings=True)
    else:
        config = transformers.GPT2Config(**sizes, bos_token_id=end, eos_token_id=end)
    model = transformers.AutoModelForCausalLM.from_config(config)
    _randomize(model, seed, embedding=0.2, gain=2.0)
    model.to(torch.bfloat16).save_pretrained(folder)
    shutil.copyfile(tokenizer_json, folder / "tokenizer.json")
    name = "Qwen2Tokenizer" if kind == "qwen3" else "GPT2Tokenizer"
    settings = {"tokenizer_class": name, "eos_token": CONTROL[kind][-1], "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return folder


def make_repo(
    folder: Path,
    *,
    interpreter: str,
    tokenizer_json: Path,
    interpreter_model: str = "",
    chat_template: str = INSTRUCT,
    num_layers: int = 5,
    num_bases: int = 3,
    rank: int = 32,
    prefix_steps: int = 64,
    max_shard_size: str = "5GB",
    old_style: bool = False,
    seed: int = 0,
) -> Path:
    """Save a tiny compiler in the layout of the published ones."""
    compiler = folder / "compiler"
    tokenizer = _save_tokenizer(compiler, tokenizer_json, chat_template, prefix_steps)
    config = transformers.Qwen3Config(
        **COMPILER,
        num_hidden_layers=num_layers,
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.Qwen3ForCausalLM(config)
    _randomize(model, seed)
    model.to(torch.bfloat16).save_pretrained(compiler, max_shard_size=max_shard_size)
    if old_style:
        _restyle(compiler)
    torch.manual_seed(seed + 1)
    mapper = Mapper(config.hidden_size, *interpreter_sizes(interpreter), num_bases, rank)
    torch.save(mapper.state_dict(), folder / "lora_mapper.pt")
    meta = {
        "interpreter_model": interpreter_model or f"tiny-{interpreter}",
        "lora_rank": rank,
        "lora_alpha": ALPHA,
        "lora_num_bases": num_bases,
        "prefix_steps": prefix_steps,
        "compiler_prompt_style": "minimal",
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2))
    return folder


def _save_tokenizer(folder: Path, tokenizer_json: Path, template: str, steps: int) -> Any:
    """Add the prefix tokens behind the real vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer_json, folder / "tokenizer.json")
    tokenizer = transformers.Qwen2Tokenizer.from_pretrained(
        folder, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None
    )
    tokenizer.chat_template = template
    prefix = [f"<prefix_{i}>" for i in range(1, steps + 1)]
    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in prefix])
    assert tokenizer.convert_tokens_to_ids(prefix) == list(range(first, first + steps))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _restyle(compiler: Path) -> None:
    """Rewrite config.json and tokenizer_config.json as transformers 4 saved them."""
    config = json.loads((compiler / "config.json").read_text())
    config |= {"torch_dtype": config.pop("dtype"), "rope_scaling": None}
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["transformers_version"] = "4.51.3"
    (compiler / "config.json").write_text(json.dumps(config, indent=2))
    added = json.loads((compiler / "tokenizer.json").read_text())["added_tokens"]
    template = compiler / "chat_template.jinja"
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(token.pop("id")): token for token in added},
        "bos_token": None,
        "chat_template": template.read_text(),
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (compiler / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    template.unlink()


def interpreter_sizes(kind: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The layers of a tiny interpreter, and {module: (d_in, d_out)} in checkpoint order."""
    sizes = INTERPRETERS[kind]
    if kind == "gpt2":
        hidden, inner = sizes["n_embd"], sizes["n_inner"]
        shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]
        return sizes["n_layer"], dict(zip(GPT2_MODULES, shapes, strict=True))
    hidden, inner, head = sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]
    q, kv = head * sizes["num_attention_heads"], head * sizes["num_key_value_heads"]
    shapes = [(hidden, q), (hidden, kv), (hidden, kv), (q, hidden)]
    shapes += [(hidden, inner), (hidden, inner), (inner, hidden)]
    return sizes["num_hidden_layers"], dict(zip(QWEN3_MODULES, shapes, strict=True))


class Mapper(nn.Module):
    """The paper's mapper, its parameters named as in the published checkpoints."""

    def __init__(
        self,
        hidden: int,
        num_layers: int,
        sizes: dict[str, tuple[int, int]],
        num_bases: int,
        rank: int,
        bias: float = -2.0,
        gain: float = 0.5,
    ) -> None:
        super().__init__()
        self.view = (num_layers, len(sizes), num_bases, 2)
        self.modules_found = list(sizes)
        self.trunk = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU())
        self.coeff_head = nn.Linear(hidden, num_layers * len(sizes) * num_bases * 2)
        for name, (d_in, d_out) in sizes.items():
            A = torch.randn(num_bases, rank, d_in) * d_in**-0.5
            B = torch.randn(num_bases, d_out, rank) * 0.3
            self.register_parameter(f"A_bases_{name}", nn.Parameter(A))
            self.register_parameter(f"B_bases_{name}", nn.Parameter(B))
        with torch.no_grad():
            self.trunk[0].weight.normal_(std=gain * hidden**-0.5)
            self.trunk[0].bias.normal_(bias, 0.1)
            self.coeff_head.weight.normal_(std=20 * hidden**-0.5)
            self.coeff_head.bias.normal_(std=0.05)

    @classmethod
    def load(cls, folder: Path) -> Mapper:
        state = torch.load(folder / "lora_mapper.pt", weights_only=True)
        names = [name.removeprefix("A_bases_") for name in state if name.startswith("A_bases_")]
        sizes = {n: (state[f"A_bases_{n}"].shape[2], state[f"B_bases_{n}"].shape[1]) for n in names}
        num_bases, rank, _ = state[f"A_bases_{names[0]}"].shape
        rows, hidden = state["coeff_head.weight"].shape
        mapper = cls(hidden, rows // (len(names) * num_bases * 2), sizes, num_bases, rank)
        mapper.load_state_dict(state)
        return mapper.eval()

    def forward(self, hidden: torch.Tensor, mistake: str = "") -> Sites:
        if mistake == "mapper in bf16":
            self.to(torch.bfloat16)
            hidden = hidden.to(torch.bfloat16)
        if mistake == "tanh gelu":
            self.trunk[1] = nn.GELU("tanh")
        pooled = {
            "mean over the features": lambda: hidden.mean(dim=(0, 2)),
            "mean over the last position": lambda: hidden.mean(dim=0)[-1],
            "mean over the last layer": lambda: hidden[-1].mean(dim=0),
        }.get(mistake, lambda: hidden.mean(dim=0).mean(dim=0))()
        coefficients = self.coeff_head(self.trunk(pooled)).view(self.view)
        if mistake == "modules before layers":
            L, M, N, _ = self.view
            coefficients = coefficients.view(M, L, N, 2).transpose(0, 1)
        if mistake == "A and B exchanged":
            coefficients = coefficients.flip(-1)
        names = self.modules_found if mistake == "modules unsorted" else sorted(self.modules_found)
        scale = ALPHA / 32 if mistake == "scaled" else 1.0
        sites = {}
        for layer, rows in enumerate(coefficients):
            for name, c in zip(names, rows, strict=True):
                A = torch.einsum("n,nri->ri", c[:, 0], getattr(self, f"A_bases_{name}"))
                B = torch.einsum("n,nor->or", c[:, 1], getattr(self, f"B_bases_{name}"))
                sites[layer, name] = (A.float(), scale * B.float())
        return sites


def oracle_tokens(folder: Path, spec: str, pseudo_program: str, mistake: str = "") -> list[int]:
    """What the compiler reads: the chat turn, the pseudo-program, the end, the prefix tokens."""
    tokenizer = _tokenizer(folder / "compiler")
    steps = json.loads((folder / "meta.json").read_text())["prefix_steps"]
    content = f"[SPEC]\n{spec}\n[END_SPEC]\n\n[PSEUDO_PROGRAM]"
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=mistake == "thinking on",
    )
    read = tokenizer(turn, add_special_tokens=False)["input_ids"]
    read += tokenizer(pseudo_program, add_special_tokens=False)["input_ids"]
    end = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    prefix = tokenizer.convert_tokens_to_ids([f"<prefix_{i}>" for i in range(1, steps + 1)])
    if mistake == "no end of turn":
        return read + prefix
    if mistake == "prefix tokens before the end of turn":
        return read + prefix + end
    return read + end + prefix


@cache  # Qwen3's takes a second to load
def _tokenizer(path: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(path)


def teachers(num_layers: int, num_teachers: int) -> list[int]:
    """The compiler's layer that each of the interpreter's layers learns from."""
    layers = [int((layer + 1) * num_teachers / num_layers) - 1 for layer in range(num_layers)]
    return [min(max(layer, 0), num_teachers - 1) for layer in layers]


@torch.no_grad()
def oracle_hidden(
    folder: Path,
    tokens: list[int],
    num_layers: int,
    mistake: str = "",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(L, P, H) float32, from one forward pass."""
    steps = json.loads((folder / "meta.json").read_text())["prefix_steps"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "compiler", dtype=dtype)
    raw: list[torch.Tensor] = []
    model.model.layers[-1].register_forward_hook(lambda module, given, made: raw.append(made))
    states = list(model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[1:])
    torch.testing.assert_close(states[-1], model.model.norm(raw[0]))
    if mistake == "the last layer before the final norm":
        states[-1] = raw[0]
    chosen = teachers(num_layers, len(states))
    if mistake == "the first layers":
        chosen = list(range(num_layers))
    return torch.stack([states[layer][0, -steps:] for layer in chosen]).float()


@torch.no_grad()
def oracle(
    folder: Path, spec: str, pseudo_program: str, mistake: str = ""
) -> tuple[torch.Tensor, Sites]:
    """The hidden states and every site's A and B, as the paper says or with one mistake."""
    assert mistake in ("", *MISTAKES)
    mapper = Mapper.load(folder)
    tokens = oracle_tokens(folder, spec, pseudo_program, mistake)
    hidden = oracle_hidden(folder, tokens, mapper.view[0], mistake)
    return hidden, mapper(hidden, mistake)


@torch.no_grad()
def _randomize(model: nn.Module, seed: int, embedding: float = 0.7, gain: float = 1.2) -> None:
    """Weights under which every layer, and every token read, shows in the outputs."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.1)
        elif "norm" in name or ".ln_" in name:
            parameter.normal_(1.0, 0.3)
        elif "embed" in name or ".wte" in name or ".wpe" in name:
            parameter.normal_(std=embedding)
        else:
            fan_in = parameter.shape[0] if ".h." in name else parameter.shape[1]
            parameter.normal_(std=gain * fan_in**-0.5)
