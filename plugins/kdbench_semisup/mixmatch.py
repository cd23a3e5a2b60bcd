"""`mixmatch`: sharpened predictions as labels, and mixed images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number, moved
from kdbench_semisup._common import BatchNorm, Semisupervised, Variant

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeRun
    from kdbench_semisup._common import Losses

#: (alpha, weight, end of the ramp) of each variant
PUBLISHED = {"code": (0.5, 100.0, 1 / 64), "paper": (0.75, 150.0, 1 / 64)}


class MixMatch(Semisupervised):
    """Berthelot et al., MixMatch (NeurIPS 2019), algorithm 1.

    The label of an unlabelled image is the mean prediction for its views, sharpened. All images and labels,
    labelled and unlabelled, are mixed with random partners. Cross-entropy on mixtures dominated by labelled
    images + w * mean over images and classes of (label - p)^2 on the other mixtures.

    Parameters
    ----------
    variant
        "code": alpha = 0.5, w = 100; "paper": alpha = 0.75, w = 150, its value for CIFAR-100 with a large
        network (75 for CIFAR-10). Both increase w over 16,384 of 2^20 steps. (The paper uses Adam; the suite
        defines the recipe.)
    weight
        Largest weight w, >= 0. None: the value of the variant, reached after 16,384 steps. A training of a
        few hundred steps collapses with it (WRN-10-1 on ten classes of CIFAR-100, 400 labels: to chance, with
        ramp = 1 too), but not with weight = 10 and ramp = 0.4.
    alpha
        Parameter of the Beta distribution of the mixing coefficient, > 0. None: the value of the variant.
    temperature
        Temperature T of the sharpening, > 0; published: 0.5.
    views
        Views of each unlabelled image, >= 1; published: 2.
    ramp
        Fraction of the training at which w is largest, 0..1. None: the value of the variant.
    mix_per
        "image": one mixing coefficient per image; "batch": one per batch, as in TorchSSL and USB.
    mu
        Unlabelled images per labelled image in a step, >= 1; published: 1.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics. Published: "interleaved". Labels are predicted in separate
        passes, one per view.
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1), published: 0.999. A
        training of a few thousand steps needs a smaller value.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.
    """

    def __init__(
        self,
        *,
        variant: Variant = "code",
        weight: float | None = None,
        alpha: float | None = None,
        temperature: float = 0.5,
        views: int = 2,
        ramp: float | None = None,
        mix_per: Literal["image", "batch"] = "image",
        mu: int = 1,
        batch_norm: BatchNorm = "interleaved",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay, epoch_steps=epoch_steps
        )
        published = PUBLISHED[variant]
        self.alpha = published[0] if alpha is None else check_number("alpha", alpha, above=0)
        self.weight = published[1] if weight is None else check_number("weight", weight, at_least=0)
        self.ramp = published[2] if ramp is None else check_number("ramp", ramp, at_least=0, at_most=1)
        self.temperature = check_number("temperature", temperature, above=0)
        self.views = check_integer("views", views, at_least=1)
        self.mix_per = check_choice("mix_per", mix_per, ("image", "batch"))

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "guessed": weighted loss}."""
        import torch

        from kdbench_semisup import losses, passes

        for labelled, unlabelled in self.batches(run):
            if labelled.labels is None:
                raise ValueError("a labelled batch came without labels")
            views = [unlabelled.images]
            views += [run.another_view(unlabelled).images for _ in range(self.views - 1)]
            guessed = torch.stack([z.softmax(1) for z in passes.targets(run.student, *views)]).mean(0)
            guessed = losses.sharpen(guessed, self.temperature)
            images = torch.cat([labelled.images, *views])
            true = losses.one_hot(labelled.labels, run.n_classes)
            labels = torch.cat([true, *[guessed] * self.views])
            share, partner = self.draw(len(images))
            share, partner = moved(share, images.device), moved(partner, images.device)
            images = losses.mix(images, partner, share)
            labels = losses.mix(labels, partner, share)
            n = len(labelled.images)
            logits, others = self.logits(run, images[:n], images[n:])
            weight = self.weight * losses.linear_ramp(run.progress, 0.0, self.ramp)
            yield {
                "cross_entropy": losses.soft_cross_entropy(logits, labels[:n]),
                "guessed": weight * losses.brier(others, labels[n:]),
            }

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixing coefficients in 0.5..1, float32 (n,), and partners, int64 (n,), on the CPU."""
        import torch

        drawn = torch.distributions.Beta(self.alpha, self.alpha).sample(
            (n if self.mix_per == "image" else 1,)
        )
        share = torch.maximum(drawn, 1 - drawn).expand(n)
        return share, torch.randperm(n)
