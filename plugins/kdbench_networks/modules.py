"""Modules around a library's network: the upsampling before it, and a named module for the classifier's input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.errors import UsageError


class Upsample(nn.Module):
    """Resize images (b, c, h, w) to (b, c, size, size); images of that size are unchanged.

    Parameters
    ----------
    size
        Side of the output in pixels.
    mode
        "nearest", "bilinear" or "bicubic" (corners not aligned, as in image libraries).
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
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
    """Repeat one channel three times, for networks pretrained on colour images; three are unchanged."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


class Network(nn.Module):
    """A library's network with the modules before it.

    Its classifier is split in two: `features`, an identity whose output is the classifier's input, and `linear`.

    Parameters
    ----------
    front
        Modules from images to the trunk's input.
    trunk
        The library's network.
    classifier
        Path of the classifier in `trunk`.

    Attributes
    ----------
    tap_paths
        Tap name to module path in this network; see `find_taps`.
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
    """Upsampling, then grey to colour: one channel is cheaper to resize than three."""
    parts: list[nn.Module] = []
    if size:
        parts.append(Upsample(size, mode, antialias))
    if gray:
        parts.append(GrayToRgb())
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def split_classifier(trunk: nn.Module, path: str) -> None:
    """Insert an identity before the module at `path`, so that a tap can read its input. In place."""
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

    Parameters
    ----------
    trunk
        The library's network.

    Returns
    -------
    str
        Path of the module in `trunk`.

    Raises
    ------
    ValueError
        The network has neither.
    """
    for kind in (nn.Linear, nn.Conv2d):
        paths = [path for path, module in trunk.named_modules() if isinstance(module, kind)]
        if paths:
            return paths[-1]
    raise ValueError(f"{type(trunk).__name__} has neither a linear layer nor a convolution")


def find_taps(
    network: Network, candidates: Sequence[str], input_shape: tuple[int, int, int], who: str
) -> dict[str, str]:
    """Find the candidates that a forward pass calls and that return one tensor, in the order of the calls.

    One black image passes through the network in evaluation mode, so that a network that does not accept
    images of this size fails here, before any training. If an in-place activation would overwrite a tap's output, the
    trunk's activations are set to work out of place; a candidate that is still overwritten is skipped.

    Parameters
    ----------
    network
        The network, on any device.
    candidates
        Module paths in the trunk.
    input_shape
        (h, w, c) of the images.
    who
        The architecture, for the error message.

    Returns
    -------
    dict[str, str]
        Path in the trunk to path in the network, in the order of the forward pass; then "penultimate", the
        classifier's input.

    Raises
    ------
    UsageError
        The network does not accept images of this size.
    """
    called = _trace(network, candidates, input_shape, who)
    if not all(called.values()):
        for module in network.trunk.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        called = _trace(network, candidates, input_shape, who)
    tappable = [path for path, intact in called.items() if intact]
    return {path: f"trunk.{path}" for path in tappable} | {"penultimate": network.features_path}


def _trace(
    network: Network, candidates: Sequence[str], input_shape: tuple[int, int, int], who: str
) -> dict[str, bool]:
    """The candidates in the order of their calls, and whether their outputs were left unmodified."""
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
            hint="set upsample to the size the network was made for (224 for most)",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for name, module in network.named_modules():
            module.training = modes[name]
    return {path: output._version == version for path, (output, version) in outputs.items()}


def top_level_blocks(trunk: nn.Module, classifier: str) -> list[str]:
    """Children of the trunk with parameters, except the one that holds the classifier.

    A module list, or a sequence that torchvision names `features` or `layers`, contributes its parts instead.
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
