"""What stands around a network of a zoo: the upsampling in front, and a name for what the classifier sees."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.errors import UsageError


class Upsample(nn.Module):
    """Resizes images (b, c, h, w) to (b, c, size, size); images of that size pass through.

    Args:
        size: pixels of a side of the output.
        mode: "nearest", "bilinear" or "bicubic" (corners not aligned, as image libraries do).
        antialias: smooth before making an image smaller; bilinear and bicubic only.
    """

    def __init__(self, size: int, mode: str = "bilinear", antialias: bool = False) -> None:
        super().__init__()
        self.size = size
        self.mode = mode
        self.antialias = antialias

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] == (self.size, self.size):
            return images
        if self.mode == "nearest":
            return F.interpolate(images, size=(self.size, self.size), mode="nearest")
        return F.interpolate(
            images, size=(self.size, self.size), mode=self.mode, align_corners=False, antialias=self.antialias
        )

    def extra_repr(self) -> str:
        return f"{self.size}, {self.mode}{', antialias' if self.antialias else ''}"


class GrayToRgb(nn.Module):
    """Repeats one channel three times, for networks pretrained on colour images; three pass through."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


class Network(nn.Module):
    """A trunk with what stands in front of it.

    Attributes:
        front: images to the trunk's input.
        trunk: the zoo's network. Its classifier, at `head_path`, is split in two: `features`, an identity
            whose output is what the classifier sees, and `linear`, the classifier.
        head_path: path of the classifier, from here.
        tap_paths: tap name to module path, from here; see `find_taps`.
    """

    tap_paths: dict[str, str]

    def __init__(self, front: nn.Module, trunk: nn.Module, classifier: str) -> None:
        super().__init__()
        self.front = front
        self.trunk = trunk
        split_classifier(trunk, classifier)
        self.features_path = f"trunk.{classifier}.features"
        self.head_path = f"trunk.{classifier}.linear"
        self.tap_paths = {}

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, h, w) to logits (b, n_classes)."""
        return cast(Tensor, self.trunk(self.front(images)))


def make_front(size: int | None, mode: str, antialias: bool, gray: bool) -> nn.Module:
    """Upsampling first (one channel is cheaper than three), then gray to colour."""
    parts: list[nn.Module] = []
    if size:
        parts.append(Upsample(size, mode, antialias))
    if gray:
        parts.append(GrayToRgb())
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def split_classifier(trunk: nn.Module, path: str) -> None:
    """Put an identity in front of the module at `path`, so that its input is a module's output. In place."""
    parent_path, _, name = path.rpartition(".")
    parent = trunk.get_submodule(parent_path)
    linear = trunk.get_submodule(path)
    split = nn.Sequential(OrderedDict(features=nn.Identity(), linear=linear))
    if isinstance(parent, nn.Sequential) and name.isdigit():
        parent[int(name)] = split
    else:
        setattr(parent, name, split)


def last_layer(trunk: nn.Module) -> str:
    """Path of the classifier: the last linear layer in the order of definition, else the last convolution.

    Raises:
        ValueError: it has neither.
    """
    for kind in (nn.Linear, nn.Conv2d):
        paths = [path for path, module in trunk.named_modules() if isinstance(module, kind)]
        if paths:
            return paths[-1]
    raise ValueError(f"{type(trunk).__name__} has neither a linear layer nor a convolution")


def find_taps(
    network: Network, candidates: Sequence[str], input_shape: tuple[int, int, int], who: str
) -> dict[str, str]:
    """The candidates that a forward pass really calls and that return one tensor, in the order of the calls.

    Runs one black image through the network in evaluation mode, so that a network that can't take images of
    this size is found out here and not after hours. Where an activation that works in place would overwrite a
    tap's output, the trunk's activations are made to work out of place; a candidate that is overwritten all
    the same is left out.

    Args:
        candidates: module paths below `trunk`.
        input_shape: (h, w, c).
        who: the architecture, for the error.

    Returns:
        The path below `trunk` to the path from the network; then "penultimate", what the classifier sees.

    Raises:
        UsageError: the network does not take images of this size.
    """
    called = _trace(network, candidates, input_shape, who)
    if not all(called.values()):
        for module in network.trunk.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        called = _trace(network, candidates, input_shape, who)
    kept = [path for path, intact in called.items() if intact]
    return {path: f"trunk.{path}" for path in kept} | {"penultimate": network.features_path}


def _trace(
    network: Network, candidates: Sequence[str], input_shape: tuple[int, int, int], who: str
) -> dict[str, bool]:
    """The candidates that were called, in that order, and whether their outputs were left as they were."""
    outputs: dict[str, tuple[Tensor, int]] = {}
    handles = []

    def note(path: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and path not in outputs:
                outputs[path] = output, output._version

        return hook

    for path in candidates:
        handles.append(network.trunk.get_submodule(path).register_forward_hook(note(path)))
    h, w, c = input_shape
    modes = {name: module.training for name, module in network.named_modules()}
    parameter = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, c, h, w, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"can't take images of {h}x{w}x{c}: {reason}",
            where=who,
            hint="set upsample to the size the network was made for (224 suits most)",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for name, module in network.named_modules():
            module.training = modes[name]
    return {path: output._version == version for path, (output, version) in outputs.items()}


def top_level_blocks(trunk: nn.Module, classifier: str) -> list[str]:
    """Children of the trunk with parameters, except the one that holds the classifier.

    Lists of modules, and the sequences that torchvision calls `features` or `layers`, are opened, so that
    their parts are taps.
    """
    blocks: list[str] = []
    for name, child in trunk.named_children():
        if classifier == name or classifier.startswith(f"{name}."):
            continue
        if not any(True for _ in child.parameters()):
            continue
        body = name in ("features", "layers") and isinstance(child, nn.Sequential)
        if body or isinstance(child, nn.ModuleList):
            blocks += [
                f"{name}.{k}" for k, part in child.named_children() if any(True for _ in part.parameters())
            ]
        else:
            blocks.append(name)
    return blocks
