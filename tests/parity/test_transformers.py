"""Each family against transformers and peft, in float32 on tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from tokenizers import Tokenizer as Reference
from tokenizers import pre_tokenizers

from paw_mlx import Interpreter, Options, Program, Template, formats
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.adapters.hot import heat
from paw_mlx.interpreter.base.tokenizer import Tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = {"llama": "Llama", "qwen3": "Qwen3", "gpt2": "GPT2"}
HEADS = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel"}
PROMPT = "the disk is full, spring picnic"


@pytest.fixture(params=[(f, tied) for f in tiny.FAMILIES for tied in (True, False)], ids=str)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Any]:
    """(family, the folder transformers saved, transformers' own model)."""
    family, tied = request.param
    torch.manual_seed(0)
    sizes = {k: v for k, v in tiny.config(family).items() if k != "model_type"}
    config = getattr(transformers, f"{CLASSES[family]}Config")(
        **{**sizes, "tie_word_embeddings": tied}
    )
    model = getattr(transformers, HEADS[family])(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(noise * (0.1 if "norm" in name or "ln_" in name else 0.25))
    model.save_pretrained(tmp_path / "base", safe_serialization=True)
    tiny.tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    return family, tmp_path / "base", model


def with_peft(family: str, model: Any, folder: Path) -> Any:
    """A peft adapter on all linear modules, saved by peft itself."""
    modules = sorted({path.split(".")[-1] for path in tiny.profile(family).family.paths.values()})
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=modules, fan_in_fan_out=family == "gpt2"
    )
    wrapped = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    wrapped.save_pretrained(folder)
    return wrapped


def assert_same(interpreter: Interpreter, program: Program, oracle: Any) -> None:
    base = interpreter.base
    tokens = base.tokenizer.encode(PROMPT)
    if program.adapter:
        heat(base.groups, program.adapter)
    ours = tiny.scores(base, tokens)
    lora.attach(base.groups, {})
    with torch.no_grad():
        theirs = oracle(torch.tensor([tokens])).logits[0].numpy()
        greedy = oracle.generate(
            input_ids=torch.tensor([tokens]),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=sorted(base.eos),
            pad_token_id=0,
        )[0, len(tokens) :].tolist()
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.ptp(theirs) > 1  # not a model that says one thing to everything
    result = interpreter.run(program, PROMPT, Options(max_tokens=20))
    ids = [token for token in greedy if token not in base.eos]
    assert result.text == base.tokenizer.decode(ids).strip()
    assert result.output_tokens == len(greedy)
    assert "".join(interpreter.stream(program, PROMPT, Options(max_tokens=20))) == result.text


def test_logits_and_greedy_tokens_equal_transformers(base):
    family, folder, model = base
    bare = Program(Template("", ""), None, tiny.profile(family).name)
    with Interpreter.load(str(folder)) as interpreter:
        assert_same(interpreter, bare, model)


def test_logits_and_greedy_tokens_with_an_adapter_equal_peft(base, tmp_path):
    family, folder, model = base
    wrapped = with_peft(family, model, tmp_path / "adapter")
    adapter = formats.load_adapter(tmp_path / "adapter", tiny.profile(family))
    program = Program(Template("", ""), adapter, tiny.profile(family).name)
    with Interpreter.load(str(folder)) as interpreter:
        assert_same(interpreter, program, wrapped)


def test_a_base_in_bf16_shards_loads(base, tmp_path):
    _, _, model = base
    model.to(torch.bfloat16).save_pretrained(tmp_path / "bf16", max_shard_size="40KB")
    tiny.tokenizer().save(str(tmp_path / "bf16" / "tokenizer.json"))
    assert len(list((tmp_path / "bf16").glob("*.safetensors"))) > 1
    with Interpreter.load(str(tmp_path / "bf16")) as interpreter:
        tokens = interpreter.base.tokenizer.encode(PROMPT)
        ours = tiny.scores(interpreter.base, tokens)
    with torch.no_grad():
        oracle = type(model).from_pretrained(tmp_path / "bf16", dtype=torch.float32)
        theirs = oracle(torch.tensor([tokens])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4


def test_the_gguf_tokenizer_equals_transformers_on_hard_text():
    """Qwen3's real tokenizer is tried by hand; here the pre-tokenizers, on a tiny vocabulary."""
    reference = tiny.tokenizer()
    vocab = [reference.id_to_token(i) for i in range(reference.get_vocab_size())]
    merges = [" ".join(pair) for pair in json.loads(reference.to_str())["model"]["merges"]]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": vocab,
        "tokenizer.ggml.token_type": [3 if token in tiny.CONTROL else 1 for token in vocab],
        "tokenizer.ggml.merges": merges,
    }
    split_digits = Reference.from_str(reference.to_str())
    split_digits.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), reference.pre_tokenizer]
    )
    text = "I'll say 'the disk' is 98% full…\n\n  Größe 12345 日本 <|im_end|>\tthe server"
    for pre, expected in (("gpt-2", reference), ("smollm", split_digits)):
        ours = Tokenizer.from_gguf(metadata | {"tokenizer.ggml.pre": pre})
        ids = expected.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, control=True) == ids
        assert ours.decode(ids) == expected.decode(ids, skip_special_tokens=True)
