"""Make the golden state dicts: what `torch.save` writes, and the values `torch.load` finds.

    python tests/golden/torch/make.py

Uses torch (2.13) and numpy, and never this package. `state.pt` is a module's state dict with
`_metadata`, to which views, a parameter and the half types are added; `protocol4.pt` is a plain
dict with the newest pickle that needs nothing else; `expected.npz` has both, contiguous, bf16
as its bits.
"""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def bits(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's values, row by row; bf16 as uint16."""
    tensor = tensor.detach().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def main() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.LayerNorm(4))
    state, base = module.state_dict(), torch.randn(5, 6, 7)
    state["half"] = torch.randn(3, 4).half()
    state["bf16"] = torch.randn(3, 4).bfloat16()
    state["half.column"] = state["half"][:, 1]
    state["bf16.rows"] = state["bf16"][1:]
    state["base"] = base
    state["transposed"] = base.transpose(0, 2)
    state["window"] = base[1:4, ::2, 3:5]
    state["bf16.t"] = torch.randn(3, 4).bfloat16().t()
    state["parameter"] = torch.nn.Parameter(torch.randn(2))
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 3)
    torch.save(state, HERE / "state.pt")
    plain = {"a": torch.randn(2, 3)}
    torch.save(plain, HERE / "protocol4.pt", pickle_protocol=4)
    np.savez(HERE / "expected.npz", **{k: bits(v) for k, v in {**state, **plain}.items()})


if __name__ == "__main__":
    main()
