"""Logits and activations of a network in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class NetworkOutputs:
    """See `kdbench.api.Outputs`."""

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor]
    penultimate: torch.Tensor


@dataclass(frozen=True)
class Anatomy:
    """Where a network's taps and its last linear layer are.

    Attributes
    ----------
    taps
        Tap to module path, input to output.
    head
        Module path.
    """

    taps: Mapping[str, str]
    head: str

    @classmethod
    def of(cls, architecture: object, model: nn.Module) -> Anatomy:
        """What an architecture says of a network that it built."""
        return cls(dict(architecture.taps(model)), architecture.head(model))  # type: ignore[attr-defined]

    def forward(self, model: nn.Module, images: torch.Tensor) -> NetworkOutputs:
        """The network's outputs. Logits are float32, activations of the precision that they were computed in."""
        caught: dict[str, torch.Tensor] = {}

        def output_of(tap: str):  # type: ignore[no-untyped-def]
            def catch(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
                caught[tap] = output

            return catch

        def catch_input(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            caught[""] = inputs[0]

        handles = [
            model.get_submodule(path).register_forward_hook(output_of(tap)) for tap, path in self.taps.items()
        ]
        handles.append(model.get_submodule(self.head).register_forward_pre_hook(catch_input))
        try:
            logits = model(images).float()
        finally:
            for handle in handles:
                handle.remove()
        penultimate = caught.pop("")
        return NetworkOutputs(logits, {tap: caught[tap] for tap in self.taps}, penultimate)

    @torch.no_grad()
    def shapes(self, model: nn.Module, images: torch.Tensor) -> tuple[dict[str, tuple[int, ...]], int]:
        """The shape of one image's activation at each tap, and the width of the last layer's input; the
        model's mode and statistics stay as they are."""
        was_training = model.training
        model.eval()
        try:
            found = self.forward(model, images)
        finally:
            model.train(was_training)
        return {k: tuple(v.shape[1:]) for k, v in found.features.items()}, found.penultimate.shape[-1]
