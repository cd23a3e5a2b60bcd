"""CTAugment: operations whose magnitudes are learned from the network's predictions for labelled images.

Berthelot et al., ReMixMatch (ICLR 2020), section 3.2; as FixMatch uses it: Sohn et al. (NeurIPS 2020), table 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from kdbench.api import moved
from kdbench_semisup.operations import KIND, RESCALE_FILTERS, apply
from kdbench_semisup.randaugment import cut_out

#: The operations, the number of bins of each of their (up to two) parameters, and, for a level l in 0..1, the
#: value low + l * width of the first one (translations as fractions of a side in the paper, in pixels in the code).
OPERATIONS: dict[str, tuple[tuple[int, int], tuple[float, float]]] = {
    "autocontrast": ((17, 0), (0.0, 1.0)),
    "blur": ((17, 0), (0.0, 1.0)),
    "brightness": ((17, 0), (0.1, 1.9)),
    "color": ((17, 0), (0.1, 1.9)),
    "contrast": ((17, 0), (0.1, 1.9)),
    "cutout": ((17, 0), (0.0, 0.499)),
    "equalize": ((17, 0), (0.0, 1.0)),
    "identity": ((0, 0), (0.0, 0.0)),
    "invert": ((17, 0), (0.0, 1.0)),
    "posterize": ((8, 0), (1.0, 7.999)),
    "rescale": ((17, 6), (0.0, 0.25)),
    "rotate": ((17, 0), (-45.0, 90.0)),
    "sharpness": ((17, 0), (0.1, 1.9)),
    "shear-x": ((17, 0), (-0.3, 0.6)),
    "shear-y": ((17, 0), (-0.3, 0.6)),
    "smooth": ((17, 0), (0.0, 1.0)),
    "solarize": ((17, 0), (0.0, 255.999)),
    "translate-x": ((17, 0), (-0.3, 0.6)),
    "translate-y": ((17, 0), (-0.3, 0.6)),
}
_WHOLE = ("posterize", "solarize")
_MOST_BINS = 17


@dataclass(frozen=True)
class Policy:
    """Operations for a batch.

    Attributes
    ----------
    operations
        Indices into OPERATIONS, int64 (depth, n), on the CPU.
    levels
        Levels of their parameters, float64 (depth, n, 2), 0..1, on the device.
    """

    operations: torch.Tensor
    levels: torch.Tensor


class CTAugment(nn.Module):
    """Augment a batch with learned magnitudes.

    The levels of every parameter of an operation are divided into bins, each with an initial weight of 1. A
    level is drawn from the bins whose weight is close to the largest. `probe` applies random operations to
    labelled images, and `update` moves the weights of their bins towards 1 - |p - y| / 2, which is 1 for a
    perfect prediction.

    Parameters
    ----------
    depth
        Operations applied in sequence; FixMatch: 2.
    threshold
        Bins below this fraction of the best one are excluded, 0..1; FixMatch: 0.8, ReMixMatch: 0.85.
    decay
        Decay of the weights, in [0, 1); published: 0.99.
    variant
        Range of translations: up to 0.3 of the side ("paper"), or up to 0.3 pixels ("code"), which has no
        effect.
    """

    def __init__(
        self, *, depth: int = 2, threshold: float = 0.8, decay: float = 0.99, variant: str = "paper"
    ) -> None:
        super().__init__()
        self.depth, self.threshold, self.decay, self.variant = depth, threshold, decay, variant
        bins = torch.tensor([bins for bins, _ in OPERATIONS.values()])
        rates = (torch.arange(_MOST_BINS) < bins[:, :, None]).float()
        # weights float32 (operations, 2, 17), stored in checkpoints; 0 without a bin
        self.register_buffer("rates", rates)
        # derived from the table above, so not stored in checkpoints
        self.register_buffer("bins", bins, persistent=False)
        line = torch.tensor([line for _, line in OPERATIONS.values()], dtype=torch.float64)
        self.register_buffer("line", line, persistent=False)
        self._kinds = torch.tensor([KIND[name] for name in OPERATIONS])
        self._whole = torch.tensor([name in _WHOLE for name in OPERATIONS])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The strong augmentation of FixMatch: learned operations, then a cutout of half the side.

        Parameters
        ----------
        images
            uint8 (n, c, h, w).

        Returns
        -------
        Tensor
            uint8 (n, c, h, w).
        """
        images = self.augment(images, self.policy(len(images)))
        side = 1 + int(0.499 * min(images.shape[-2:]))
        return cut_out(images, torch.full((len(images),), side))

    def probe(self, n: int) -> Policy:
        """Random operations at uniform levels, for `n` labelled images."""
        levels = moved(torch.rand(self.depth, n, 2, dtype=torch.float64), self._rates.device)
        return Policy(self._drawn(n), levels)

    def policy(self, n: int) -> Policy:
        """Random operations at levels from the bins with large weights, for `n` images."""
        drawn = self._drawn(n)
        drawn_levels = torch.rand(2, self.depth, n, 2, dtype=torch.float64)
        chance, inside = moved(drawn_levels, self._rates.device).unbind(0)
        weight = self.chances().double().cumsum(2)[moved(drawn, self._rates.device)]
        # the first bin whose cumulative weight is above the draw; the last bins may be excluded
        which = (chance[..., None] * weight[..., -1:] >= weight).sum(-1)
        bins = cast(torch.Tensor, self.bins)[moved(drawn, self._rates.device)]
        return Policy(drawn, torch.where(bins > 0, (which + inside) / bins.clamp(min=1), 0.0))

    def chances(self) -> torch.Tensor:
        """Relative probabilities of the bins, float32 (operations, 2, 17)."""
        exists = (
            torch.arange(_MOST_BINS, device=self._rates.device) < cast(torch.Tensor, self.bins)[..., None]
        )
        weight = (self._rates + (1 - self.decay)) * exists  # the addition prevents a sum of 0
        share = weight / weight.amax(2, keepdim=True).clamp(min=1e-12)
        return torch.where(share < self.threshold, 0.0, share)

    def augment(self, images: torch.Tensor, policy: Policy) -> torch.Tensor:
        """Apply the operations of a policy to uint8 images (n, c, h, w)."""
        for operations, levels in zip(policy.operations, policy.levels, strict=True):
            values = self._values(operations, levels, *images.shape[-2:])
            images = apply(images, self._kinds[operations], values)
        return images

    @torch.no_grad()
    def update(self, policy: Policy, proximity: torch.Tensor) -> None:
        """Update the weights of the bins that a probe used, image by image.

        Parameters
        ----------
        policy
            The operations of the probe.
        proximity
            1 - |p - y| / 2 of each probed image, (n,), 0..1.
        """
        device = self._rates.device
        bins = cast(torch.Tensor, self.bins)[moved(policy.operations, device)]
        bin_ = (policy.levels * bins * 0.999).long()
        slot = (
            moved(policy.operations, device)[..., None] * 2 + torch.arange(2, device=device)
        ) * _MOST_BINS + bin_
        # ordered by image, then operation, as in a sequential update
        slot = torch.where(bins > 0, slot, self._rates.numel()).transpose(0, 1).flatten()
        target = (
            moved(proximity, device)[:, None, None].expand(-1, self.depth, 2).flatten().to(self._rates.dtype)
        )
        same = slot[:, None] == slot
        later = same.triu(1).sum(1)  # number of later updates of the same bin
        rates = torch.cat([self._rates.flatten(), self._rates.new_zeros(1)])  # the last entry: no parameter
        count = torch.zeros_like(rates).index_add_(0, slot, torch.ones_like(target))
        after = rates * self.decay**count
        # a dense product instead of a scattered sum, whose order is not deterministic on a GPU
        share = (1 - self.decay) * self.decay**later * target
        first = ~same.tril(-1).any(1)
        total = (same * share).sum(1)
        after = after + torch.zeros_like(rates).index_add_(0, slot, torch.where(first, total, 0.0))
        self._rates.copy_(after[:-1].view_as(self._rates))

    @property
    def _rates(self) -> torch.Tensor:
        return cast(torch.Tensor, self.rates)

    def _drawn(self, n: int) -> torch.Tensor:
        return torch.randint(len(OPERATIONS), (self.depth, n))

    def _values(
        self, operations: torch.Tensor, levels: torch.Tensor, height: int, width: int
    ) -> torch.Tensor:
        """Values for `operations.apply`, float64 (n, 3), on the device."""
        n, device = len(operations), levels.device
        line = cast(torch.Tensor, self.line)[moved(operations, device)]
        first = line[:, 0] + line[:, 1] * levels[:, 0]

        def is_(*names: str) -> torch.Tensor:
            kinds = torch.tensor([name in names for name in OPERATIONS])
            return moved(kinds[operations], device)

        first = torch.where(is_(*_WHOLE), first.floor(), first)
        first = torch.where(is_("rotate"), first.round(), first)
        if self.variant == "paper":
            first = torch.where(is_("translate-x"), first * width, first)
            first = torch.where(is_("translate-y"), first * height, first)
        half = ((1 + (first * min(height, width)).floor()) / 2).floor()
        centre = torch.stack([torch.randint(height, (n,)), torch.randint(width, (n,))], dim=1)
        cut = is_("cutout")
        method = (levels[:, 1] * (len(RESCALE_FILTERS) - 0.01)).floor()
        rest = moved(centre, device).double() * cut[:, None]
        rest[:, 0] += torch.where(is_("rescale"), method, 0.0)
        return torch.cat([torch.where(cut, half, first)[:, None], rest], dim=1)
