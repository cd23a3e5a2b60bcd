"""`pi-model` and `mean-teacher`: consistent predictions for two views of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_semisup._common import BatchNorm, Semisupervised, Variant

# torch is imported in the functions that use it, so that checking a suite's parameters does not load it
if TYPE_CHECKING:
    import torch
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_semisup._common import Losses


class _Consistency(Semisupervised):
    """Cross-entropy plus a ramped weight times the squared difference of the predictions for two views."""

    #: Published (weight, end of the ramp) of each variant.
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
        """The fraction of labelled images, by which the papers scale the weight."""
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
        scale = float(run.modules.share) if paper else 1.0
        for labelled, unlabelled in self.batches(run):
            first, second = unlabelled.images, run.another_view(unlabelled).images
            if paper:  # labelled images count as well
                first = torch.cat([run.another_view(labelled).images, first])
            labelled_logits, *others = self._logits(run, labelled.images, first, second)
            target, logits = others
            if paper:
                logits = torch.cat([labelled_logits, logits])
            # targets without gradient are computed without it
            consistency = losses.mean_square(target, logits, detach=False)
            yield {
                "cross_entropy": losses.cross_entropy(labelled_logits, labelled.labels),
                "consistency": scale * self.weight_at(run) * consistency,
            }

    def _logits(
        self, run: SchemeRun, labelled: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the labelled images, the target's of the first view and the student's of the second."""
        raise NotImplementedError


class PiModel(_Consistency):
    """Laine & Aila, Temporal Ensembling for Semi-Supervised Learning (ICLR 2017), the Pi-model.

    Cross-entropy on labelled images + w * mean over images and classes of (p(first view) - p(second view))^2.

    Parameters
    ----------
    variant
        "code": unlabelled images only, no gradient through the first view, w increases linearly to 10 over
        the first 0.4 of the training; "paper": labelled images too, gradients through both views, w = 100
        times the fraction of labelled images, after a Gaussian ramp over 80 of 300 epochs.
    weight
        Largest weight w, >= 0; "paper" multiplies it by the fraction of labelled images. None: the value of
        the variant.
    ramp
        Fraction of the training at which w is largest, 0..1. None: the value of the variant.
    mu
        Unlabelled images per labelled image in a step, >= 1; published: 1.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics. Published: "labelled". A target without gradient always has
        a separate pass.
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1), published: 0.999. A
        training of a few thousand steps needs a smaller value. The paper uses none: 0.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.

    Attributes
    ----------
    published
        Published (weight, end of the ramp) of each variant.
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
    view))^2, where p_average is the prediction of the moving average of the student's weights.

    Parameters
    ----------
    variant
        "code": unlabelled images only, w increases linearly to 50 over the first 0.4 of the training;
        "paper": labelled images too, w = 100 times the fraction of labelled images, after a Gaussian ramp
        over 40,000 of 150,000 steps (during which the paper uses a decay of 0.99).
    weight
        Largest weight w, >= 0; "paper" multiplies it by the fraction of labelled images. None: the value of
        the variant.
    ramp
        Fraction of the training at which w is largest, 0..1. None: the value of the variant.
    mu
        Unlabelled images per labelled image in a step, >= 1; published: 1.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics. Published: "labelled". The averaged model uses the
        statistics of its batch.
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1), published: 0.999. A
        training of a few thousand steps needs a smaller value.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.

    Attributes
    ----------
    published
        Published (weight, end of the ramp) of each variant.
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
