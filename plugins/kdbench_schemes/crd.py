"""Tian, Krishnan & Isola, "Contrastive representation distillation" (ICLR 2020, arXiv 1910.10699)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from kdbench.api import check_choice, check_integer, check_number
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, activations, paired
from kdbench_schemes._pairs import Pairs, penultimate

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms
    from kdbench_schemes._crd_module import Memory

Variant = Literal["paper", "code"]
VARIANTS = ("paper", "code")
NEGATIVES = ("class", "instance")


class CRD(FeatureScheme):
    """Tell, from the embeddings of the two networks, one image from two (eqs. (10)-(19)).

    Both layers are embedded linearly on the unit sphere. For each image of a step its embedding by one network is
    compared with the other network's memory of it, and of `n_negatives` other images drawn anew with replacement;
    memories follow the embeddings as moving averages. They start as random vectors, as published.

    Args:
        variant: "code": exponentials of similarities are divided by a constant that the first step fixes, so that
            they average 1 / M over the M images; "paper": h as eq. (19) prints it, without such a
            constant, and a loss of hundreds in the first steps.
        pairs: "auto": what goes into the last linear layers; or a table of one student tap = teacher tap.
        size: of the embeddings, >= 1; published: 128.
        n_negatives: for each image, >= 1; published: 16384.
        negatives: "class": none that is known to have the image's own label, as published; labels are those of
            the labelled images that the training has shown so far, and an unlabelled image has none, so that any
            other image is its negative; "instance": any other image.
        temperature: of the similarities, > 0; published: 0.07.
        momentum: of the memories, in [0, 1); published: 0.5.
        weight: >= 0; published: 0.8.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone, and only they are remembered.
    """

    def __init__(
        self,
        *,
        variant: Variant = "code",
        pairs: Pairs = "auto",
        size: int = 128,
        n_negatives: int = 16384,
        negatives: Literal["class", "instance"] = "class",
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.8,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        check_choice("variant", variant, VARIANTS)
        check_choice("negatives", negatives, NEGATIVES)
        if len(self.pairs) != 1 and pairs != "auto":
            raise ValueError(f"pairs={pairs!r}: one student tap = teacher tap")
        self.variant: Variant = variant
        self.size = check_integer("size", size, at_least=1)
        self.n_negatives = check_integer("n_negatives", n_negatives, at_least=1)
        self.negatives = negatives
        # by another name, for a scheme's `temperature` is that of a teacher's outputs
        self.contrast_temperature = check_number("temperature", temperature, above=0)
        self.momentum = check_number("momentum", momentum, at_least=0, at_most=1)
        if momentum == 1:
            raise ValueError(f"momentum={momentum!r}: below 1, or nothing is remembered")

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return penultimate(setup)

    def modules(self, setup: SchemeSetup) -> Memory:
        """The embeddings, trained with the student, and both memories of every image.

        Raises:
            ValueError: a tap that does not exist, or fewer than two images or classes to tell apart.
        """
        from kdbench_schemes._crd_module import Memory

        images = setup.n_labelled + (setup.n_unlabelled if self.pool else 0)
        if images < 2:
            raise ValueError(f"pool={self.pool!r}: contrasts at least two images, and there are {images}")
        if self.negatives == "class" and setup.n_classes < 2:
            raise ValueError(f"negatives={self.negatives!r}: there is one class; 'instance' needs none")
        return Memory(
            self.find_pairs(setup)[0],
            images=images,
            rows=setup.n_train,
            size=self.size,
            temperature=self.contrast_temperature,
            momentum=self.momentum,
            by_class=self.negatives == "class",
            scaled=self.variant == "code",
        )

    def distil(self, step: Step) -> Terms:
        """{"crd": the sum over both networks}. Moves the memories."""
        memory = cast("Memory", paired(step.run))
        ((student, teacher),) = activations(step, memory.pairs)
        return {"crd": memory(student, teacher, step.index, step.labels, self.n_negatives)}


@exact
def contrastive_loss(
    similarities: torch.Tensor, own: torch.Tensor, counts: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    """Noise-contrastive estimation: -log h(own) - sum over negatives of log(1 - h(negative)), averaged over the
    batch (eqs. (18) and (19)), with h = p / (p + N / M) and p = exp(similarity) / scale.

    Args:
        similarities: (b, M), of each image to all that are remembered, over the temperature.
        own: int64 (b,), where each image is among those.
        counts: (b, M), how often each is drawn as a negative; rows sum to N.
        log_scale: (), the logarithm of the constant.

    Returns:
        A scalar > 0.
    """
    from torch.nn import functional as F

    odds = counts[:1].sum() / counts.shape[1]
    logits = similarities - log_scale - odds.log()
    positive = F.logsigmoid(logits.gather(1, own[:, None])).sum()
    return -(positive + (counts * F.logsigmoid(-logits)).sum()) / len(own)
