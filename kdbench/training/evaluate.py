"""Logits and activations of a network in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from kdbench.training.data import FeatureSource, ImageSource
from kdbench.training.precision import autocast

#: Images at once: as many as fit a processor's caches, or fill a GPU. An upsampled image counts for many.
EVALUATION_BATCH = {"cpu": 128, "cuda": 1000}
UPSAMPLED_BATCH = {"cpu": 16, "cuda": 250}
#: The smallest number that half precision holds with all its bits, and the largest.
HALF_RANGE = (2.0**-14, 65504.0)


def evaluation_batch(device: str, *, upsampled: bool = False) -> int:
    batches = UPSAMPLED_BATCH if upsampled else EVALUATION_BATCH
    return batches.get(device.split(":")[0], 128)


@torch.inference_mode()
def predict(
    model: nn.Module,
    source: ImageSource | FeatureSource,
    *,
    precision: str,
    view: int = 0,
    upsampled: bool = False,
    progress: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """float32 (n, n_classes) on the source's device; the model is in evaluation mode meanwhile.

    Parameters
    ----------
    model
        The network.
    source
        Images or features.
    precision
        "float32" or "bfloat16".
    view
        Number of the augmented view.
    upsampled
        The network enlarges its input, so that small batches are the fast ones.
    progress
        Called with the number of images done.

    Returns
    -------
    Tensor
        Logits (n, n_classes), float32.
    """
    was_training = model.training
    model.eval()
    outputs = []
    try:
        for images in source.in_order(evaluation_batch(source.device, upsampled=upsampled), view):
            with autocast(precision, source.device):
                out = model(images)
            outputs.append(out.float())
            if progress:
                progress(len(images))
    finally:
        model.train(was_training)
    return torch.cat(outputs)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1, 0..1."""
    return float((logits.argmax(1) == labels.to(logits.device)).float().mean())


@torch.inference_mode()
def activations(
    model: nn.Module,
    source: ImageSource,
    taps: Mapping[str, str],
    *,
    precision: str,
    allocate: Callable[[str, tuple[int, int], type[np.floating]], np.ndarray],
    progress: Callable[[int], None] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Write the flattened activations at `taps` (name to module path) into arrays that `allocate` makes.

    Parameters
    ----------
    model
        The network.
    source
        The images.
    taps
        Name to module path.
    precision
        "float32" or "bfloat16".
    allocate
        Called once a tap with its name, (n, d) and the dtype to keep it in (`kept_in`); its result is filled row by
        row. Activations are flattened channel-first, whatever the memory layout.
    progress
        Called with the number of images done.

    Returns
    -------
    dict[str, tuple[int, ...]]
        The shape of one image's activation at each tap.

    Raises
    ------
    OverflowError
        An activation is not finite, or beyond what the dtype of the first batch holds.
    """
    caught: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    handles = []
    for tap, path in taps.items():

        def catch(_module: nn.Module, _inputs: object, output: torch.Tensor, tap: str = tap) -> None:
            caught[tap] = output

        handles.append(modules[path].register_forward_hook(catch))
    was_training = model.training
    model.eval()
    arrays: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    done = 0
    try:
        for images in source.in_order(evaluation_batch(source.device)):
            with autocast(precision, source.device):
                model(images)
            for tap in taps:
                out = caught.pop(tap).float()
                if tap not in arrays:
                    shapes[tap] = tuple(out.shape[1:])
                    shape = (len(source), int(np.prod(out.shape[1:])))
                    arrays[tap] = allocate(tap, shape, kept_in(out))
                arrays[tap][done : done + len(images)] = out.reshape(len(images), -1).cpu().numpy()
            done += len(images)
            if progress:
                progress(len(images))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    for tap, array in arrays.items():
        if not np.isfinite(array).all():
            raise OverflowError(
                f"activations at tap {tap} are not finite, or beyond ±{np.finfo(array.dtype).max:g}"
            )
    return shapes


def kept_in(activations: torch.Tensor) -> type[np.floating]:
    """The dtype to keep activations like these in.

    Half precision keeps 11 bits, more than the 8 of the bfloat16 that networks run in by default. Where all of them
    are too small for it, they would become zeros, and where they come near its end, infinite: float32 there.
    """
    largest = float(activations.abs().max())
    smallest, end = HALF_RANGE
    return np.float16 if largest == 0 or smallest <= largest <= end / 4 else np.float32
