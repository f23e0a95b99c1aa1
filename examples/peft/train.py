"""Train a LoRA with peft, in PyTorch, as anybody would: here to have one to convert.

    python examples/peft/train.py BASE OUT

BASE is a Hugging Face folder of SmolLM2-135M-Instruct (`paw-mlx convert smollm2-135m BASE --base
--bits 32` makes one), OUT the adapter. Needs torch, transformers and peft.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import peft
import torch
import transformers

STEPS, BATCH_SIZE, LEARNING_RATE = 30, 8, 1e-3
TASK = "Is this e-mail urgent? Answer immediate or wait.\n"
ROWS = Path(__file__).parents[1] / "email-triage" / "train.jsonl"


def batches(tokenizer):
    """Rows as tokens, padded on the right; the loss is that of the answer alone."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    chance = random.Random(0)
    for _ in range(STEPS):
        ids, labels = [], []
        for row in chance.sample(rows, BATCH_SIZE):
            turn = [{"role": "user", "content": TASK + row["input"]}]
            prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            prompt = tokenizer.encode(prompt, add_special_tokens=False)
            answer = tokenizer.encode(row["output"] + "<|im_end|>", add_special_tokens=False)
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([-100] * len(prompt) + answer))
        pad = torch.nn.utils.rnn.pad_sequence
        ids, labels = pad(ids, batch_first=True), pad(labels, True, -100)
        yield {"input_ids": ids, "labels": labels}


def main(base: str, out: str) -> None:
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        rank_pattern={"down_proj": 8},
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for step, batch in enumerate(batches(tokenizer), 1):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}/{STEPS}  loss {loss.item():.3f}", flush=True)
    model.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
