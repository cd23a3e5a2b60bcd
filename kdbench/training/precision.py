"""Numerical precision by device."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kdbench.errors import UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (AMX or AVX512-BF16).

    Elsewhere bfloat16 is emulated and slower than float32, so it is looked up rather than assumed.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    words = set(flags.split())
    return bool(words & {"amx_bf16", "avx512_bf16"})


def resolve_precision(precision: Precision, device: str) -> Literal["float32", "bfloat16"]:
    """`auto` to what the device is fast in; the others as they are."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        import torch

        # Ampere and later; older ones emulate it
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if device == "cpu" and cpu_has_bfloat16() else "float32"


def autocast(precision: str, device: str) -> contextlib.AbstractContextManager:
    """Run matrix products in bfloat16 and keep weights, losses and batch statistics in float32."""
    import torch

    kind = torch.device(device).type
    if precision == "float32":  # also inside a bfloat16 region: a float32 teacher beside a bfloat16 student
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, dtype=torch.bfloat16)


def exact_float32() -> None:
    """Let "float32" mean float32 and equal seeds give equal results on a GPU too: no TF32 in convolutions, and none
    of cuDNN's kernels that add up in any order."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def resolve_device(device: str | None) -> str:
    """Return the name of a device that networks can be moved to.

    Parameters
    ----------
    device
        "cpu", "cuda", ...; None for "cuda" if there is a GPU, else "cpu".

    Returns
    -------
    str
        The device.

    Raises
    ------
    UsageError
        torch does not know the device, or this machine does not have it.
    """
    drivers = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg")
    if device is None and not any(Path(driver).exists() for driver in drivers):
        return "cpu"  # without importing torch, which takes seconds
    if device == "cpu":
        return device
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{device!r} can't be used: {reason}", where="--device", hint="cpu, or cuda on a GPU"
        ) from error
    return device


def channels_last(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """The model on `device` in the memory layout its convolutions are fast in."""
    import torch

    if torch.device(device).type == "cuda":
        exact_float32()
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
