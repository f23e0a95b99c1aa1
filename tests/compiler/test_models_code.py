"""A model's folder may hold code, and its texts may name it: none of it runs.

mlx-lm runs a `model_file`, transformers an `auto_map` and a template; they are told not to, and
a template is kept in its sandbox.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from chat_models import TEMPLATE, described, random_model

from paw_mlx.compiler import chat
from paw_mlx.errors import FormatError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, beside whose weights lies code that would leave a mark."""
    model = random_model(tmp_path / "model")
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nModel = ModelArgs = Tokenizer = None\n"
    (model / "evil.py").write_text(code)
    return model


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_model_file_is_not_run(folder: Path, tmp_path: Path) -> None:
    change(folder / "config.json", model_file="evil.py")
    with pytest.raises(FormatError, match=r"does not load: .*evil\.py"):
        chat.ChatModel(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}},
        {
            "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
            "tokenizer_class": "EvilTokenizer",
        },
        {"chat_template_type": "..evil"},
        {"tool_parser_type": "evil"},
    ],
)
def test_code_that_a_tokenizer_names_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    change(folder / "tokenizer_config.json", **changes)
    change(folder / "config.json", auto_map={"AutoModel": "evil.Model"})
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    with contextlib.suppress(FormatError):
        chat.load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "escape",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
        "{{ messages.append(1) }}",
        "{% include 'evil.py' %}",
    ],
)
def test_a_template_stays_in_its_sandbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, escape: str
) -> None:
    monkeypatch.chdir(folder)
    tokenizer = chat.load_tokenizer(described(folder, TEMPLATE + escape))
    with pytest.raises(FormatError, match="chat template fails") as caught:
        chat.render(tokenizer, [{"role": "user", "content": "hello"}])
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()
