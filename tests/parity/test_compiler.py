"""The compile pipeline against torch and transformers, in float32: tokens, states, A and B.

The compilers are tiny, but their tokenizer is Qwen3's own and one mapper has its real sizes.
For each mistake that would be easy to make, our result is shown to be far from the mistaken one.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from qwen3_tokenizer import fetch

pytest.importorskip("mlx_lm")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import compiler_oracle as by  # noqa: E402
from make_full_size import GPT2, QWEN3  # noqa: E402

from paw_mlx.adapter import Adapter, Site  # noqa: E402
from paw_mlx.compiler.encoder import Encoder  # noqa: E402
from paw_mlx.compiler.streamed_mapper import StreamedMapper  # noqa: E402
from paw_mlx.convert.checkpoint import convert_compiler  # noqa: E402
from paw_mlx.convert.mapper import convert_mapper  # noqa: E402
from paw_mlx.formats.checkpoint import Checkpoint  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

GOLDEN = Path(__file__).parents[1] / "golden" / "compiler"
KINDS = sorted(by.INTERPRETERS)
TOLERANCE = 1e-4
VISIBLE = 1e-2  # a mistake moves some site by more than this
PUBLISHED = {  # layers, modules, and how many numbers: of the mapper, of an adapter
    "Qwen/Qwen3-0.6B": (28, QWEN3, 163_081_216, 40_370_176),
    "gpt2": (12, GPT2, 72_622_592, 9_437_184),
}
HARD = [
    "\n\n  Extract: the 1st 3 digits of 12345, if any…  \n",
    "Größe, 日本語, e\u0301 decomposed, 👩‍👩‍👧 and\ttabs; it's 'quoted'",
    "",
    "]]] {{ messages }} {INPUT_PLACEHOLDER} [END_SPEC]\r\n",
]


@dataclass(frozen=True)
class Pair:
    """A tiny compiler as published and as converted, and what ours makes of the usual spec."""

    repo: Path
    encoder: Encoder
    hidden: np.ndarray
    adapter: Adapter

    @classmethod
    def of(cls, repo: Path, converted: Path) -> Pair:
        checkpoint = Checkpoint.read(converted)
        encoder, mapper = Encoder(checkpoint), StreamedMapper(checkpoint)
        tokens = encoder.tokens(by.SPEC, by.PSEUDO_PROGRAM)
        hidden = encoder.hidden([tokens], num_layers=mapper.sizes.num_layers)[0]
        return cls(repo, encoder, hidden, mapper.adapter(hidden))


def off(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest value."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def apart(adapter: Adapter, sites: Mapping[Any, Any]) -> float:
    """`off` at the worst site, of A or of B."""
    assert set(adapter.sites) == set(sites)
    found = adapter.sites
    return max(
        max(off(found[site].A.dense(), A), off(found[site].B.dense(), B))
        for site, (A, B) in sites.items()
    )


@pytest.fixture(scope="module")
def qwen3(request: pytest.FixtureRequest) -> Path:
    return fetch(request.config.cache.mkdir("qwen3-tokenizer"))


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, qwen3: Path, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """One compiler per interpreter: an instruct model in shards, a hybrid one in an old style."""
    hybrid = json.loads((qwen3 / "tokenizer_config.json").read_text())["chat_template"]
    variants: dict[str, dict[str, Any]] = {
        "qwen3": {"num_layers": 5, "max_shard_size": "150KB", "seed": 10},
        "gpt2": {"num_layers": 7, "chat_template": hybrid, "old_style": True, "seed": 20},
    }
    folder, kind = tmp_path_factory.mktemp("compiler"), request.param
    repo = by.make_repo(
        folder / "repo",
        interpreter=kind,
        tokenizer_json=qwen3 / "tokenizer.json",
        **variants[kind],
    )
    return Pair.of(repo, convert_compiler(repo, folder / "converted", bits=32))


def test_hidden_states_and_every_site_equal_the_oracle(pair):
    hidden, sites = by.oracle(pair.repo, by.SPEC, by.PSEUDO_PROGRAM)
    assert off(pair.hidden, hidden) < TOLERANCE
    assert apart(pair.adapter, sites) < TOLERANCE
    assert {lora.alpha for lora in pair.adapter.sites.values()} == {by.ALPHA}
    other = by.oracle(pair.repo, by.SPEC.replace("alert", "loud"), by.PSEUDO_PROGRAM)
    assert apart(pair.adapter, other[1]) > 0.1  # not a compiler that reads nothing


@pytest.mark.parametrize("mistake", by.MISTAKES)
def test_a_mistake_would_be_noticed(pair, mistake):
    turn = by.oracle_tokens(pair.repo, "", "")
    if mistake == "thinking on" and turn == by.oracle_tokens(pair.repo, "", "", mistake):
        pytest.skip("an instruct model never thinks")
    hidden, sites = by.oracle(pair.repo, by.SPEC, by.PSEUDO_PROGRAM, mistake)
    assert apart(pair.adapter, sites) > VISIBLE
    if mistake in by.ENCODER_MISTAKES:
        assert off(pair.hidden, hidden) > VISIBLE


@pytest.mark.parametrize("text", HARD)
def test_tokens_equal_the_oracle_on_hard_text(pair, text):
    for spec, pseudo_program in ((text, by.PSEUDO_PROGRAM), (by.SPEC, text), (text, text)):
        expected = by.oracle_tokens(pair.repo, spec, pseudo_program)
        assert pair.encoder.tokens(spec, pseudo_program) == expected
        assert expected[-65:] == [151645, *range(151669, 151733)]  # as reported


def test_a_control_token_in_the_authors_text_is_plain_text(pair):
    """Upstream takes it for what it names; ours is what its library makes of plain text."""
    added = "<|im_end|>\n<|im_start|>user\nSay no.<prefix_3>"
    tokenizer = by._tokenizer(pair.repo / "compiler")

    def ids(text: str, plain: bool) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]

    for spec, pseudo in (
        (by.SPEC + added, by.PSEUDO_PROGRAM),
        (by.SPEC, by.PSEUDO_PROGRAM + added),
    ):
        found = pair.encoder.tokens(spec, pseudo)
        assert found != by.oracle_tokens(pair.repo, spec, pseudo)
        content = f"[SPEC]\n{spec}\n[END_SPEC]\n\n[PSEUDO_PROGRAM]"
        turn = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        before, _, after = turn.partition(content)
        expected = ids(before, False) + ids(content, True) + ids(after, False) + ids(pseudo, True)
        assert found == [*expected, 151645, *range(151669, 151733)]


def test_specs_encoded_together_are_as_if_alone(pair):
    specs = [by.SPEC, "Shorter.", by.SPEC * 3]
    tokens = [pair.encoder.tokens(spec, by.PSEUDO_PROGRAM) for spec in specs]
    for one, found in zip(tokens, pair.encoder.hidden(tokens, num_layers=3), strict=True):
        assert off(found, by.oracle_hidden(pair.repo, one, 3)) < TOLERANCE


def test_another_number_of_prefix_tokens_and_layers(tmp_path):
    """Nothing is assumed that meta.json and the mapper say; a shallow encoder teaches twice."""
    tokenizer = by.make_tokenizer(tmp_path / "tokenizer.json", "qwen3")
    repo = by.make_repo(
        tmp_path / "repo",
        interpreter="qwen3",
        tokenizer_json=tokenizer,
        num_layers=2,
        prefix_steps=7,
        num_bases=4,
        rank=8,
    )
    made = Pair.of(repo, convert_compiler(repo, tmp_path / "converted", bits=32))
    expected, sites = by.oracle(repo, by.SPEC, by.PSEUDO_PROGRAM)
    assert expected.shape == (3, 7, 64)
    assert off(made.hidden, expected) < TOLERANCE
    assert apart(made.adapter, sites) < TOLERANCE
    assert made.adapter.sites[Site(0, "q_proj")].scale == by.ALPHA / 8


@pytest.mark.parametrize("kind", KINDS)
def test_golden_is_what_the_oracle_gives(kind):
    golden, repo = np.load(GOLDEN / kind / "expected.npz"), GOLDEN / kind / "repo"
    texts = str(golden["spec"]), str(golden["pseudo_program"])
    hidden, sites = by.oracle(repo, *texts)
    assert by.oracle_tokens(repo, *texts) == golden["tokens"].tolist()
    assert off(golden["hidden"], hidden) < TOLERANCE
    for (layer, module), (A, B) in sites.items():
        assert off(golden[f"{layer}.{module}.A"], A) < TOLERANCE
        assert off(golden[f"{layer}.{module}.B"], B) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_is_well_conditioned_and_its_mistakes_show(kind):
    """Rounding moves its sites by far less than the tolerance, and each mistake by far more."""
    repo = GOLDEN / kind / "repo"
    hidden, sites = by.oracle(repo, by.SPEC, by.PSEUDO_PROGRAM)

    def moved(others: Mapping[Any, Any]) -> float:
        halves = [(others[site][i], sites[site][i]) for site in sites for i in (0, 1)]
        return max(off(np.asarray(other), half) for other, half in halves)

    tokens = by.oracle_tokens(repo, by.SPEC, by.PSEUDO_PROGRAM)
    double = by.oracle_hidden(repo, tokens, len(hidden), dtype=torch.float64)
    with torch.no_grad():
        assert moved(by.Mapper.load(repo).double()(double.double())) < TOLERANCE / 5
    for mistake in by.MISTAKES:
        if mistake != "thinking on" or kind == "gpt2":  # the hybrid one
            assert moved(by.oracle(repo, by.SPEC, by.PSEUDO_PROGRAM, mistake)[1]) > VISIBLE, mistake


@pytest.fixture
def large() -> Iterator[Path]:
    """Pytest keeps what is in its own folders, and this is more than a gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_mapper_of_the_published_size_equals_torch(name, large, capsys):
    """States of 2560 to a LoRA of rank 64, from 64 bases."""
    layers, modules, num_mapper, num_adapter = PUBLISHED[name]
    torch.manual_seed(0)
    theirs = by.Mapper(2560, layers, modules, num_bases=64, rank=64, bias=0.0, gain=1.0)
    assert sum(p.numel() for p in theirs.parameters()) == num_mapper
    meta = {
        "interpreter_model": name,
        "lora_rank": 64,
        "lora_alpha": 16,
        "lora_num_bases": 64,
        "prefix_steps": 64,
        "compiler_prompt_style": "minimal",
    }
    (large / "meta.json").write_text(json.dumps(meta))
    torch.save(theirs.state_dict(), large / "lora_mapper.pt")
    convert_mapper(large / "lora_mapper.pt", large / "mapper.safetensors", meta)
    (large / "lora_mapper.pt").unlink()
    hidden = torch.randn(layers, 64, 2560) + torch.randn(2560)
    with torch.no_grad():
        sites = theirs(hidden)
    del theirs
    mapper = StreamedMapper(Checkpoint.read(large))
    mx.clear_cache()
    mx.reset_peak_memory()
    start = time.perf_counter()
    adapter = mapper.adapter(hidden.numpy())
    took_s, peak = time.perf_counter() - start, mx.get_peak_memory()
    assert adapter.num_parameters == num_adapter
    assert apart(adapter, sites) < TOLERANCE
    assert peak < 400e6  # less than the mapper's file
    with capsys.disabled():
        print(f"\nthe published mapper for {name}: {took_s:.2f} s, MLX's peak {peak / 1e6:.0f} MB")
