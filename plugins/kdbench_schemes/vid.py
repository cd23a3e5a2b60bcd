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

#: Smallest variance (the authors' code).
EPSILON = 1e-5


class VID(FeatureScheme):
    """A variational lower bound of the mutual information of two layers (eqs. (3)-(5)).

    The negative log-likelihood of the teacher's layer under a Gaussian whose mean is regressed from the
    student's layer, with one variance per channel. Means and variances are trained with the student. (One
    published codebase does not pass the variances to the optimiser.) The larger maps of a pair are averaged
    down to the smaller size.

    Parameters
    ----------
    pairs
        "auto": the last tap of each stage, paired from the output; or a table of student tap = teacher tap.
    initial_variance
        Initial variance of every channel, > 1e-5; published: 5.
    weight
        Weight of the sum over pairs, >= 0; published: 1.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.
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
        """The regressors of the means and the variances, trained with the student.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Regressors
            One regressor per pair.

        Raises
        ------
        ValueError
            A tap does not exist, or shapes do not fit.
        """
        from kdbench_schemes._vid_module import Regressors

        return Regressors(self.find_pairs(setup), self.initial_variance, EPSILON)

    def distil(self, step: Step) -> Terms:
        """{"vid": the sum over pairs}."""
        import torch

        regressors = cast("Regressors", paired(step.run))
        layers = enumerate(activations(step, regressors.pairs))
        return {"vid": torch.stack([vid_loss(*regressors(k, s, t)) for k, (s, t) in layers]).sum()}


@exact
def vid_loss(mean: torch.Tensor, teacher: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the teacher's activations without its constant, averaged over elements.

    No gradient flows into the teacher.

    Parameters
    ----------
    mean
        Predicted mean (b, c, h, w).
    teacher
        (b, c, h, w).
    variance
        Variance of each channel (c,), > 0.

    Returns
    -------
    Tensor
        A scalar of any sign; minimal in the variance if that equals the mean squared error.
    """
    variance = variance[:, None, None]
    return ((mean - teacher.detach()).square() / variance + variance.log()).mean() / 2
