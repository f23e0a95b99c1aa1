"""Make the golden adapters: one small LoRA in every layout, by other people's code.

    python tests/golden/make.py

Uses torch, transformers, peft, safetensors, gguf and mlx-lm, and never this package. The
base is a random Llama (2 layers, hidden 32, 2 heads, 1 KV head); `deltas.npz` holds what
each site adds to its weight, by peft's own arithmetic, and `deltas_q4_0.npz` what is left
of it after gguf's quantization.
"""

import json
import struct
import zipfile
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import peft
import safetensors.torch
import torch
import transformers
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.tuner.utils import linear_to_lora_layers

HERE = Path(__file__).parent
SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
}
RANK, ALPHA = 32, 8
TARGETS = {"q_proj": "attn_q", "k_proj": "attn_k", "down_proj": "ffn_down"}
TEMPLATE = "Say it louder.\n\n[INPUT]\n{INPUT_PLACEHOLDER}\n[END_INPUT]"


def make_peft() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(7)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), base_model_name_or_path="tiny"
    )
    tuned = peft.get_peft_model(model, config)
    pairs, deltas = {}, {}
    for name, module in tuned.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear):
            for weight in (module.lora_A.default.weight, module.lora_B.default.weight):
                weight.data = torch.randn_like(weight).mul(0.1).half().float()
            pairs[name] = (module.lora_A.default.weight.data, module.lora_B.default.weight.data)
            deltas[name] = module.get_delta_weight("default").detach().numpy()
    tuned.half().save_pretrained(HERE / "peft", safe_serialization=True)
    (HERE / "peft" / "README.md").unlink()
    np.savez_compressed(HERE / "deltas.npz", **deltas)
    return {name: (A.float(), B.float()) for name, (A, B) in pairs.items()}


def permuted(weight: np.ndarray, name: str) -> np.ndarray:
    """llama.cpp's LlamaModel.permute, for the rows of q and k."""
    heads = {"q_proj": 2, "k_proj": 1}.get(name.split(".")[-1])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def make_gguf(pairs: dict, kind: gguf.GGMLQuantizationType) -> Path:
    path = HERE / f"adapter-{kind.name.lower()}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    deltas = {}
    for name, (A, B) in pairs.items():
        _, _, layer, _, module = name.split(".")
        base = f"blk.{layer}.{TARGETS[module]}.weight"
        halves = []
        for half, weight in (("a", A.numpy()), ("b", B.numpy())):
            turned = permuted(weight, module) if half == "b" else weight
            packed = gguf.quants.quantize(turned, kind)
            writer.add_tensor(f"{base}.lora_{half}", packed, raw_dtype=kind)
            plain = gguf.quants.quantize(weight, kind)
            halves.append(gguf.quants.dequantize(plain, kind))
        deltas[name] = ALPHA / RANK * (halves[1] @ halves[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if kind == gguf.GGMLQuantizationType.Q4_0:
        np.savez_compressed(HERE / "deltas_q4_0.npz", **deltas)
    return path


def make_mlx(pairs: dict) -> None:
    args = llama.ModelArgs(model_type="llama", rms_norm_eps=1e-6, **SIZES)
    model = llama.Model(args)
    keys = ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"]
    parameters = {"rank": RANK, "scale": ALPHA / RANK, "dropout": 0.0, "keys": keys}
    model.freeze()
    linear_to_lora_layers(model, 2, parameters)
    weights = []
    for name, (A, B) in pairs.items():
        weights += [(f"{name}.lora_a", mx.array(A.numpy().T.copy()).astype(mx.float16))]
        weights += [(f"{name}.lora_b", mx.array(B.numpy().T.copy()).astype(mx.float16))]
    model.load_weights(weights, strict=False)
    folder = HERE / "mlx"
    folder.mkdir(exist_ok=True)
    trained = dict(tree_flatten(model.trainable_parameters()))
    mx.save_safetensors(str(folder / "adapters.safetensors"), trained)
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=4))


def make_legacy(pairs: dict) -> None:
    record = {
        "format_version": 2,
        "kind": "neural_program",
        "interpreter_model": "tiny",
        "spec": "Say it louder.",
        "pseudo_program": "[PSEUDO_PROGRAM]\nTask: Say it louder.\n[END_PSEUDO_PROGRAM]",
        "prefix_type": "kv_cache",
        "prefix_steps": 0,
        "has_lora": True,
        "lora_config": {"rank": RANK, "alpha": ALPHA, "target_modules": list(TARGETS)},
    }
    tensors = {}
    for name, (A, B) in pairs.items():
        tensors[f"lora_{name}.lora_A"] = A.half()
        tensors[f"lora_{name}.lora_B"] = B.half()
    text = json.dumps(record).encode()
    data = b"PAW\x02" + struct.pack("<II", 2, len(text)) + text + safetensors.torch.save(tensors)
    (HERE / "legacy.paw").write_bytes(data)


def make_program(adapter: Path) -> None:
    meta = {
        "version": 3,
        "program_id": "0123456789abcdef",
        "spec": "Say it louder.",
        "compiler_snapshot": "golden",
        "interpreter": "tiny",
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "prefix_steps": 64,
        "created_at": "2026-07-01T00:00:00Z",
    }
    members = {
        "adapter.gguf": adapter.read_bytes(),
        "prompt_template.txt": TEMPLATE.encode(),
        "meta.json": json.dumps(meta).encode(),
        "pseudo_program.txt": b"Say it louder.",
    }
    folder = HERE / "program"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(HERE / "program.paw", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            (folder / name).write_bytes(data)
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        archive.writestr("prefix_cache.bin", b"\0" * 64)


if __name__ == "__main__":
    made = make_peft()
    make_gguf(made, gguf.GGMLQuantizationType.F16)
    make_mlx(made)
    make_legacy(made)
    make_program(make_gguf(made, gguf.GGMLQuantizationType.Q4_0))
