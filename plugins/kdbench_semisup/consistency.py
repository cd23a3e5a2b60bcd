"""`pi-model` and `mean-teacher`: a network that says the same of two views of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_semisup._common import BatchNorm, Semisupervised, Variant

# torch is imported where it is used: a suite is checked against constructors before anything runs
if TYPE_CHECKING:
    import torch
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_semisup._common import Losses


class _Consistency(Semisupervised):
    """Cross-entropy plus a ramped weight times the squared difference of the predictions for two views."""

    #: (weight, end of the ramp) of each variant
    published: dict[str, tuple[float, float]]

    def __init__(
        self,
        *,
        variant: str,
        weight: float | None,
        ramp: float | None,
        mu: int,
        batch_norm: str,
        ema_decay: float,
        epoch_steps: int | None,
    ) -> None:
        super().__init__(
            variant=variant, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay, epoch_steps=epoch_steps
        )
        default_weight, default_ramp = self.published[variant]
        self.weight = default_weight if weight is None else check_number("weight", weight, at_least=0)
        self.ramp = default_ramp if ramp is None else check_number("ramp", ramp, at_least=0, at_most=1)

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """Holds the share of the images that are labelled, by which the papers' weights go."""
        from kdbench_semisup.state import LabelledShare

        return LabelledShare(setup.n_labelled, setup.n_unlabelled)

    def weight_at(self, run: SchemeRun) -> float:
        """The weight of the consistency term at this point of the training."""
        from kdbench_semisup.losses import gaussian_ramp, linear_ramp

        if self.variant == "code":
            return self.weight * linear_ramp(run.progress, 0.0, self.ramp)
        return self.weight * gaussian_ramp(run.progress, self.ramp)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "consistency": weighted loss}."""
        import torch

        from kdbench_semisup import losses
        from kdbench_semisup.state import LabelledShare

        paper = self.variant == "paper"
        assert isinstance(run.modules, LabelledShare)
        portion = float(run.modules.share) if paper else 1.0
        for labelled, unlabelled in self.batches(run):
            first, second = unlabelled.images, run.another_view(unlabelled).images
            if paper:  # labelled images count as well
                first = torch.cat([run.another_view(labelled).images, first])
            labelled_logits, *others = self._logits(run, labelled.images, first, second)
            target, logits = others
            if paper:
                logits = torch.cat([labelled_logits, logits])
            # a target that no gradient should flow through has none
            consistency = losses.mean_square(target, logits, detach=False)
            yield {
                "cross_entropy": losses.cross_entropy(labelled_logits, labelled.labels),
                "consistency": portion * self.weight_at(run) * consistency,
            }

    def _logits(
        self, run: SchemeRun, labelled: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the labelled images, the target's of the first view and the student's of the second."""
        raise NotImplementedError


class PiModel(_Consistency):
    """Laine & Aila, Temporal Ensembling for Semi-Supervised Learning (ICLR 2017), the Pi-model.

    Cross-entropy on labelled images + w * mean over images and classes of (p(first view) - p(second view))^2.

    Args:
        variant: "code": unlabelled images alone, no gradient through the first view, w = 10 after a line over
            the first 0.4 of the training; "paper": labelled images as well, gradients through both views,
            w = 100 times the share of images that are labelled, after a Gaussian ramp over 80 epochs of 300.
        weight: largest weight, >= 0; of "paper" it is multiplied by the labelled share. None: as published.
        ramp: share of the training, 0..1, after which the weight is the largest. None: as published.
        mu: unlabelled images in a step for each labelled one, >= 1; 1.
        batch_norm: where batch normalisation takes its statistics. "labelled": labelled and unlabelled images
            apart, and the labelled ones' are remembered; "joint": all images of a step together; "interleaved":
            mixed batches of the labelled one's size, of which the first one's are remembered. As published
            "labelled". A target without gradient always has a pass of its own.
        ema_decay: of the moving average of the weights, which is what is evaluated, >= 0 and below 1; 0.999. A
            training of a few thousand steps wants a smaller one. The paper has none: 0.
        epoch_steps: steps an epoch, >= 1; None for one pass over the unlabelled images.
    """

    published = {"code": (10.0, 0.4), "paper": (100.0, 80 / 300)}  # noqa: RUF012 - never changed

    def __init__(
        self,
        *,
        variant: Variant = "code",
        weight: float | None = None,
        ramp: float | None = None,
        mu: int = 1,
        batch_norm: BatchNorm = "labelled",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, weight=weight, ramp=ramp, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay,
            epoch_steps=epoch_steps,
        )  # fmt: skip

    def _logits(
        self, run: SchemeRun, labelled: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        from kdbench_semisup import passes

        if self.variant == "paper":
            logits, target, other = self.logits(run, labelled, first, second)
            return logits, target, other
        (target,) = passes.targets(run.student, first)
        logits, other = self.logits(run, labelled, second)
        return logits, target, other


class MeanTeacher(_Consistency):
    """Tarvainen & Valpola, Mean teachers are better role models (NeurIPS 2017).

    Cross-entropy on labelled images + w * mean over images and classes of (p_average(first view) - p(second
    view))^2, where p_average is what the moving average of the student's weights predicts.

    Args:
        variant: "code": unlabelled images alone, w = 50 after a line over the first 0.4 of the training;
            "paper": labelled images as well, w = 100 times the share of images that are labelled, after a
            Gaussian ramp over 40,000 steps of 150,000 (the paper's average is shorter, 0.99, while it lasts).
        weight: largest weight, >= 0; of "paper" it is multiplied by the labelled share. None: as published.
        ramp: share of the training, 0..1, after which the weight is the largest. None: as published.
        mu: unlabelled images in a step for each labelled one, >= 1; 1.
        batch_norm: where batch normalisation takes its statistics. "labelled": labelled and unlabelled images
            apart, and the labelled ones' are remembered; "joint": all images of a step together; "interleaved":
            mixed batches of the labelled one's size, of which the first one's are remembered. As published
            "labelled". The average goes by its own batch's statistics.
        ema_decay: of the moving average of the weights, which is what is evaluated, >= 0 and below 1; 0.999. A
            training of a few thousand steps wants a smaller one.
        epoch_steps: steps an epoch, >= 1; None for one pass over the unlabelled images.
    """

    published = {"code": (50.0, 0.4), "paper": (100.0, 40 / 150)}  # noqa: RUF012 - never changed

    def __init__(
        self,
        *,
        variant: Variant = "code",
        weight: float | None = None,
        ramp: float | None = None,
        mu: int = 1,
        batch_norm: BatchNorm = "labelled",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, weight=weight, ramp=ramp, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay,
            epoch_steps=epoch_steps,
        )  # fmt: skip

    def _logits(
        self, run: SchemeRun, labelled: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        from kdbench_semisup import passes

        assert run.ema is not None
        (target,) = passes.targets(run.ema, first)
        logits, other = self.logits(run, labelled, second)
        return logits, target, other
