"""The loss and the views of SimCLR (Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning
of visual representations", ICML 2020; arXiv 2002.05709)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.api import moved
from kdbench_schemes._common import exact

if TYPE_CHECKING:
    import torch

#: Weights of red, green and blue in a grey image (ITU-R BT.601).
GREY = (0.2989, 0.587, 0.114)


@exact
def nt_xent(one: torch.Tensor, other: torch.Tensor, *, temperature: float = 0.5) -> torch.Tensor:
    """Normalised temperature-scaled cross-entropy (eq. (1)), averaged over 2b views, in nats.

    Each view classifies the other view of its image among all 2b - 1 other views by cosine similarity.

    Parameters
    ----------
    one
        First views (b, d); rows need not be normalised.
    other
        Second views (b, d) of the same images.
    temperature
        Temperature of the similarities, > 0.

    Returns
    -------
    Tensor
        A scalar > 0.
    """
    import torch
    from torch.nn import functional as F

    views = F.normalize(torch.cat([one, other]), dim=1)
    similarity = views @ views.T / temperature
    diagonal = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partner = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity.masked_fill(diagonal, -math.inf), partner)


@dataclass(frozen=True)
class Views:
    """Random crops, flips and colour jitter for each of (b, c, h, w) uint8 images (appendix A).

    For CIFAR-10: strength 0.5 and no blur (appendix B.9). Random numbers come from PyTorch's CPU generator on any
    device. The order of the four colour changes is drawn once per batch. Images without three channels change in
    brightness and contrast only.

    Parameters
    ----------
    strength
        Of the change of colour: brightness, contrast and saturation by up to 0.8 of it, hue by 0.2 of it.
    smallest
        Share of the image's area that a crop has at least; the most is 1. Crops of ratio 3/4 to 4/3 are
        resized bilinearly to the image's size.

    Attributes
    ----------
    strength
        Strength of the colour jitter: brightness, contrast and saturation change by up to 0.8 of it, hue by
        0.2 of it.
    smallest
        Smallest area of a crop as a fraction of the image; the largest is 1. Crops have aspect ratios of 3/4
        to 4/3 and are resized bilinearly to the image's size.
    """

    strength: float = 0.5
    smallest: float = 0.08

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Augment images uint8 (b, c, h, w)."""
        import torch

        views = self._crop(images.float() / 255)
        if self.strength:
            changed = self._colour(views)
            views = torch.where(_some(0.8, views), changed, views)
        if views.shape[1] == 3:
            views = torch.where(_some(0.2, views), grey(views).expand_as(views), views)
        return (views * 255).round().clamp(0, 255).to(torch.uint8)

    def _crop(self, images: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional as F

        n = len(images)
        area = torch.empty(n).uniform_(self.smallest, 1)
        ratio = torch.empty(n).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        left, top = (torch.rand(2, n) * 2 - 1) * torch.stack([1 - width, 1 - height])
        flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 2], theta[:, 1, 1], theta[:, 1, 2] = width * flip, left, height, top
        grid = F.affine_grid(moved(theta, images.device), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _colour(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        n, most = len(images), 0.8 * self.strength
        brightness, contrast, saturation = moved(
            torch.empty(3, n, 1, 1, 1).uniform_(max(0.0, 1 - most), 1 + most), images.device
        )
        limit = 0.2 * self.strength
        hue = moved(torch.empty(n, 1, 1).uniform_(-limit, limit), images.device)
        changes = [
            lambda x: (x * brightness).clamp(0, 1),
            lambda x: _blend(x, grey(x).mean((2, 3), keepdim=True), contrast),
        ]
        if images.shape[1] == 3:
            changes += [lambda x: _blend(x, grey(x), saturation), lambda x: turned(x, hue)]
        for which in torch.randperm(len(changes)).tolist():
            images = changes[which](images)
        return images


def _some(share: float, images: torch.Tensor) -> torch.Tensor:
    """Random mask bool (b, 1, 1, 1), True with probability `share`."""
    import torch

    return moved(torch.rand(len(images), 1, 1, 1) < share, images.device)


def _blend(images: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return (share * images + (1 - share) * other).clamp(0, 1)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Convert (b, c, h, w) in 0..1 to (b, 1, h, w): the luma of three channels, or the mean of any other number."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return sum(share * images[:, i : i + 1] for i, share in enumerate(GREY))  # type: ignore[return-value]


def turned(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Rotate the hue of (b, 3, h, w) images in 0..1 by `turn` full circles, broadcast against (b, h, w).

    Value and saturation (of HSV) do not change.
    """
    import torch

    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    position = sixth + 6 * turn
    channels = [value - chroma * _ramp((position + n) % 6) for n in (5.0, 3.0, 1.0)]
    return torch.stack(channels, 1)


def _ramp(k: torch.Tensor) -> torch.Tensor:
    """Difference of the value and a channel in units of the chroma, at position k on a colour circle of length 6."""
    import torch

    return torch.minimum(k, 4 - k).clamp(0, 1)
