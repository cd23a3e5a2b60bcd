"""resnet18, timm/* and torchvision/*: options, taps, names, and unreachable hubs."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from kdbench.api import IMAGENET, Architecture, Normalization
from kdbench.errors import DataError, UsageError
from kdbench_networks.modules import Upsample
from kdbench_networks.pretrained import reachable
from kdbench_networks.timm_models import ResNet18, TimmModel
from kdbench_networks.torchvision_models import TorchvisionModel


def outputs(architecture, model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each tap's output when its module returned, and the same tensor after the forward pass."""
    kept, copies = {}, {}
    for tap, path in architecture.taps(model).items():

        def hook(module, inputs, out, tap=tap):
            kept[tap], copies[tap] = out, out.clone()

        model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        copies["logits"] = model.eval()(images)
    for tap, out in kept.items():
        assert torch.equal(out, copies[tap]), f"{tap} was overwritten"
    assert list(copies) == [*architecture.taps(model), "logits"], (
        "taps are not in the order of the forward pass"
    )
    return copies


def test_resnet18_taps_at_224():
    architecture = ResNet18()
    model = architecture.build(100, (32, 32, 3))
    seen = outputs(architecture, model, torch.zeros(1, 3, 32, 32))
    dims = {tap: out.flatten(1).shape[1] for tap, out in seen.items()}
    assert dims == {"A": 200_704, "B": 200_704, "C": 100_352, "D": 50_176, "E": 512, "logits": 100}
    # He et al.: 11.7 M with 1000 classes, of which the classifier's 513,000 are replaced by 51,300
    assert sum(p.numel() for p in model.parameters()) == 11_689_512 - 513_000 + 51_300


def test_last_tap_is_the_head_input():
    architecture = ResNet18(upsample=0)
    model = architecture.build(9, (32, 32, 3))
    seen = outputs(architecture, model, torch.randn(2, 3, 32, 32))
    head = model.get_submodule(architecture.head(model))
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(head(seen["E"]), seen["logits"])


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (64, 64, 3), (40, 24, 4)])
@pytest.mark.parametrize("upsample", [64, 0, None])
def test_resnet18_accepts_images_of_any_shape(shape, upsample):
    h, w, c = shape
    model = ResNet18(upsample=upsample).build(5, shape).eval()
    assert model(torch.randn(2, c, h, w)).shape == (2, 5)


def test_resnet18_equals_torchvision_resnet18():
    """Two libraries' definitions agree with the same weights: an oracle for the trunk and the names."""
    import torchvision

    reference = torchvision.models.resnet18(num_classes=6).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    model = ResNet18(upsample=0).build(6, (64, 64, 3)).eval()
    model.trunk.fc = model.trunk.fc.linear
    model.trunk.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_upsampling_keeps_constant_images_and_comes_first(mode):
    images = torch.full((2, 3, 8, 8), 0.7)
    torch.testing.assert_close(Upsample(20, mode)(images), torch.full((2, 3, 20, 20), 0.7))
    model = ResNet18(upsample=48, mode=mode).build(4, (8, 8, 3)).eval()
    plain = ResNet18(upsample=0).build(4, (8, 8, 3)).eval()
    plain.load_state_dict(model.state_dict())
    noise = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(noise), plain(Upsample(48, mode)(noise)))


