"""Batch normalisation folded into the convolutions before it: a frozen network gives the same outputs
sooner."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode, whose convolutions do the work of the batch normalisations after
    them.

    A convolution and a batch normalisation that follow each other in the definition of one module are taken
    to follow each other in its forward pass too. That holds for ResNet-18 and EfficientNet-Lite0 (a test
    compares their outputs); do not use it on networks where it does not. The activation inside timm's
    normalisation layers stays, under the layer's name, so taps stay what they were.

    The copy is for inference: trained further, it would be another network.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (bn_name, bn) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, bn))
                setattr(parent, bn_name, getattr(bn, "act", nn.Identity()))
    return folded.requires_grad_(False)
