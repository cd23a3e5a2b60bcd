"""Ahn et al., "Variational information distillation for knowledge transfer" (CVPR 2019, arXiv 1904.05835)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kdbench.api import check_number
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, activations, paired
from kdbench_schemes._pairs import Pairs, stages

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms
    from kdbench_schemes._vid_module import Regressors

#: Least variance (the authors' code).
EPSILON = 1e-5


class VID(FeatureScheme):
    """A lower bound of the mutual information of two layers: how well a Gaussian whose mean is regressed from the
    student's layer, with a variance of its own for each channel, tells the teacher's (eqs. (3)-(5)).

    Means and variances are trained with the student. (One published codebase leaves the variances out of the
    optimiser.) The larger maps of a pair are averaged down to the smaller size.

    Args:
        pairs: "auto": the ends of the stages, counted from the output; or a table of student tap = teacher tap.
        initial_variance: of every channel, above 1e-5; published: 5.
        weight: of the sum over pairs, >= 0; published: 1.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone.
    """

    def __init__(
        self,
        *,
        pairs: Pairs = "auto",
        initial_variance: float = 5.0,
        weight: float = 1.0,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        self.initial_variance = check_number("initial_variance", initial_variance, above=0)
        if initial_variance <= EPSILON:
            raise ValueError(f"initial_variance={initial_variance!r}: above {EPSILON:g}")

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return stages(setup)

    def modules(self, setup: SchemeSetup) -> Regressors:
        """The means' regressors and the variances, trained with the student.

        Raises:
            ValueError: a tap that does not exist, or shapes that do not fit.
        """
        from kdbench_schemes._vid_module import Regressors

        return Regressors(self.find_pairs(setup), self.initial_variance, EPSILON)

    def distil(self, step: Step) -> Terms:
        """{"vid": the sum over pairs}."""
        import torch

        regressors = cast("Regressors", paired(step.run))
        found = enumerate(activations(step, regressors.pairs))
        return {"vid": torch.stack([vid_loss(*regressors(k, s, t)) for k, (s, t) in found]).sum()}


@exact
def vid_loss(mean: torch.Tensor, teacher: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of the teacher's activations without its constant, a mean over elements.
    No gradient flows into the teacher.

    Args:
        mean: (b, c, h, w).
        teacher: (b, c, h, w).
        variance: (c,), > 0.

    Returns:
        A scalar of any sign; for a given squared error the least where the variance is its mean.
    """
    variance = variance[:, None, None]
    return ((mean - teacher.detach()).square() / variance + variance.log()).mean() / 2
