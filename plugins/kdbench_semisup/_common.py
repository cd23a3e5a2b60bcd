"""Common parts of the semi-supervised schemes: parameters, batches and counters."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number

# torch is imported in the functions that use it, so that checking a suite's parameters does not load it
if TYPE_CHECKING:
    import torch

    from kdbench.api import Batch, SchemeRun
    from kdbench_semisup.randaugment import RandAugment
    from kdbench_semisup.state import Usage

    Losses = Generator[Mapping[str, torch.Tensor], None, None]

Variant = Literal["paper", "code"]
VARIANTS = ("paper", "code")
BatchNorm = Literal["labelled", "joint", "interleaved"]
BATCH_NORMS = ("labelled", "joint", "interleaved")


class Semisupervised:
    """Base class of the semi-supervised schemes.

    Parameters
    ----------
    variant
        "code": the code of the published comparison (github.com/google-research/fixmatch, unless the scheme
        names another); "paper": the paper that introduced the method.
    mu
        Unlabelled images per labelled image in a step, >= 1.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics.
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1). It averages about 1 / (1 -
        ema_decay) steps, so a short training needs a smaller value.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.
    """

    def __init__(
        self,
        *,
        variant: str,
        mu: int,
        batch_norm: str,
        ema_decay: float,
        epoch_steps: int | None,
    ) -> None:
        self.variant = check_choice("variant", variant, VARIANTS)
        self.mu = check_integer("mu", mu, at_least=1)
        self.batch_norm = check_choice("batch_norm", batch_norm, BATCH_NORMS)
        self.ema_decay = check_number("ema_decay", ema_decay, at_least=0, below=1)
        self.epoch_steps = check_integer("epoch_steps", epoch_steps, at_least=1, optional=True)

    def batches(self, run: SchemeRun) -> Iterator[tuple[Batch, Batch]]:
        """Pairs of a full labelled batch and an unlabelled batch of `mu` times its size."""
        size = self.mu * run.batch_size
        labelled = run.labelled_stream()
        pool = run.unlabelled(size) if self.epoch_steps is None else run.unlabelled_stream(size)
        for unlabelled in islice(pool, self.epoch_steps):
            yield next(labelled), unlabelled

    def logits(self, run: SchemeRun, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The student's logits of labelled images and of other parts, with statistics by `batch_norm`."""
        from kdbench_semisup import passes

        return passes.logits(run.student, parts, self.batch_norm)


def rand_augment(operations: int, style: str, cutout: float) -> RandAugment:
    from kdbench_semisup.randaugment import RandAugment

    return RandAugment(operations=operations, style=style, cutout=cutout)


def usage_of(run: SchemeRun) -> Usage:
    """The counters that the scheme returned from `modules`."""
    from kdbench_semisup.state import Usage

    if not isinstance(run.modules, Usage):
        raise RuntimeError("the run has no counters; the scheme's `modules` must return a Usage")
    return run.modules
