"""The losses, as pure functions of logits.

They are computed in float32, or in float64 for float64 logits, at any precision of the training.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def wide(logits: torch.Tensor) -> torch.Tensor:
    """The logits in float32; float64 is unchanged."""
    return logits if logits.element_size() == 8 else logits.float()


def mean_square(target_logits: torch.Tensor, logits: torch.Tensor, *, detach: bool = True) -> torch.Tensor:
    """Mean over images and classes of (softmax(target) - softmax)^2 (Laine & Aila 2017, algorithm 1).

    Parameters
    ----------
    target_logits
        (b, n_classes).
    logits
        (b, n_classes).
    detach
        Whether no gradient flows into the target.

    Returns
    -------
    Tensor
        A scalar >= 0.
    """
    target = wide(target_logits).softmax(1)
    return F.mse_loss(wide(logits).softmax(1), target.detach() if detach else target)


def pseudo_label(logits: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy with the network's most probable class, if its probability is above a threshold.

    Parameters
    ----------
    logits
        (b, n_classes).
    threshold
        Probability above which an image is used, 0..1.

    Returns
    -------
    tuple[Tensor, Tensor]
        The mean over all images, masked ones included (Oliver et al. 2018), and the fraction of images used.
    """
    logits = wide(logits)
    top, label = logits.detach().softmax(1).max(1)
    mask = (top > threshold).to(logits.dtype)
    return (F.cross_entropy(logits, label, reduction="none") * mask).mean(), mask.mean()


