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
    """Hinton's loss for a student whose weights take 2^bits values a bucket.

    "quantized-distillation" (section 3): forward and backward pass with quantised weights, and the gradient is
    applied to weights of full precision that live on. "differentiable-quantization" (section 4): a student is
    distilled as usual first, then its weights are frozen and the values that they are moved to are learned, one
    set of points a layer; batch normalisation's statistics follow. Bits are the same for every layer.

    After the last epoch the student's weights are the quantised ones; accuracies of epochs before it are those of
    the weights of full precision.

    Args:
        method: as above.
        bits: a weight, 1 to 16.
        bucket: weights scaled together, at least 2.
        ends: quantise the first and the last layer too; the authors' code doesn't.
        prepare: share of the training before the points are learned, 0..1, at least one epoch; method 2 alone.
        points_rate: learning rate of the points as a share of the recipe's, > 0; method 2 alone. The paper: 1e-4
            against some 0.05.
        temperature: T > 0.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of the distillation term, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone, as published.
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
        """The points' distance from where they start, a row for each quantised tensor; None for method 1.

        Raises:
            ValueError: the student has nothing to quantise.
        """
        # `run.student` may be a compiled form of the network, for which its parameters are constants
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
        """Makes the student's weights the quantised ones.

        Returns:
            size_bits: what storing the network takes; size_bits_float32: without quantisation; compression: the
            second over the first.
        """
        names = quantised_names(self._network, ends=self.ends)
        if self.method == "quantized-distillation":
            made = self._rounded(names)
        else:
            made = self._at_points(run, names)
        for name in names:
            self._network.get_parameter(name).data.copy_(made[name])
        points = 2**self.bits if self.method == "differentiable-quantization" else 0
        size, whole = size_in_bits(self._network, names, bits=self.bits, bucket=self.bucket, points=points)
        return {"size_bits": size, "size_bits_float32": whole, "compression": whole / size}

    def _weights(self, run: SchemeRun) -> dict[str, torch.Tensor]:
        """What takes the place of the student's parameters in a forward pass; empty: nothing."""
        names = quantised_names(self._network, ends=self.ends)
        if self.method == "quantized-distillation":
            # the value of the rounded weight, the gradient of the weight itself
            rounded = self._rounded(names)
            kept = {name: self._network.get_parameter(name) for name in names}
            return {name: p + (rounded[name] - p).detach() for name, p in kept.items()}
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
        """The weights at their layer's points. Where those start follows from the frozen weights, so it needs no
        place in a checkpoint; how far they have moved is learned."""
        modules: Any = run.modules
        scale = math.sqrt(
            self.points_rate
        )  # a step of SGD then moves a point by points_rate * rate * gradient
        made = {}
        for name, moved in zip(names, modules["moved"], strict=True):
            weight = self._network.get_parameter(name)
            start = quantile_points(weight, bits=self.bits, bucket=self.bucket)
            made[name] = quantised_at(weight, start + scale * moved, bucket=self.bucket)
        return made
