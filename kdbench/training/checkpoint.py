"""Checkpoints of a training under way: weights and momenta as safetensors, the rest as JSON; no pickles."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Resumed:
    """Where a training stood: epochs finished, curves, images and steps so far."""

    epoch: int
    history: dict[str, list[float]]
    images: int
    steps: int


class Checkpointer:
    """Saves at the end of an epoch when `seconds` have passed since the last save.

    A checkpoint is one folder that is renamed into place, so that it is whole or not there.
    """

    def __init__(self, folder: Path, *, seconds: float = 10.0) -> None:
        self.folder = Path(folder)
        self.seconds = seconds
        self._last = time.monotonic()

    @property
    def _file(self) -> Path:
        return self.folder / "training.safetensors"

    def maybe_save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        epoch: int,
        history: dict[str, list[float]],
        images: int,
        steps: int,
    ) -> None:
        if time.monotonic() - self._last < self.seconds:
            return
        self.save(model, optimizer, parameters, epoch, history, images, steps)
        self._last = time.monotonic()

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        epoch: int,
        history: dict[str, list[float]],
        images: int,
        steps: int,
    ) -> None:
        from safetensors.torch import save_file

        tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        for i, p in enumerate(parameters):
            momentum = optimizer.state.get(p, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{i}"] = momentum.detach().cpu().contiguous()
        curves = {k: [None if math.isnan(x) else x for x in v] for k, v in history.items()}
        about = {"epoch": epoch, "history": curves, "images": images, "steps": steps}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".training.{os.getpid()}"
        # the curves travel in the file's own header, so that one rename replaces both
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
        os.replace(temporary, self._file)

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]
    ) -> Resumed | None:
        """Put a saved state into the model and the optimiser; None where there is none."""
        from safetensors import safe_open

        if not self._file.is_file():
            return None
        with safe_open(self._file, framework="pt") as f:
            about = json.loads(f.metadata()["about"])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for i, p in enumerate(parameters):
            if f"momentum.{i}" in tensors:
                value = torch.empty_like(p, memory_format=torch.preserve_format)
                value.copy_(tensors[f"momentum.{i}"])
                optimizer.state[p]["momentum_buffer"] = value
        history = {k: [math.nan if x is None else x for x in v] for k, v in about["history"].items()}
        return Resumed(about["epoch"], history, about["images"], about["steps"])
