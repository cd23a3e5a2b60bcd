"""The paper's student: WRN-28-1 (LW section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api import Normalization

#: The positions A to E of LW Fig. 6 (assumption LW-A8); outputs of these modules.
TAPS = {"A": "conv1", "B": "group1", "C": "group2", "D": "group3", "E": "pool"}


class WideResNet:
    """Wide residual network with pre-activation basic blocks, for small images.

    Zagoruyko & Komodakis (2016), section 2. A 3x3 convolution with 16 filters, three groups of (depth - 4) /
    6 blocks with 16w, 32w and 64w filters (strides 1, 2, 2), batch normalisation, ReLU, global average
    pooling and a linear layer. WRN-28-1 with 100 classes has 375,348 parameters (LW: 0.37 M).

    Taps for 32x32 images and width 1, flattened: A 16,384; B 16,384; C 8,192; D 4,096; E 64.

    Parameters
    ----------
    depth
        Number of convolutions plus the linear layer, 6n + 4 with n >= 1 (10, 16, 22, 28, ...).
    width
        Widening factor w, >= 1.
    dropout
        Dropout probability between the two convolutions of a block, in [0, 1).

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, *, depth: int = 28, width: int = 1, dropout: float = 0.0) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth}: must be 6n + 4 with n >= 1 (10, 16, 22, 28, 34, 40, ...)")
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be in [0, 1)")
        self.depth = depth
        self.width = width
        self.dropout = dropout

    def build(self, n_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        """Build a network from (b, c, h, w) to (b, n_classes), for images of any size (LW: 32x32x3).

        Convolution weights are drawn from N(0, 2 / fan_out) (He et al. 2015), batch normalisation starts at 1 and 0,
        the linear layer has PyTorch's default weights and zero bias.
        """
        from kdbench_networks.wide_resnet_module import WideResNetModule

        return WideResNetModule(
            n_classes, input_shape[2], blocks=(self.depth - 4) // 6, width=self.width, dropout=self.dropout
        )

    def taps(self, model: nn.Module) -> Mapping[str, str]:
        """A: first convolution; B, C, D: the groups; E: input of the linear layer."""
        return dict(TAPS)

    def head(self, model: nn.Module) -> str:
        return "fc"

    @property
    def normalization(self) -> Normalization | None:
        """None: use the statistics of the dataset."""
        return None
