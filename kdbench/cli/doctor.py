"""`kdbench doctor`: report what this installation can run, and its problems."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench import __version__
from kdbench.cli.options import (
    console,
    data_option,
    echo_json,
    json_option,
    plugin_option,
    workspace_option,
)

if TYPE_CHECKING:
    from kdbench.registry import Registry

_DISTRIBUTIONS = (
    "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "openTSNE", "umap-learn", "mlflow",
    "pluggy", "pydantic",
)  # fmt: skip


@click.command("doctor")
@workspace_option
@data_option
@plugin_option
@json_option
def command(workspace: Path, data_dir: Path | None, plugin_files: tuple[Path, ...], as_json: bool) -> int:
    """Examine versions, devices, plugins, workspace and data. Exits with 3 if a plugin is broken, 2 if the
    workspace can't be written."""
    from kdbench.cli.plugins import plugin_rows
    from kdbench.registry import Registry

    registry = Registry.discover(files=plugin_files)
    space = _workspace(workspace)
    data = {
        "kdbench": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "extras": _extras(),
        "devices": _devices(),
        "workspace": space,
        "data": _data(data_dir),
        "missing": _missing(registry),
        "plugins": plugin_rows(registry),
    }
    if as_json:
        echo_json(data)
    else:
        _print(data)
    if registry.failures:
        return 3
    return 0 if space["writable"] else 2


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Extra -> what of it is not installed."""
    import re

    missing: dict[str, list[str]] = {}
    for requirement in metadata.requires("kdbench") or ():
        found = re.match(r"([\w.-]+).*;.*extra\s*==\s*['\"]([\w.-]+)['\"]", requirement)
        if found and found[1] != "kdbench":
            absent = missing.setdefault(found[2], [])
            if _version(found[1]) is None:
                absent.append(found[1])
    return missing


def _devices() -> dict[str, Any]:
    """What torch finds; the reason where it can't be imported."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import torch
    except ImportError as error:
        return {"cores": cores, "error": f"torch can't be imported: {error}"}
    flags = torch.backends.cpu.get_cpu_capability()
    gpus = [
        {
            "name": torch.cuda.get_device_name(i),
            "memory_gib": round(torch.cuda.get_device_properties(i).total_memory / 2**30, 1),
            "bfloat16": torch.cuda.is_bf16_supported(),
        }
        for i in range(torch.cuda.device_count())
    ]
    return {
        "cores": cores,
        "cpu": _cpu_name(),
        "cpu_capability": flags,
        "bfloat16": _cpu_bfloat16(),
        "gpus": gpus,
    }


def _cpu_bfloat16() -> list[str]:
    """The processor's own bfloat16 instructions; [] where they would be emulated."""
    flags = _cpuinfo("flags").split()
    return [f for f in ("amx_bf16", "avx512_bf16") if f in flags]


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _workspace(workspace: Path) -> dict[str, Any]:
    """Whether results could be written; nothing is created."""
    at = workspace.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    writable = at.is_dir() and os.access(at, os.W_OK | os.X_OK)
    return {"path": str(workspace.absolute()), "exists": workspace.is_dir(), "writable": writable}


def _data(data_dir: Path | None) -> list[dict[str, Any]]:
    """The folders that datasets are looked for in, and what lies there."""
    from kdbench.locations import data_places

    return [
        {
            "folder": str(folder),
            "exists": folder.is_dir(),
            "entries": sorted(p.name for p in folder.iterdir())[:20] if folder.is_dir() else [],
        }
        for folder in data_places(data_dir).folders
    ]


def _missing(registry: Registry) -> dict[str, list[str]]:
    """Component -> requirements that are not installed."""
    from kdbench.registry import KINDS
    from kdbench.registry.components import missing_requirements

    specs = [spec for kind in KINDS for spec in registry.specs(kind)]
    return {f"{s.kind}/{s.name}": m for s in specs if (m := missing_requirements(s))}


def _print(data: dict[str, Any]) -> None:
    from kdbench.cli.plugins import print_plugins

    out = console()

    def section(title: str, lines: list[str]) -> None:
        out.print(title, style="bold")
        for line in lines:
            out.print(f"  {line}", soft_wrap=True)

    python = data["python"]
    section(
        "kdbench " + data["kdbench"],
        [f"Python {python['version']}, {python['executable']}", data["platform"]],
    )
    section("versions", [f"{n} {v or 'NOT INSTALLED'}" for n, v in data["versions"].items()])
    section(
        "extras",
        [f"[{n}] " + ("missing " + ", ".join(m) if m else "installed") for n, m in data["extras"].items()],
    )
    devices = data["devices"]
    lines = [f"{devices['cores']} cores"]
    if "error" in devices:
        lines.append(devices["error"])
    else:
        bf16 = ", ".join(devices["bfloat16"]) or "no (float32 is used)"
        lines += [f"{devices['cpu']}, {devices['cpu_capability']}", f"bfloat16 on the processor: {bf16}"]
        lines += [f"{g['name']}, {g['memory_gib']} GiB" for g in devices["gpus"]] or ["no GPU"]
    section("devices", lines)
    space = data["workspace"]
    state = "exists" if space["exists"] else "not there yet"
    section("workspace", [f"{space['path']} ({state}{'' if space['writable'] else ', CAN NOT BE WRITTEN'})"])
    section("data", [f"{d['folder']}: {', '.join(d['entries']) or 'nothing'}" for d in data["data"]])
    if data["missing"]:
        section("can't be used here", [f"{n}: needs {', '.join(m)}" for n, m in data["missing"].items()])
    out.print("plugins", style="bold")
    print_plugins(data["plugins"], tracebacks=True)
