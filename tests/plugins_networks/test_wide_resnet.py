"""wide-resnet: parameters, taps, and parity with a forward pass written from the paper in NumPy float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from kdbench.api import Architecture
from kdbench_networks.wide_resnet import WideResNet


def build(seed: int = 0, shape=(32, 32, 3), n_classes: int = 100, **params) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(**params).build(n_classes, shape)


def tapped(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    seen = {}
    for tap, path in WideResNet().taps(model).items():
        model.get_submodule(path).register_forward_hook(lambda m, i, out, tap=tap: seen.update({tap: out}))
    seen["logits"] = model(images)
    return seen


def count(depth: int, width: int, n_classes: int) -> int:
    with torch.device("meta"):
        model = WideResNet(depth=depth, width=width).build(n_classes, (32, 32, 3))
    return sum(p.numel() for p in model.parameters())


def test_number_of_parameters_of_the_papers_student():
    assert count(28, 1, 100) == 375_348


@pytest.mark.parametrize(
    ("depth", "width", "millions"), [(40, 1, 0.6), (40, 2, 2.2), (16, 8, 11.0), (28, 10, 36.5)]
)
def test_numbers_of_parameters_equal_published_table(depth, width, millions):
    """Wide Residual Networks, table 4."""
    assert round(count(depth, width, 10) / 1e6, 1) == millions


def test_tap_sizes_and_order_equal_the_paper():
    seen = tapped(build().eval(), torch.zeros(2, 3, 32, 32))
    dims = {tap: out.flatten(1).shape[1] for tap, out in seen.items()}
    assert dims == {"A": 16_384, "B": 16_384, "C": 8_192, "D": 4_096, "E": 64, "logits": 100}
    assert list(seen) == ["A", "B", "C", "D", "E", "logits"]  # the order of the forward pass


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (64, 64, 3), (28, 28, 1), (9, 13, 2)])
def test_accepts_images_of_any_shape(shape):
    model = build(shape=shape, n_classes=7, depth=10)
    h, w, c = shape
    assert model(torch.randn(3, c, h, w)).shape == (3, 7)


def test_weights_depend_on_seed():
    a, b, c = (build(seed, depth=10).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["conv1.weight"], c["conv1.weight"])


def test_initialisation():
    model = build(depth=28)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            n = module.weight.numel()
            expected = np.sqrt(2 / fan_out)
            # the standard deviation of n normal draws has a relative standard error of 1 / sqrt(2n)
            assert module.weight.std().item() == pytest.approx(expected, rel=5 / np.sqrt(2 * n)), name
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    assert (model.fc.bias == 0).all()


def test_forward_pass_equals_numpy_implementation():
    """BMVC 2016, table 1 and figure 1a, in float64 by scipy's correlation, with statistics as if trained."""
    model = build(seed=1, depth=16, width=1, n_classes=5)
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.2)
    images = torch.randn(1, 3, 8, 8, generator=generator)
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def conv(x, name, stride=1):
        w = state[f"{name}.weight"]
        pad = w.shape[2] // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        full = [[sum(correlate(i[c], f[c], "valid") for c in range(len(f))) for f in w] for i in x]
        return np.array(full)[:, :, ::stride, ::stride]

    def bn_relu(x, name):
        shape = (1, -1, 1, 1)
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-5)
        y = (x - state[f"{name}.running_mean"].reshape(shape)) * scale.reshape(shape)
        return np.maximum(y + state[f"{name}.bias"].reshape(shape), 0)

    x = conv(images.double().numpy(), "conv1")
    expected = {"A": x}
    for group, tap in ((1, "B"), (2, "C"), (3, "D")):
        for block in range(2):
            name = f"group{group}.{block}"
            stride = 2 if group > 1 and block == 0 else 1
            y = bn_relu(x, f"{name}.bn1")
            skip = conv(y, f"{name}.shortcut", stride) if stride == 2 else x
            x = skip + conv(bn_relu(conv(y, f"{name}.conv1", stride), f"{name}.bn2"), f"{name}.conv2")
        expected[tap] = x
    expected["E"] = bn_relu(x, "bn").mean(axis=(2, 3))
    expected["logits"] = expected["E"] @ state["fc.weight"].T + state["fc.bias"]

    with torch.no_grad():
        seen = tapped(model.eval(), images)
    for tap, value in expected.items():
        np.testing.assert_allclose(seen[tap].numpy(), value, rtol=1e-4, atol=1e-4, err_msg=tap)


@pytest.mark.parametrize("train", [True, False])
def test_tap_outputs_are_not_overwritten(train):
    """A hook that keeps the tensor sees the module's output, although ReLU works in place."""
    model = build(depth=16).train(train)
    kept, copies = {}, {}
    for tap, path in WideResNet().taps(model).items():

        def hook(module, inputs, out, tap=tap):
            kept[tap], copies[tap] = out, out.detach().clone()

        model.get_submodule(path).register_forward_hook(hook)
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    for tap, copy in copies.items():
        assert torch.equal(kept[tap], copy), tap


def test_every_parameter_gets_a_gradient():
    model = build(depth=10)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_outputs_do_not_depend_on_memory_layout():
    model = build(depth=10).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        found = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = build(depth=10, dropout=0.5)
    images = torch.randn(4, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))
    plain = build(depth=10)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_implements_architecture_protocol():
    architecture = WideResNet()
    assert isinstance(architecture, Architecture)
    model = build()
    assert isinstance(model.get_submodule(architecture.head(model)), nn.Linear)
    assert architecture.normalization is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"depth": 27}, "depth=27: must be 6n \\+ 4"),
        ({"depth": 4}, "depth=4"),
        ({"width": 0}, "width=0: must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: must be in \\[0, 1\\)"),
        ({"dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_parameters_out_of_range_are_rejected(params, message):
    with pytest.raises(ValueError, match=message):
        WideResNet(**params)
