"""Hardware and software versions of a record."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from kdbench.api.cores import available_cores

_DISTRIBUTIONS = (
    "kdbench", "torch", "torchvision", "timm", "numba", "numpy", "scipy", "scikit-learn", "openTSNE", "umap-learn",
    "ivis", "tensorflow",
)  # fmt: skip


@functools.cache
def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


@functools.cache
def hardware(device: str, threads: int, cores: int | None = None) -> dict[str, Any]:
    """Device, processor, cores and a short label for tables ("2-core Intel Xeon" or the GPU's name).

    Parameters
    ----------
    device
        "cpu", "cuda", ...
    threads
        Number of threads that the work uses.
    cores
        Of the run; those that this process may use for None. A worker is kept on some of the run's.

    Returns
    -------
    dict
        "device", "cpu", "cores", "threads", "os", "label" and more.
    """
    cores = cores or len(available_cores())
    info: dict[str, Any] = {"device": device, "cpu": cpu_name(), "cores": cores, "threads": threads}
    info["os"] = f"{platform.system()} {platform.release()}"
    if device.startswith("cuda"):
        import torch

        info["gpu"] = torch.cuda.get_device_name(device)
        info["label"] = info["gpu"]
    else:
        from kdbench.training.precision import cpu_has_bfloat16

        info["bfloat16"] = cpu_has_bfloat16()
        short = cpu_name().replace("(R)", "").replace("(TM)", "").replace("Processor", "").strip()
        info["label"] = f"{cores}-core {' '.join(short.split()) or 'CPU'}"
    return info


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the distributions that results depend on, those that are installed."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **found}


@functools.cache
def git_commit() -> str:
    """Commit of the working folder's repository, with "+" when it has changes; "" outside one."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+" if changes else "")
