"""State of the schemes between steps, in buffers, so that checkpoints include it."""

from __future__ import annotations

import torch
from torch import nn

from kdbench.api import moved
from kdbench_semisup.ctaugment import CTAugment


class LabelledShare(nn.Module):
    """Fraction of labelled images, 0..1, by which the papers scale their weights."""

    share: torch.Tensor

    def __init__(self, n_labelled: int, n_unlabelled: int) -> None:
        super().__init__()
        share = n_labelled / (n_labelled + n_unlabelled)
        self.register_buffer("share", torch.tensor(share, dtype=torch.float64))


class Usage(nn.Module):
    """Fraction of the unlabelled images that are used in an epoch."""

    used: torch.Tensor
    steps: torch.Tensor

    def __init__(self, augmentation: CTAugment | None = None) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.register_buffer("used", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def begin(self) -> None:
        """Reset the counters for a new epoch."""
        self.used.zero_()
        self.steps.zero_()

    def count(self, share: torch.Tensor) -> None:
        """Add the fraction of images used in one step, without waiting for the device."""
        self.used += share.detach()
        self.steps += 1

    def figures(self) -> dict[str, float]:
        """`unlabelled_used`, the mean over the steps of the last epoch; {} without steps."""
        steps = float(self.steps)
        return {"unlabelled_used": float(self.used) / steps} if steps else {}


class Predictions(Usage):
    """The last confident prediction of each row of the training split, -1 for none."""

    selected: torch.Tensor
    n_unlabelled: torch.Tensor

    def __init__(self, n_train: int, n_unlabelled: int) -> None:
        super().__init__()
        self.register_buffer("selected", torch.full((n_train,), -1, dtype=torch.int64))
        self.register_buffer("n_unlabelled", torch.tensor(n_unlabelled))

    def remember(self, index: torch.Tensor, logits: torch.Tensor, threshold: float) -> None:
        """Store the predicted classes whose probability is at least `threshold`.

        Parameters
        ----------
        index
            Rows of the training split, int64 (b,).
        logits
            (b, n_classes).
        threshold
            Smallest probability, 0..1.
        """
        index = moved(index, self.selected.device)
        top, label = logits.detach().softmax(1).max(1)
        self.selected[index] = torch.where(top >= threshold, label, self.selected[index])
