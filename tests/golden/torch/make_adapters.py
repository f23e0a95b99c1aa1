"""Make the golden adapters of PyTorch land: what peft and `torch.save` write without safetensors.

    python tests/golden/torch/make_adapters.py

Uses torch (2.13), transformers and peft (0.21), and never this package. One LoRA on a random
Llama (2 layers, hidden 16), in four files, all under `adapters/`:

    peft/            save_pretrained(safe_serialization=False)
    bare.pt          its A and B alone, as bf16, by their names in the model
    checkpoint.pt    a training checkpoint: base, LoRA, optimizer, random state and numbers
    sharded/         base and LoRA in shards with an index, under the names torch.compile gives

`deltas.npz` holds what each site adds to its weight, by peft's own arithmetic.
"""

import json
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

HERE = Path(__file__).parent / "adapters"
SIZES = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}


def make_model() -> peft.PeftModel:
    torch.manual_seed(11)
    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(base, config)
    config.base_model_name_or_path = "tiny"
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # exact in bfloat16, so that every file holds the same numbers
            parameter.data = torch.randn_like(parameter).mul(0.1).bfloat16().float()
    return model


def trained(model: peft.PeftModel) -> torch.optim.Optimizer:
    """An optimizer with a state; the step it takes is of length zero."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.0, weight_decay=0.0
    )
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    optimizer.step()
    return optimizer


def make_checkpoint(model: peft.PeftModel) -> None:
    optimizer = trained(model)
    torch.save(
        {
            "epoch": 3,
            "best_loss": torch.tensor(0.5, dtype=torch.float64),
            "lr": 1e-4,
            "name": "golden",
            "history": [0.9, 0.7, None],
            "betas": (0.9, 0.999),
            "seen": torch.arange(5),
            "mask": torch.tensor([True, False]),
            "shape": torch.Size([2, 3]),
            "rng": torch.arange(16, dtype=torch.uint8),
            "state_dict": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        HERE / "checkpoint.pt",
    )


def make_shards(model: peft.PeftModel) -> None:
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    is_first = [".layers.0." in name for name in state]
    files = [f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3)]
    weight_map = {
        name: files[0 if first else 1 if "lora_" in name else 2]
        for (name, first) in zip(state, is_first, strict=True)
    }
    folder = HERE / "sharded"
    folder.mkdir(exist_ok=True)
    for file in files:
        torch.save({n: t.clone() for n, t in state.items() if weight_map[n] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    model = make_model()
    deltas = {
        name: module.get_delta_weight("default").detach().numpy()
        for name, module in model.base_model.model.named_modules()
        if isinstance(module, peft.tuners.lora.Linear)
    }
    np.savez_compressed(HERE / "deltas.npz", **deltas)
    model.save_pretrained(HERE / "peft", safe_serialization=False)
    (HERE / "peft" / "README.md").unlink()
    named = dict(model.named_parameters())
    torch.save({n: p.bfloat16() for n, p in named.items() if "lora_" in n}, HERE / "bare.pt")
    make_checkpoint(model)
    make_shards(model)


if __name__ == "__main__":
    main()
