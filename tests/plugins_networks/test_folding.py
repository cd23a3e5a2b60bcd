"""Frozen copies give the outputs of their networks, at the taps too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench_networks.efficientnet_lite0 import EfficientNetLite0
from kdbench_networks.timm_models import ResNet18


def outputs(architecture, model, images):
    seen, handles = {}, []
    for tap, path in architecture.taps(model).items():
        hook = lambda m, i, out, tap=tap: seen.update({tap: out.clone()})  # noqa: E731
        handles.append(model.get_submodule(path).register_forward_hook(hook))
    with torch.no_grad():
        seen["logits"] = model(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("architecture", [ResNet18(), EfficientNetLite0(weights="none", upsample=64)])
def test_for_inference(architecture):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = architecture.build(11, (32, 32, 3))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # statistics as if trained
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
        images = torch.randn(3, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = architecture.for_inference(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert model.training  # the original network is unchanged
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    expected, found = outputs(architecture, model.eval(), images), outputs(architecture, frozen, images)
    assert list(found) == list(expected)
    for tap, value in expected.items():
        torch.testing.assert_close(found[tap], value, rtol=1e-3, atol=1e-3 * float(value.std()))
    assert isinstance(frozen.get_submodule(architecture.head(frozen)), nn.Linear)
