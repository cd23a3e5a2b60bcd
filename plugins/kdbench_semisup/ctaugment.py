"""CTAugment: operations whose magnitudes are learnt from how well the network still does on labelled images.

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
#: value low + l * width of the first one (translations as shares of a side in the paper, in pixels in the code).
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
    """What was drawn for a batch: `depth` operations in a row for each of n images."""

    operations: torch.Tensor  #: int64 (depth, n) on the CPU, positions in OPERATIONS
    levels: torch.Tensor  #: float64 (depth, n, 2), 0..1, on the device


class CTAugment(nn.Module):
    """Augments a batch, and learns how far it may go.

    For every operation and parameter there are bins of levels with a weight each, 1 at first. A level is drawn
    from the bins whose weight is near the largest one. Labelled images under random operations (`probe`) tell
    how good a bin is: `update` moves its weight towards 1 - |p - y| / 2, one for a perfect prediction.

    Args:
        depth: operations in a row; FixMatch: 2.
        threshold: bins below this share of the best one are left out, 0..1; FixMatch: 0.8, ReMixMatch: 0.85.
        decay: of the weights, 0..1; 0.99.
        variant: how far images are shifted: up to 0.3 of their side ("paper"), or up to 0.3 pixels ("code"),
            which leaves them as they are.

    Attributes:
        rates: float32 (operations, 2, 17), the weights, in the checkpoints; 0 where there is no bin.
    """

    def __init__(
        self, *, depth: int = 2, threshold: float = 0.8, decay: float = 0.99, variant: str = "paper"
    ) -> None:
        super().__init__()
        self.depth, self.threshold, self.decay, self.variant = depth, threshold, decay, variant
        bins = torch.tensor([bins for bins, _ in OPERATIONS.values()])
        rates = (torch.arange(_MOST_BINS) < bins[:, :, None]).float()
        self.register_buffer("rates", rates)
        # derived from the table above, so that it is no part of a checkpoint
        self.register_buffer("bins", bins, persistent=False)
        line = torch.tensor([line for _, line in OPERATIONS.values()], dtype=torch.float64)
        self.register_buffer("line", line, persistent=False)
        self._kinds = torch.tensor([KIND[name] for name in OPERATIONS])
        self._whole = torch.tensor([name in _WHOLE for name in OPERATIONS])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The strong augmentation of FixMatch: learnt operations, then a cutout of half the side.

        Args:
            images: uint8 (n, c, h, w).
        """
        images = self.augment(images, self.policy(len(images)))
        side = 1 + int(0.499 * min(images.shape[-2:]))
        return cut_out(images, torch.full((len(images),), side))

    def probe(self, n: int) -> Policy:
        """Operations at levels that are drawn evenly, for `n` labelled images."""
        levels = moved(torch.rand(self.depth, n, 2, dtype=torch.float64), self._rates.device)
        return Policy(self._drawn(n), levels)

    def policy(self, n: int) -> Policy:
        """Operations at levels from the bins that have proved harmless."""
        drawn = self._drawn(n)
        drawn_levels = torch.rand(2, self.depth, n, 2, dtype=torch.float64)
        chance, inside = moved(drawn_levels, self._rates.device).unbind(0)
        weight = self.chances().double().cumsum(2)[moved(drawn, self._rates.device)]
        # the first bin whose cumulative weight is above the draw; the last ones may be left out altogether
        which = (chance[..., None] * weight[..., -1:] >= weight).sum(-1)
        bins = cast(torch.Tensor, self.bins)[moved(drawn, self._rates.device)]
        return Policy(drawn, torch.where(bins > 0, (which + inside) / bins.clamp(min=1), 0.0))

    def chances(self) -> torch.Tensor:
        """float32 (operations, 2, 17): in what proportion the bins are drawn."""
        exists = (
            torch.arange(_MOST_BINS, device=self._rates.device) < cast(torch.Tensor, self.bins)[..., None]
        )
        weight = (self._rates + (1 - self.decay)) * exists  # the addition keeps them from all being 0
        share = weight / weight.amax(2, keepdim=True).clamp(min=1e-12)
        return torch.where(share < self.threshold, 0.0, share)

    def augment(self, images: torch.Tensor, policy: Policy) -> torch.Tensor:
        """uint8 (n, c, h, w) through the operations of a policy."""
        for operations, levels in zip(policy.operations, policy.levels, strict=True):
            values = self._values(operations, levels, *images.shape[-2:])
            images = apply(images, self._kinds[operations], values)
        return images

    @torch.no_grad()
    def update(self, policy: Policy, proximity: torch.Tensor) -> None:
        """Move the weights of the bins that a probe used, image by image.

        Args:
            proximity: (n,), 1 - |p - y| / 2 of each probed image, 0..1.
        """
        device = self._rates.device
        bins = cast(torch.Tensor, self.bins)[moved(policy.operations, device)]
        bin_ = (policy.levels * bins * 0.999).long()
        slot = (
            moved(policy.operations, device)[..., None] * 2 + torch.arange(2, device=device)
        ) * _MOST_BINS + bin_
        # in the order of images, then operations, as if they came one after the other
        slot = torch.where(bins > 0, slot, self._rates.numel()).transpose(0, 1).flatten()
        target = (
            moved(proximity, device)[:, None, None].expand(-1, self.depth, 2).flatten().to(self._rates.dtype)
        )
        same = slot[:, None] == slot
        later = same.triu(1).sum(1)  # how often the same bin comes again
        rates = torch.cat([self._rates.flatten(), self._rates.new_zeros(1)])  # the last place: no parameter
        count = torch.zeros_like(rates).index_add_(0, slot, torch.ones_like(target))
        after = rates * self.decay**count
        # a dense product in place of a scattered sum, which a GPU adds up in any order
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
        """What `operations.apply` takes: float64 (n, 3), on the device."""
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
