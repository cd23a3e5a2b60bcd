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
    """Contrastive representation distillation: match the embeddings of an image by both networks (eqs. (10)-(19)).

    Both layers are mapped linearly to the unit sphere. Each image's embedding by one network is compared with the
    other network's memory bank: with the entry of the same image, and with `n_negatives` other images drawn with
    replacement in every step. The memory banks are moving averages of the embeddings and start as random vectors, as
    published.

    Parameters
    ----------
    variant
        "code": exponentials of similarities are divided by a constant, estimated in the first step, so that
        they average 1 / M over the M images; "paper": h as printed in eq. (19), without that constant, with a
        loss of hundreds in the first steps.
    pairs
        "auto": the inputs of the last linear layers; or a table of one student tap = teacher tap.
    size
        Dimension of the embeddings, >= 1; published: 128.
    n_negatives
        Negatives per image, >= 1; published: 16384.
    negatives
        "class": images that are not known to have the same label, as published. Only labels of labelled
        images seen so far in the training are known, so any other image is a negative of an unlabelled image.
        "instance": any other image.
    temperature
        Temperature of the similarities, > 0; published: 0.07.
    momentum
        Momentum of the memory banks, in [0, 1); published: 0.5.
    weight
        Weight of the contrastive loss, >= 0; published: 0.8.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only, and the memory banks contain only
        those.
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
        # another name, because a scheme's `temperature` is that of the soft targets
        self.contrast_temperature = check_number("temperature", temperature, above=0)
        self.momentum = check_number("momentum", momentum, at_least=0, at_most=1)
        if momentum == 1:
            raise ValueError(f"momentum={momentum!r}: below 1, or nothing is remembered")

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return penultimate(setup)

    def modules(self, setup: SchemeSetup) -> Memory:
        """The embeddings, trained with the student, and the memory banks of both networks.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Memory
            The module.

        Raises
        ------
        ValueError
            A tap does not exist, or there are fewer than two images or classes to contrast.
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
        """{"crd": the sum over both networks}. Updates the memory banks."""
        memory = cast("Memory", paired(step.run))
        ((student, teacher),) = activations(step, memory.pairs)
        return {"crd": memory(student, teacher, step.index, step.labels, self.n_negatives)}


@exact
def contrastive_loss(
    similarities: torch.Tensor, slots: torch.Tensor, counts: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    """Noise-contrastive estimation (eqs. (18) and (19)).

    -log h(positive) - sum over negatives of log(1 - h(negative)), averaged over the batch, with h = p / (p + N / M)
    and p = exp(similarity) / scale.

    Parameters
    ----------
    similarities
        Similarity of each image to all M entries of the memory bank, over the temperature: (b, M).
    slots
        Index of each image's entry, int64 (b,).
    counts
        How often each entry is drawn as a negative, (b, M); rows sum to N.
    log_scale
        Logarithm of the scale, ().

    Returns
    -------
    Tensor
        A scalar > 0.
    """
    from torch.nn import functional as F

    odds = counts[:1].sum() / counts.shape[1]
    logits = similarities - log_scale - odds.log()
    positive = F.logsigmoid(logits.gather(1, slots[:, None])).sum()
    return -(positive + (counts * F.logsigmoid(-logits)).sum()) / len(slots)