def test_bilinear_upsampling_does_not_align_corners():
    """Known answer: 2 to 4 pixels, half-pixel centres: 0, 1/4, 3/4, 1 of the way."""
    ramp = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
    row = Upsample(4, "bilinear")(ramp)[0, 0, 0]
    torch.testing.assert_close(row, torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_antialiasing_averages_when_downsampling():
    checkers = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float().expand(1, 1, 16, 16)
    smooth, rough = Upsample(4, "bicubic", True)(checkers), Upsample(4, "nearest")(checkers)
    assert (smooth - 0.5).abs().max() < 0.05
    assert (rough - 0.5).abs().min() == 0.5


def test_grey_images_become_three_equal_channels(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(dict(ResNet18(upsample=0).build(4, (16, 16, 3)).state_dict()), path)
    architecture = ResNet18(upsample=32, weights=str(path))
    gray, colour = (architecture.build(4, (16, 16, c)).eval() for c in (1, 3))
    colour.load_state_dict(gray.state_dict())
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(gray(images), colour(images.expand(-1, 3, -1, -1)))
        # normalising by three channels' statistics makes three channels of one: they pass
        torch.testing.assert_close(gray(images.expand(-1, 3, -1, -1)), gray(images))
    with pytest.raises(UsageError, match="4 channels"):
        architecture.build(4, (16, 16, 4))


def test_normalization_is_imagenet_only_with_weights(tmp_path):
    assert ResNet18().normalization is None
    assert ResNet18(weights="none").normalization is None
    assert ResNet18(weights="timm").normalization == IMAGENET
    assert ResNet18(weights=str(tmp_path / "x.pt")).normalization == IMAGENET
    vit = TimmModel(model="vit_tiny_patch16_224", weights="timm")
    assert vit.normalization == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert TimmModel(model="vit_tiny_patch16_224").normalization is None


def test_weights_file_is_the_local_path(tmp_path):
    assert ResNet18().weights_file is None
    assert ResNet18(weights="timm").weights_file is None
    assert ResNet18(weights="timm:resnet18.a1_in1k").weights_file is None
    assert ResNet18(weights=str(tmp_path / "x.pt")).weights_file == tmp_path / "x.pt"


@pytest.mark.parametrize(
    ("model", "first", "size"),
    [
        ("resnet10t", "act1", 64),
        ("mobilenetv3_small_050", "bn1", 64),
        ("vit_tiny_patch16_224", "blocks.0", 224),
        ("convnext_atto", "stages.0", 64),
        ("levit_128s", "body.stages.0", 224),  # two classifiers: one linear layer on timm's pooled features
    ],
)
def test_timm_networks(model, first, size):
    architecture = TimmModel(model=model, upsample=size)
    assert isinstance(architecture, Architecture)
    network = architecture.build(7, (32, 32, 3))
    assert network.training
    seen = outputs(architecture, network, torch.randn(2, 3, 32, 32))
    assert next(iter(seen)) == first
    assert list(seen)[-2:] == ["penultimate", "logits"]
    head = network.get_submodule(architecture.head(network))
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(head(seen["penultimate"]), seen["logits"])


@pytest.mark.parametrize(
    ("model", "taps", "size"),
    [
        ("resnet18", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "penultimate"], 64),
        ("alexnet", [f"features.{k}" for k in (0, 3, 6, 8, 10)] + ["penultimate"], 64),
        ("squeezenet1_1", None, 64),
        ("shufflenet_v2_x0_5", ["conv1", "stage2", "stage3", "stage4", "conv5", "penultimate"], 64),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_networks(model, taps, size, channels):
    architecture = TorchvisionModel(model=model, upsample=size)
    network = architecture.build(7, (32, 32, channels))
    seen = outputs(
        architecture, network, torch.randn(2, channels, 32, 32)
    )  # in-place ReLUs do not change taps
    assert seen["logits"].shape == (2, 7)
    if taps:
        assert list(architecture.taps(network)) == taps
        head = network.get_submodule(architecture.head(network))
        torch.testing.assert_close(head(seen["penultimate"].flatten(1)), seen["logits"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["googlenet", "inception_v3", "densenet121", "mnasnet0_5", "swin_t", "maxvit_t"]
)
def test_more_torchvision_networks(model):
    architecture = TorchvisionModel(model=model, upsample=299 if model == "inception_v3" else 224)
    network = architecture.build(7, (32, 32, 3))
    seen = outputs(architecture, network, torch.randn(2, 3, 32, 32))
    assert seen["logits"].shape == (2, 7)
    assert len(seen) > 3
    assert isinstance(network.train()(torch.randn(2, 3, 32, 32)), torch.Tensor)  # no auxiliary outputs


def test_same_seed_same_weights():
    def draw(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ResNet18(upsample=32).build(5, (32, 32, 3)).state_dict()

    a, b, c = draw(1), draw(1), draw(2)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["trunk.fc.linear.weight"], c["trunk.fc.linear.weight"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet18(upsample=-1), "upsample=-1: must be"),
        (lambda: ResNet18(mode="cubic"), "mode='cubic': must be one of nearest, bilinear, bicubic"),
        (lambda: ResNet18(mode="nearest", antialias=True), "antialias=True"),
        (lambda: ResNet18(weights=""), "weights=''"),
        (lambda: ResNet18(weights="timm:resnet34.tv_in1k"), "must be weights of resnet18"),
        (lambda: TimmModel(model="resnet19"), "model='resnet19': .* did you mean 'resnet18'"),
        (lambda: TimmModel(model="resnet18.tv_in2k"), "no such weights of resnet18; did you mean 'tv_in1k'"),
        (lambda: TimmModel(model="resnet18", weights="timm:nope"), "weights='timm:nope'"),
        (lambda: TorchvisionModel(model="resnet19"), "model='resnet19': .* did you mean 'resnet18'"),
        (lambda: TorchvisionModel(model="fcn_resnet50"), "no such classifier"),
        (
            lambda: TorchvisionModel(model="resnet50", weights="torchvision:V3"),
            "weights='torchvision:V3'.*IMAGENET1K",
        ),
    ],
)
def test_parameters_out_of_range_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_build_rejects_images_the_network_does_not_accept():
    with pytest.raises(UsageError) as error:
        TimmModel(model="vit_tiny_patch16_224", upsample=0).build(5, (32, 32, 3))
    assert "can't take images of 32x32x3" in str(error.value)
    assert "upsample" in error.value.hint


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Empty caches and no reachable host; counts the requests."""
    asked = []

    def refuse(request, timeout=None):
        asked.append(request.full_url)
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return asked


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        (ResNet18(weights="timm"), "model.safetensors of https://huggingface.co/timm/resnet18.tv_in1k"),
        (ResNet18(weights="timm:resnet18.a1_in1k"), "timm/resnet18.a1_in1k"),
    ],
)
def test_timm_hub_offline_error_names_local_file(no_network, architecture, file):
    with pytest.raises(DataError) as error:
        architecture.build(5, (32, 32, 3))
    assert "can't be reached" in error.value.what
    assert file in error.value.hint
    assert "weights='PATH'" in error.value.hint
    assert "kdbench[offline-teacher]" in error.value.hint
    assert len(no_network) == 1  # one request, no retries


def test_torchvision_hub_offline(no_network):
    with pytest.raises(DataError, match=r"resnet18-\w+\.pth is not in the cache .* can't be reached"):
        TorchvisionModel(model="resnet18", weights="torchvision").build(5, (32, 32, 3))
    assert len(no_network) == 1


def test_hf_hub_offline_sends_no_request(no_network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        ResNet18(weights="timm").build(5, (32, 32, 3))
    assert no_network == []


def test_host_with_error_response_is_reachable(monkeypatch):
    def answer(request, timeout=None):
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", None, None)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert reachable("https://example.org/x/y")


def test_weights_in_timm_cache_work_offline(no_network, tmp_path):
    import timm

    source = timm.create_model("resnet18", num_classes=1000)
    repo = tmp_path / "hub" / "models--timm--resnet18.tv_in1k"
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    save_file(dict(source.state_dict()), repo / "snapshots" / "abc" / "model.safetensors")
    model = ResNet18(upsample=0, weights="timm").build(5, (32, 32, 3))
    for name, tensor in model.trunk.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(tensor, source.state_dict()[name]), name
    whole = ResNet18(upsample=0, weights="timm").build(1000, (32, 32, 3))
    assert torch.equal(whole.trunk.fc.linear.weight, source.fc.weight)
    assert no_network == []


def test_weights_in_torch_cache_work_offline(no_network, tmp_path):
    import torchvision

    source = torchvision.models.densenet121(num_classes=1000)
    names = {n: n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") for n in source.state_dict()}
    old = {names[n] if "denselayer" in n else n: t for n, t in source.state_dict().items()}
    assert any("norm.1." in name for name in old)
    file = torchvision.models.DenseNet121_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    torch.save(old, tmp_path / "torch" / "checkpoints" / file)
    model = TorchvisionModel(model="densenet121", upsample=64, weights="torchvision").build(5, (32, 32, 3))
    layer = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(model.trunk.state_dict()[layer], source.state_dict()[layer])
    assert no_network == []
