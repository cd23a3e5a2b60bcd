"""What the schemes of this package share: parameters, the walk through the data, and what they keep of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number

# torch is imported where it is used: a suite is checked against constructors before anything runs
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
    """What every scheme of the package has.

    Args:
        variant: "code": as the code that the published comparison was made with has it
            (github.com/google-research/fixmatch, unless the scheme names another); "paper": as the paper that
            introduced the method has it.
        mu: unlabelled images for each labelled one in a step, >= 1.
        batch_norm: over which images batch normalisation takes its statistics. "labelled": a pass for the
            labelled and one for the unlabelled images, each by its own statistics, and the labelled ones' are
            remembered for evaluation; "joint": one pass over all images; "interleaved": passes over mixed
            batches of the labelled batch's size, of which the first one's are remembered.
        ema_decay: of the moving average of the weights, which is what is evaluated; 0 <= ema_decay < 1. It is
            about as long as 1 / (1 - ema_decay) steps, so that a short training wants a smaller one.
        epoch_steps: steps an epoch; None for one pass over the unlabelled images.
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
        """A full labelled batch beside each unlabelled one of `mu` times its size."""
        size = self.mu * run.batch_size
        labelled = run.labelled_stream()
        pool = run.unlabelled(size) if self.epoch_steps is None else run.unlabelled_stream(size)
        for unlabelled in islice(pool, self.epoch_steps):
            yield next(labelled), unlabelled

    def logits(self, run: SchemeRun, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The student's logits of labelled images and of others, by `batch_norm`."""
        from kdbench_semisup import passes

        return passes.logits(run.student, parts, self.batch_norm)


def rand_augment(operations: int, style: str, cutout: float) -> RandAugment:
    from kdbench_semisup.randaugment import RandAugment

    return RandAugment(operations=operations, style=style, cutout=cutout)


def usage_of(run: SchemeRun) -> Usage:
    """What the scheme's `modules` returned."""
    from kdbench_semisup.state import Usage

    if not isinstance(run.modules, Usage):
        raise RuntimeError("the scheme keeps counts in what its `modules` returns, and this run has none")
    return run.modules
