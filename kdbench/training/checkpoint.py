"""Checkpoints of a training: tensors as safetensors, the rest as JSON; no pickles."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

#: Raised when what is written changes; another number's checkpoint is not read.
FORMAT = 2


@dataclass(frozen=True)
class Position:
    """Where a training stands: epochs finished, curves, images and steps so far."""

    epoch: int
    history: dict[str, list[float]]
    images: int
    steps: int


class Checkpointer:
    """Saves at the end of an epoch when `seconds` have passed since the last save.

    A checkpoint is one file that is renamed into place, so that it is whole or not there.

    Parameters
    ----------
    folder
        Where checkpoints are written.
    networks
        By name, whatever has weights that live across epochs: the student, its average, what the scheme keeps.
    optimizer
        The optimiser.
    parameters
        Those that the optimiser trains, in its order.
    seconds
        Least time between two checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        *,
        seconds: float = 10.0,
    ) -> None:
        self.folder = Path(folder)
        self.networks, self.optimizer, self.parameters = dict(networks), optimizer, parameters
        self.seconds = seconds
        self._last = time.monotonic()

    @property
    def _file(self) -> Path:
        return self.folder / "training.safetensors"

    def maybe_save(self, position: Position) -> None:
        if time.monotonic() - self._last < self.seconds:
            return
        self.save(position)
        self._last = time.monotonic()

    def save(self, position: Position) -> None:
        from safetensors.torch import save_file

        tensors = {
            f"network.{name}.{k}": v.detach().cpu().contiguous()
            for name, network in self.networks.items()
            for k, v in network.state_dict().items()
        }
        for i, p in enumerate(self.parameters):
            for name, value in self.optimizer.state.get(p, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{i}.{name}"] = value.detach().cpu().contiguous()
        curves = {k: [None if math.isnan(x) else x for x in v] for k, v in position.history.items()}
        about = {
            "format": FORMAT,
            "epoch": position.epoch,
            "history": curves,
            "images": position.images,
            "steps": position.steps,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".training.{os.getpid()}"
        # the curves travel in the file's own header, so that one rename replaces both
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
        os.replace(temporary, self._file)

    def load(self) -> Position | None:
        """Put a saved state into the networks and the optimiser; None where there is none."""
        from safetensors import safe_open

        if not self._file.is_file():
            return None
        with safe_open(self._file, framework="pt") as f:
            about = json.loads(f.metadata()["about"])
            if about.get("format") != FORMAT:
                return None
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        for name, network in self.networks.items():
            prefix = f"network.{name}."
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, place, name = key.split(".", 2)
                p = self.parameters[int(place)]
                kept = (
                    torch.empty_like(p, dtype=value.dtype) if value.shape == p.shape else value.to(p.device)
                )
                self.optimizer.state[p][name] = kept.copy_(value)  # in the parameter's memory layout
        history = {k: [math.nan if x is None else x for x in v] for k, v in about["history"].items()}
        return Position(about["epoch"], history, about["images"], about["steps"])
