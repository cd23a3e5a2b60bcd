"""Students with quantised weights (Polino, Pascanu & Alistarh, "Model compression via distillation and
quantization", ICLR 2018; arXiv 1802.05668)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from kdbench.api import check_choice, check_integer, check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl
from kdbench_schemes.quantization import (
    quantile_points,
    quantised_at,
    quantised_names,
    size_in_bits,
    uniformly_quantised,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_schemes._common import Terms

METHODS = ("quantized-distillation", "differentiable-quantization")


class Quantized(DistillationScheme):
    """Hinton's loss for a student whose weights have 2^bits values per bucket.

    "quantized-distillation" (section 3): forward and backward passes use quantised weights, and the gradient
    is applied to full-precision weights. "differentiable-quantization" (section 4): the student is distilled
    first; then its weights are frozen, and the quantisation points are learned, one set per layer. Batch
    normalisation statistics are updated throughout. All layers have the same number of bits.

    The student's weights are quantised after the last epoch; accuracies of earlier epochs are those of the
    full-precision weights.

    Parameters
    ----------
    method
        "quantized-distillation" or "differentiable-quantization", see above.
    bits
        Bits per weight, 1..16.
    bucket
        Number of weights scaled together, >= 2.
    ends
        Quantise the first and the last layer too; the authors' code does not.
    prepare
        Fraction of the training before the points are learned, 0..1, at least one epoch;
        "differentiable-quantization" only.
    points_rate
        Learning rate of the points relative to the recipe's, > 0; "differentiable-quantization" only. The
        paper: 1e-4 against about 0.05.
    temperature
        Temperature T of both softmax outputs, > 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the distillation term, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only, as published.

    Attributes
    ----------
    t2_scaling
        Whether the loss is scaled with T², or has no temperature.
    """

    t2_scaling = True

    def __init__(
        self,
        *,
        method: Literal["quantized-distillation", "differentiable-quantization"] = "quantized-distillation",
        bits: int = 4,
        bucket: int = 256,
        ends: bool = False,
        prepare: float = 0.5,
        points_rate: float = 0.002,
        temperature: float = 2.0,
        ce_weight: float = 0.3,
        weight: float = 0.7,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.method = check_choice("method", method, METHODS)
        self.bits = check_integer("bits", bits, at_least=1, at_most=16)
        self.bucket = check_integer("bucket", bucket, at_least=2)
        self.ends = ends
        self.prepare = check_number("prepare", prepare, at_least=0, at_most=1)
        self.points_rate = check_number("points_rate", points_rate, above=0)
        self.temperature = check_number("temperature", temperature, above=0)

    def modules(self, setup: SchemeSetup) -> nn.Module | None:
        """The learned offsets of the points, one row per quantised tensor; None for "quantized-distillation".

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        nn.Module | None
            The module, or None.

        Raises
        ------
        ValueError
            The student has no layer to quantise.
        """
        # `run.student` may be a compiled network, in which the parameters are constants
        self._network = setup.student
        names = quantised_names(setup.student, ends=self.ends)
        if self.method == "quantized-distillation":
            return None
        import torch
        from torch import nn

        return nn.ParameterDict({"moved": torch.zeros(len(names), 2**self.bits)})

    def terms(self, step: Step) -> Terms:
        """{"cross_entropy", "kl"} of the quantised student."""
        from torch.func import functional_call

        weights = self._weights(step.run)
        if weights:
            step.logits = functional_call(self._network, weights, (step.images,)).float()  # type: ignore[misc]
        return super().terms(step)

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, step.teacher_logits, temperature=t)}

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """Quantise the student's weights.

        Parameters
        ----------
        run
            The training.

        Returns
        -------
        dict[str, float]
            `size_bits`: storage size of the network; `size_bits_float32`: without quantisation;
            `compression`: their ratio.
        """
        names = quantised_names(self._network, ends=self.ends)
        if self.method == "quantized-distillation":
            quantised = self._rounded(names)
        else:
            quantised = self._at_points(run, names)
        for name in names:
            self._network.get_parameter(name).data.copy_(quantised[name])
        points = 2**self.bits if self.method == "differentiable-quantization" else 0
        size, full = size_in_bits(self._network, names, bits=self.bits, bucket=self.bucket, points=points)
        return {"size_bits": size, "size_bits_float32": full, "compression": full / size}

    def _weights(self, run: SchemeRun) -> dict[str, torch.Tensor]:
        """Replacements of the student's parameters in a forward pass; empty for none."""
        names = quantised_names(self._network, ends=self.ends)
        if self.method == "quantized-distillation":
            # the value of the rounded weight, the gradient of the weight itself
            rounded = self._rounded(names)
            precise = {name: self._network.get_parameter(name) for name in names}
            return {name: p + (rounded[name] - p).detach() for name, p in precise.items()}
        if run.epoch < self._first_epoch_of_points(run):
            return {}
        frozen = {name: p.detach() for name, p in self._network.named_parameters()}
        return frozen | self._at_points(run, names)

    def _first_epoch_of_points(self, run: SchemeRun) -> int:
        return max(1, math.ceil(self.prepare * run.epochs))

    def _rounded(self, names: list[str]) -> dict[str, torch.Tensor]:
        return {
            n: uniformly_quantised(
                self._network.get_parameter(n).detach(), bits=self.bits, bucket=self.bucket
            )
            for n in names
        }

    def _at_points(self, run: SchemeRun, names: list[str]) -> dict[str, torch.Tensor]:
        """The weights rounded to their layer's points.

        The initial points follow from the frozen weights and need not be stored; their offsets are learned.
        """
        modules: Any = run.modules
        # an SGD step then moves a point by points_rate * rate * gradient
        scale = math.sqrt(self.points_rate)
        quantised = {}
        for name, offset in zip(names, modules["moved"], strict=True):
            weight = self._network.get_parameter(name)
            start = quantile_points(weight, bits=self.bits, bucket=self.bucket)
            quantised[name] = quantised_at(weight, start + scale * offset, bucket=self.bucket)
        return quantised
