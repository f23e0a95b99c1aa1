"""What a name promises of a base's weights, and where a base on this machine came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from paw_mlx import hub, settings
from paw_mlx.errors import AdapterMismatch
from paw_mlx.profiles import PROFILES, base_name, find_fitting, find_profile


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
        ("huggingfacetb/smollm2-135m-instruct", "smollm2-135m"),
        ("mlx-community/SmolLM2-135M-Instruct", "smollm2-135m"),
        ("mlx-community/Qwen3-0.6B-4bit", "qwen3-0.6b"),
        ("mlx-community/Qwen3-0.6B-bf16", "qwen3-0.6b"),
        ("programasweights/GPT2-GGUF-Q8_0", "gpt2"),
        ("openai-community/gpt2", "gpt2"),
        # Other weights under a name like one that is known.
        ("HuggingFaceTB/SmolLM2-135M", None),
        ("mlx-community/SmolLM2-135M-4bit", None),
        ("unsloth/SmolLM2-135M", None),
        ("unsloth/Qwen3-0.6B", None),
        ("unsloth/qwen3-0.6b-unsloth-bnb-4bit", None),
        ("Qwen/Qwen3-0.6B-Base", None),
        ("someone/gpt2", None),
        ("someone/Qwen3-0.6B-4bit", None),
        ("/home/me/Qwen3-0.6B", None),
        ("./gpt2", None),
        ("", None),
    ],
)
def test_a_name_promises_weights_or_nothing(reference: str, name: str | None) -> None:
    found = find_profile(reference)
    assert (found.name if found else None) == name
    assert base_name(reference) == (name or reference)


def test_a_namesake_is_told_apart_and_found() -> None:
    for reference in ("unsloth/SmolLM2-135M", "someone/SmolLM2-135M-Instruct-4bit"):
        assert hub.find_namesake(reference) is PROFILES["smollm2-135m"]
    assert hub.find_namesake("someone/gpt2-medium") is None


def test_the_base_whose_sizes_fit_is_proposed() -> None:
    known = PROFILES["smollm2-135m"]
    adapter = tiny.adapter(known, rank=1)
    assert find_fitting(adapter) is known
    with pytest.raises(AdapterMismatch) as caught:
        PROFILES["qwen3-0.6b"].check(adapter)
    assert caught.value.hints == [
        "It was made for another base; its sizes are those of smollm2-135m."
    ]
    with pytest.raises(AdapterMismatch) as caught:
        known.check(tiny.adapter(tiny.profile("gpt2")))
    assert caught.value.hints == ["It was made for another base."]


def test_where_a_base_came_from_is_known_by_its_place(tmp_path: Path) -> None:
    cached = tmp_path / "models--org--some-base" / "snapshots" / "c0ffee"
    assert hub.origin(cached) == hub.origin(cached / "base.gguf") == "org/some-base"
    kept = settings.data_dir() / "bases" / "smollm2-135m" / "x.gguf"
    assert hub.origin(kept) == "smollm2-135m"
    assert hub.origin(tmp_path / "gpt2") == hub.origin(Path("base.gguf")) == ""