def hard_consistency(
    weak_logits: torch.Tensor, strong_logits: torch.Tensor, threshold: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the strong views with the most probable class of the weak views (FixMatch, eq. (4)).

    Parameters
    ----------
    weak_logits
        (b, n_classes); no gradient flows into them.
    strong_logits
        (b, n_classes).
    threshold
        Smallest probability at which an image is used; (n_classes,) for one per class (FlexMatch).

    Returns
    -------
    tuple[Tensor, Tensor]
        The mean over all images, masked ones included, and the fraction of images used.
    """
    strong = wide(strong_logits)
    top, label = wide(weak_logits.detach()).softmax(1).max(1)
    least = threshold[label] if isinstance(threshold, torch.Tensor) else threshold
    mask = (top >= least).to(strong.dtype)
    return (F.cross_entropy(strong, label, reduction="none") * mask).mean(), mask.mean()


def soft_consistency(
    weak_logits: torch.Tensor, strong_logits: torch.Tensor, *, temperature: float, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL of the strong views to the sharpened predictions of the weak views (UDA, section 2 and appendix).

    Parameters
    ----------
    weak_logits
        (b, n_classes); no gradient flows into them.
    strong_logits
        (b, n_classes).
    temperature
        Temperature T; T < 1 sharpens.
    threshold
        Smallest probability, before sharpening, at which an image is used.

    Returns
    -------
    tuple[Tensor, Tensor]
        The mean over all images, masked ones included, and the fraction of images used.
    """
    weak, strong = wide(weak_logits.detach()), wide(strong_logits)
    mask = (weak.softmax(1).amax(1) >= threshold).to(strong.dtype)
    target = F.log_softmax(weak / temperature, dim=1)
    kl = F.kl_div(F.log_softmax(strong, dim=1), target, reduction="none", log_target=True).sum(1)
    return (kl * mask).mean(), mask.mean()


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Mean entropy of the predictions, in nats."""
    log_p = F.log_softmax(wide(logits), dim=1)
    return -(log_p.exp() * log_p).sum(1).mean()


def annealed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, most: float) -> torch.Tensor:
    """Mean cross-entropy of images whose true class has probability <= `most`; 0 without any (UDA, TSA)."""
    logits = wide(logits)
    each = F.cross_entropy(logits, labels, reduction="none")
    mask = (-each.detach()).exp() <= most
    return (each * mask).sum() / mask.sum().clamp(min=1)


def annealing_threshold(schedule: str, progress: float, n_classes: int) -> float:
    """The probability above which a labelled image is excluded (UDA, section 3.1).

    Parameters
    ----------
    schedule
        "none" (always 1), "linear", "log" or "exp", each from 1 / n_classes to 1.
    progress
        Completed fraction of the training, 0..1.
    n_classes
        Number of classes.

    Returns
    -------
    float
        The threshold, 1 / n_classes..1.
    """
    growth = {
        "none": 1.0,
        "linear": progress,
        "log": 1 - math.exp(-5 * progress),
        "exp": math.exp(5 * (progress - 1)),
    }[schedule]
    return 1 / n_classes + growth * (1 - 1 / n_classes)


def class_thresholds(
    selected: torch.Tensor, n_classes: int, n_unlabelled: int, *, threshold: float, warm_up: bool
) -> torch.Tensor:
    """FlexMatch's thresholds (n_classes,): lower for classes that are predicted with confidence less often.

    threshold * M(beta), beta the count of a class over the largest one, M(x) = x / (2 - x) (Zhang et al. 2021,
    eqs. (7), (11) and (12)).

    Parameters
    ----------
    selected
        Last confident prediction of each image, int64 (n,); negative for none.
    n_classes
        Number of classes.
    n_unlabelled
        Number of unlabelled images.
    threshold
        Largest threshold, 0..1.
    warm_up
        Count images without a confident prediction as an additional class for the largest count, so that the
        first confident class does not determine it.

    Returns
    -------
    Tensor
        float32 (n_classes,).
    """
    seen = (selected >= 0).to(torch.float32)
    counts = torch.zeros(n_classes, device=selected.device).index_add_(0, selected.clamp(min=0), seen)
    largest = counts.amax()
    if warm_up:
        largest = torch.maximum(largest, n_unlabelled - counts.sum())
    beta = counts / largest.clamp(min=1)
    return threshold * beta / (2 - beta)


def sharpen(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """p^(1/T), normalised (MixMatch, eq. (7)): (b, n_classes)."""
    raised = probabilities ** (1 / temperature)
    return raised / raised.sum(1, keepdim=True)


def mix(x: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """share * x + (1 - share) * x[partner] along the first dimension (MixUp): x (n, ...), share (n,)."""
    share = share.to(x.dtype).view(-1, *(1,) * (x.ndim - 1))
    return share * x + (1 - share) * x[partner]


def one_hot(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """float32 (b, n_classes). (PyTorch's `one_hot` waits for the GPU.)"""
    return (labels[:, None] == torch.arange(n_classes, device=labels.device)).float()


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy with target distributions (b, n_classes)."""
    return F.cross_entropy(wide(logits), targets)


def brier(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over images and classes of (target - softmax)^2 (MixMatch, eq. (4))."""
    return F.mse_loss(wide(logits).softmax(1), targets)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Mean cross-entropy with labels.

    Parameters
    ----------
    logits
        (b, n_classes).
    labels
        int64 (b,).

    Returns
    -------
    Tensor
        A scalar >= 0, in nats.

    Raises
    ------
    ValueError
        `labels` is None: a labelled batch has no labels.
    """
    if labels is None:
        raise ValueError("a labelled batch came without labels")
    return F.cross_entropy(wide(logits), labels)


def linear_ramp(progress: float, start: float, end: float) -> float:
    """0 up to the fraction `start` of the training, 1 from `end` on, linear between."""
    if progress >= end:
        return 1.0
    return max(0.0, (progress - start) / (end - start))


def gaussian_ramp(progress: float, end: float) -> float:
    """exp(-5 (1 - t)^2), t from 0 to 1 at the fraction `end` of the training (Laine & Aila 2017, section 3.1)."""
    t = min(1.0, progress / end) if end > 0 else 1.0
    return math.exp(-5 * (1 - t) ** 2)
