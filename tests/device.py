"""A device that is made up: tensors that say they are on it and are computed on the CPU, and a count of waits.

in:  code that puts its tensors on DEVICE, run inside `Waits()`
out: every place where the host would wait for a GPU: for numbers and tensors that are read, for copies to it that do
     not say `non_blocking`, and for sizes that depend on values

Importing it tells torch that there is an accelerator, for as long as the process lives: import it in a process of its
own.
"""

import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import taskcluster

ROOT = Path(taskcluster.__file__).parent

NUMBERS = {"_local_scalar_dense", "equal", "is_nonzero"}  # what gives a number, not a tensor
SIZES = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
SOLVERS = {"_linalg_svd", "linalg_qr", "_linalg_eigh", "linalg_cholesky_ex"}  # which report whether they succeeded


class Module:
    """What torch asks of the module of a device."""

    def __getattr__(self, name: str) -> Any:
        answers = {"is_available": True, "is_initialized": True, "device_count": 1, "get_rng_state": torch.empty(0)}
        return lambda *_: answers.get(name, 0)


_setup_privateuseone_for_python_backend("pretended", Module())

DEVICE = torch.device("pretended", 0)


class Accelerator(CPUAccelerator):
    """Lightning's, for DEVICE."""

    def setup_device(self, device: torch.device) -> None:
        assert device == DEVICE


class OnDevice(Tensor):
    """A tensor that says it is on DEVICE; `there` has its values."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, there.size(), strides=there.stride(), storage_offset=there.storage_offset(), dtype=there.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.there = there
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on the device, outside of `Waits`")


class Waits(TorchDispatchMode):
    """A context in which DEVICE is there. at: {place in the package: how often the host would wait there}."""

    def __init__(self) -> None:
        super().__init__()
        self.at: Counter[str] = Counter()

    def __enter__(self) -> "Waits":
        self._lifts_only_there = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device=DEVICE)` copies from the CPU
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch._C._set_only_lift_cpu_tensors(self._lifts_only_there)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name, given = func.overloadpacket.__name__, [t for t in tensors((args, kwargs)) if isinstance(t, OnDevice)]
        asked = kwargs.get("device")
        to_cpu = not given if asked is None else torch.device(asked).type == "cpu"
        if waits(name, args, kwargs, bool(given), to_cpu):
            self.at[place()] += 1
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = tree_map_only(OnDevice, lambda tensor: tensor.there, (args, kwargs))
        result = func(*args, **kwargs)
        if to_cpu or name in NUMBERS:
            return result
        known = {id(tensor.there): tensor for tensor in given}
        return tree_map_only(Tensor, lambda t: known[id(t)] if id(t) in known else OnDevice(t), result)


def tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, values)
    return found


def waits(name: str, args: Any, kwargs: Mapping[str, Any], on_device: bool, to_cpu: bool) -> bool:
    """Whether the host waits in an operation that is given something on the device, or gives something to the CPU."""
    if name == "_to_copy":
        return on_device == to_cpu and (to_cpu or not kwargs.get("non_blocking"))
    if name == "copy_":
        return isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice) and args[1].dim() > 0
    if not on_device:
        return False
    if name in ("index", "index_put", "index_put_"):
        chosen = [tensor for tensor in args[1] if tensor is not None]
        filled = name != "index" and len(chosen) == 1 and args[2].dim() == 0  # by masked_fill
        return any(not isinstance(t, OnDevice) or (t.dtype == torch.bool and not filled) for t in chosen)
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    return name in NUMBERS | SIZES | SOLVERS


def place() -> str:
    """The line of the package that asks."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(ROOT):
            return f"{file.relative_to(ROOT)}:{frame.lineno} {frame.line}"
    return "elsewhere"
