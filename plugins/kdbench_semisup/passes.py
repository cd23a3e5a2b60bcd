"""Forward passes that control the statistics of batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench_semisup.losses import wide


def logits(model: nn.Module, parts: Sequence[torch.Tensor], batch_norm: str) -> tuple[torch.Tensor, ...]:
    """Compute the logits of labelled images and of other parts.

    Parameters
    ----------
    model
        The network, in training mode.
    parts
        Labelled images, then the other parts.
    batch_norm
        See `kdbench_semisup._common.Semisupervised`.

    Returns
    -------
    tuple[Tensor, ...]
        Logits (b, n_classes) of each part.
    """
    if batch_norm == "labelled":
        labelled = wide(model(parts[0]))
        with unremembered(model):
            others = wide(model(_together(parts[1:])))
        return labelled, *others.split([len(p) for p in parts[1:]])
    images = _together(parts)
    if batch_norm == "joint":
        together = wide(model(images))
    else:
        together = _interleaved(model, images, max(1, len(images) // len(parts[0])))
    return together.split([len(p) for p in parts])


def targets(model: nn.Module, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Logits without gradients in training mode, one pass per part, without updating running statistics."""
    mode = model.training
    model.train()
    with torch.no_grad(), unremembered(model):
        result = tuple(wide(model(part)) for part in parts)
    model.train(mode)
    # autocast caches converted weights; older PyTorch versions would reuse them without gradients
    torch.clear_autocast_cache()
    return result


@contextmanager
def unremembered(model: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the statistics of the batch and does not update the running statistics."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _interleaved(model: nn.Module, images: torch.Tensor, passes: int) -> torch.Tensor:
    """One pass per group of every `passes`-th image; only the first updates the running statistics."""
    groups = [_last(images[i::passes]) for i in range(passes)]
    results = [wide(model(groups[0]))]
    with unremembered(model):
        results += [wide(model(group)) for group in groups[1:]]
    together = results[0].new_empty(len(images), results[0].shape[1])
    for i, result in enumerate(results):
        together[i::passes] = result
    return together


def _together(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return _last(torch.cat(tuple(parts)))


def _last(images: torch.Tensor) -> torch.Tensor:
    """Images in channels-last memory format, as the engine provides them."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
