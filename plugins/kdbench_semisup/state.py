"""What schemes keep from step to step, in buffers, so that checkpoints hold it."""

from __future__ import annotations

import torch
from torch import nn

from kdbench.api import moved
from kdbench_semisup.ctaugment import CTAugment


class LabelledShare(nn.Module):
    """The share of the images that are labelled, 0..1, by which the papers' weights go."""

    share: torch.Tensor

    def __init__(self, n_labelled: int, n_unlabelled: int) -> None:
        super().__init__()
        share = n_labelled / (n_labelled + n_unlabelled)
        self.register_buffer("share", torch.tensor(share, dtype=torch.float64))


class Usage(nn.Module):
    """What share of the unlabelled images an epoch learns from."""

    used: torch.Tensor
    steps: torch.Tensor

    def __init__(self, augmentation: CTAugment | None = None) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.register_buffer("used", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def begin(self) -> None:
        """An epoch begins."""
        self.used.zero_()
        self.steps.zero_()

    def count(self, share: torch.Tensor) -> None:
        """Add one step's share of images used; on the device, nothing waits."""
        self.used += share.detach()
        self.steps += 1

    def figures(self) -> dict[str, float]:
        """For the record: `unlabelled_used`, the mean over the last epoch's steps; nothing without steps."""
        steps = float(self.steps)
        return {"unlabelled_used": float(self.used) / steps} if steps else {}


class Predictions(Usage):
    """For each row of the training split the class that it was last predicted as with confidence, -1 for none."""

    selected: torch.Tensor
    n_unlabelled: torch.Tensor

    def __init__(self, n_train: int, n_unlabelled: int) -> None:
        super().__init__()
        self.register_buffer("selected", torch.full((n_train,), -1, dtype=torch.int64))
        self.register_buffer("n_unlabelled", torch.tensor(n_unlabelled))

    def remember(self, index: torch.Tensor, logits: torch.Tensor, threshold: float) -> None:
        """Keep the classes of those rows whose most probable class is at least `threshold` probable.

        Args:
            index: int64 (b,), rows of the training split.
            logits: (b, n_classes).
        """
        index = moved(index, self.selected.device)
        top, label = logits.detach().softmax(1).max(1)
        self.selected[index] = torch.where(top >= threshold, label, self.selected[index])
