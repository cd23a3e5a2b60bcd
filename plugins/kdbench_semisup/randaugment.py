"""RandAugment as used by FixMatch, with random magnitudes and a final cutout.

Cubuk et al., RandAugment (CVPR Workshops 2020); Sohn et al., FixMatch (NeurIPS 2020), section 2.3 and table 12.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kdbench.api import moved
from kdbench_semisup.operations import GREY, KIND, apply

#: The 14 operations with their ranges in FixMatch's table 12 (translations as fractions of a side, the threshold
#: of solarize as a fraction of 256).
PAPER_RANGES = {
    "autocontrast": (1.0, 1.0),
    "brightness": (0.05, 0.95),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "equalize": (1.0, 1.0),
    "identity": (0.0, 0.0),
    "posterize": (4.0, 8.0),
    "rotate": (-30.0, 30.0),
    "sharpness": (0.05, 0.95),
    "shear-x": (-0.3, 0.3),
    "shear-y": (-0.3, 0.3),
    "solarize": (0.0, 1.0),
    "translate-x": (-0.3, 0.3),
    "translate-y": (-0.3, 0.3),
}
#: The same operations' values at level 1 to 9 in the code that FixMatch was published with.
CODE_LEVELS: dict[str, Callable[[int], float]] = {
    "autocontrast": lambda level: 1.0,
    "brightness": lambda level: 0.1 + 0.18 * level,
    "color": lambda level: 0.1 + 0.18 * level,
    "contrast": lambda level: 0.1 + 0.18 * level,
    "equalize": lambda level: 1.0,
    "identity": lambda level: 0.0,
    "posterize": lambda level: 4 - 4 * level // 10,
    "rotate": lambda level: 3.0 * level,
    "sharpness": lambda level: 0.1 + 0.18 * level,
    "shear-x": lambda level: 0.03 * level,
    "shear-y": lambda level: 0.03 * level,
    "solarize": lambda level: 256 - 256 * level // 10,
    "translate-x": lambda level: float(level),
    "translate-y": lambda level: float(level),
}
OPERATIONS = tuple(PAPER_RANGES)
_SIGNED = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
STYLES = ("paper", "code", "torchssl")


class RandAugment:
    """Augment uint8 images (n, c, h, w): random operations for each image, then a grey square.

    Parameters
    ----------
    operations
        Operations applied in sequence, >= 0; FixMatch: 2, TorchSSL: 3.
    style
        "paper": magnitudes uniform in the ranges of FixMatch's table 12; "code": levels 1 to 9 of the
        published code, where each operation has probability 1/2 and empty areas are grey; "torchssl": the
        ranges of the paper, and a cutout of random size.
    cutout
        Side of the square as a fraction of the image's shorter side, 0..1; FixMatch: 0.5. With "torchssl" the
        side is uniform up to it.
    """

    def __init__(self, *, operations: int = 2, style: str = "paper", cutout: float = 0.5) -> None:
        self.operations = operations
        self.style = style
        self.cutout = cutout
        self._kinds = torch.tensor([KIND[name] for name in OPERATIONS])
        self._low, self._width = (
            torch.tensor(v, dtype=torch.float64)
            for v in zip(*((low, high - low) for low, high in PAPER_RANGES.values()), strict=True)
        )
        self._levels = torch.tensor(
            [[CODE_LEVELS[name](level) for level in range(1, 10)] for name in OPERATIONS], dtype=torch.float64
        )
        self._signed = torch.tensor([name in _SIGNED for name in OPERATIONS])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        n, _, height, width = images.shape
        for _ in range(self.operations):
            kinds, values = self.draw(n, height, width)
            images = apply(images, kinds, values, fill=GREY if self.style == "code" else 0)
        if self.cutout:
            side = self.cutout * min(height, width) * torch.ones(n, dtype=torch.float64)
            if self.style == "torchssl":
                side = side * torch.rand(n, dtype=torch.float64)
            images = cut_out(images, side)
        return images

    def draw(self, n: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Operations int64 (n,) and their values float64 (n, 3), on the CPU; see `operations.apply`."""
        which = torch.randint(len(OPERATIONS), (n,))
        kinds = self._kinds[which]
        values = torch.zeros(n, 3, dtype=torch.float64)
        if self.style == "code":
            value = self._levels[which, torch.randint(9, (n,))]
            flipped = self._signed[which] & (torch.rand(n) < 0.5)
            values[:, 0] = torch.where(flipped, -value, value)
            kinds = torch.where(torch.rand(n) < 0.5, kinds, KIND["identity"])
            return kinds, values
        drawn = torch.rand(n, dtype=torch.float64)
        value = self._low[which] + self._width[which] * drawn
        # 4, 5, 6, 7 and 8 bits are equally likely
        value = torch.where(kinds == KIND["posterize"], torch.floor(4 + 5 * drawn), value)
        for name, unit in (("solarize", 256), ("translate-x", width), ("translate-y", height)):
            value = torch.where(kinds == KIND[name], value * unit, value)
        values[:, 0] = value
        return kinds, values


def cut_out(images: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Draw a grey square around a random pixel of each image.

    Parameters
    ----------
    images
        uint8 (n, c, h, w).
    side
        Side of the square in pixels, (n,); odd sides are reduced by one. The square is clipped at the border.

    Returns
    -------
    Tensor
        uint8 (n, c, h, w).
    """
    from kdbench_semisup.operations import cutout

    n, _, height, width = images.shape
    values = torch.stack(
        [
            torch.floor(side.double() / 2),
            torch.randint(height, (n,)).double(),
            torch.randint(width, (n,)).double(),
        ],
        dim=1,
    )
    return cutout(images, moved(values, images.device))
