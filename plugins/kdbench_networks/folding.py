"""Fold batch normalisation into the preceding convolutions of a frozen network, for faster inference."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Copy `model` in evaluation mode, with batch normalisations folded into the convolutions before them.

    A convolution and a batch normalisation that follow each other in the definition of one module are assumed
    to follow each other in its forward pass. That is true of ResNet-18 and EfficientNet-Lite0 (a test compares
    their outputs); do not use this function on other networks. The activation inside timm's normalisation
    layers keeps the layer's name, so taps do not change.

    The copy is for inference only: training it would train a different network.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (bn_name, bn) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, bn))
                setattr(parent, bn_name, getattr(bn, "act", nn.Identity()))
    return folded.requires_grad_(False)
