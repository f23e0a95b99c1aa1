"""Our reader against torch itself: what `torch.save` writes, as `torch.load` reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.errors import FormatError

torch = pytest.importorskip("torch")

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def bits(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's values, row by row; bf16 as uint16."""
    tensor = tensor.detach().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def agree(path: Path) -> int:
    """Assert that we read what torch reads, bit for bit; returns the number of tensors."""
    expected = torch.load(path, weights_only=False, map_location="cpu")
    with open_state_dict(path) as found:
        assert list(found.tensors) == list(expected)
        for name, info in found.tensors.items():
            array = found.read(name)
            assert DTYPES[info.dtype] == expected[name].dtype
            assert info.shape == array.shape == tuple(expected[name].shape)
            assert array.flags.c_contiguous
            assert array.dtype == bits(expected[name]).dtype
            assert array.tobytes() == bits(expected[name]).tobytes()
        return len(found.tensors)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_modules_state_dict_is_what_torch_loads(tmp_path: Path, dtype: torch.dtype) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4)).to(dtype)
    state = module.state_dict()
    assert state._metadata
    torch.save(state, tmp_path / "x.pt")
    assert agree(tmp_path / "x.pt") == 4


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_views_are_what_torch_loads(tmp_path: Path, dtype: torch.dtype) -> None:
    base = torch.randn(6, 7, 8).to(dtype)
    views = {
        "base": base,
        "transposed": base.transpose(0, 2),
        "permuted": base.permute(1, 2, 0),
        "window": base[1:5, ::3, 2:4],
        "row": base[3],
        "column": base[:, 2, 5],
        "element": base[5, 6, 7],
        "diagonal": base[:, :6, 0].diagonal(),
        "none": base[6:, 7:],
        "few": base[:1, :1].expand(1, 3, 8),
        "unfolded": base.flatten()[:20].unfold(0, 4, 2),
        "one": base[2:3, :, None, 4:5],
    }
    torch.save(views, tmp_path / "x.pt")
    assert agree(tmp_path / "x.pt") == len(views)


def test_scalars_empty_tensors_and_parameters_are_what_torch_loads(tmp_path: Path) -> None:
    shared = torch.randn(3)
    values = {
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0),
        "empty rows": torch.empty(0, 3),
        "empty columns": torch.empty(3, 0, 2),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "frozen": torch.nn.Parameter(torch.randn(2, 2), requires_grad=False),
        "shared": shared,
        "shared again": shared,
        "ünïcode.名": torch.ones(2),
    }
    torch.save(values, tmp_path / "x.pt")
    assert agree(tmp_path / "x.pt") == len(values)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_what_torch_loads(tmp_path: Path, protocol: int) -> None:
    values = {f"layer.{i}": torch.randn(2, i) for i in range(1, 301)}
    torch.save(values, tmp_path / "x.pt", pickle_protocol=protocol)
    assert agree(tmp_path / "x.pt") == 300


def test_a_file_without_checksums_is_what_torch_loads(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.randn(9)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert agree(tmp_path / "x.pt") == 1


def test_a_file_with_an_odd_name_is_what_torch_loads(tmp_path: Path) -> None:
    path = tmp_path / "größe v1.2 (final).weights.pt"
    torch.save({"a": torch.randn(9)}, path)
    assert agree(path) == 1


def refusal(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        open_state_dict(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_the_legacy_format_is_refused_by_name(tmp_path: Path) -> None:
    values = {"a": torch.randn(9)}
    torch.save(values, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert "torch.save's legacy format" in refusal(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused_by_name(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    assert "TorchScript archive, with code in it" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.arange(3), "asks for 'torch.LongStorage'"),
        (torch.ones(3).double(), "asks for 'torch.DoubleStorage'"),
        (torch.ones(1).expand(5), "shape (5,), 5 elements, in data/0, which has 1"),
        (torch._neg_view(torch.ones(3)), "a tensor with metadata"),
        (torch.ones(2, 2).to_sparse(), "asks for 'torch._utils._rebuild_sparse_tensor'"),
        (torch.nn.Linear(2, 2), "asks for 'torch.nn.modules.linear.Linear'"),
        (torch.ones(2, device="meta"), "_rebuild_meta_tensor_no_storage'"),
        (torch.device("cpu"), "asks for 'torch.device'"),
        ({"w": torch.ones(2)}, "'a' is a dict of 1"),
        (3, "'a' is 3"),
    ],
)
def test_what_is_no_float_tensor_is_refused_by_name(
    tmp_path: Path, value: object, said: str
) -> None:
    torch.save({"a": value}, tmp_path / "x.pt")
    assert said in refusal(tmp_path / "x.pt")


def test_a_training_checkpoint_names_its_keys(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, tmp_path / "x.pt")
    assert "'state_dict' is a dict of 2, 'optimizer' is a dict of 2" in refusal(tmp_path / "x.pt")
