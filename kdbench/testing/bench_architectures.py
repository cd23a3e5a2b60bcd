"""A workbench for architectures: networks for a few small images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kdbench.testing.outcome import Violation

if TYPE_CHECKING:
    from kdbench.registry import Component, Registry

N_CLASSES = 7
INPUT_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class ArchitectureBench:
    """One architecture with one set of parameters, for images of 32 x 32 pixels in seven classes, on the CPU.

    Args:
        name: of an architecture of the registry. params: where the defaults do not do.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def component(self) -> Component:
        return self.registry.resolve("architectures", self.name)

    @cached_property
    def architecture(self) -> Any:
        return self.registry.create("architectures", self.name, dict(self.params))

    @cached_property
    def model(self) -> nn.Module:
        """A network of seed 0, in evaluation mode. Not to be changed."""
        return self.build(0).eval()

    def build(self, seed: int) -> nn.Module:
        """A new network with the initial weights of `seed`, from a new instance; the global state stays as it is.

        Raises:
            Violation: it is no nn.Module.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = self.registry.create("architectures", self.name, dict(self.params))
            model = made.build(N_CLASSES, INPUT_SHAPE)
        if not isinstance(model, nn.Module):
            raise Violation(f"build returned {type(model).__name__}; a torch.nn.Module is expected")
        return model

    def images(self, n: int) -> torch.Tensor:
        """float32 (n, 3, 32, 32), of unit variance."""
        height, width, channels = INPUT_SHAPE
        return torch.randn((n, channels, height, width), generator=torch.Generator().manual_seed(n))

    def at_taps(self, model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits, and the outputs at the taps in the order in which they were made.

        Raises:
            Violation: a tap names no module, or one whose output is no tensor.
        """
        made: dict[str, torch.Tensor] = {}
        handles = []

        def keep(tap: str) -> Any:
            def hook(_module: nn.Module, _inputs: object, output: object) -> None:
                if not isinstance(output, torch.Tensor):
                    raise Violation(f"tap {tap}: the module's output is {type(output).__name__}, no tensor")
                made.setdefault(tap, output)

            return hook

        for tap, path in self.taps(model).items():
            try:
                handles.append(model.get_submodule(path).register_forward_hook(keep(tap)))
            except AttributeError as error:
                raise Violation(f"tap {tap}: there is no module {path!r}") from error
        try:
            with torch.no_grad():
                return model(images), made
        finally:
            for handle in handles:
                handle.remove()

    def taps(self, model: nn.Module) -> dict[str, str]:
        return dict(self.architecture.taps(model))
