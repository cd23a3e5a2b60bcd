"""Weights files: which are loaded, which are rejected, and the error messages."""

from __future__ import annotations

import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdbench.errors import DataError
from kdbench_networks.timm_models import ResNet18
from kdbench_networks.weights import load_weights, read_weights


def small(n_classes: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 5, 3),
                bn=nn.BatchNorm2d(5),
                pool=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                fc=nn.Linear(5, n_classes),
            )
        )


def equal(a: nn.Module, b: nn.Module, besides: str = "\0") -> bool:
    other = b.state_dict()
    return all(torch.equal(t, other[n]) for n, t in a.state_dict().items() if not n.startswith(besides))


@pytest.fixture(params=["x.safetensors", "x.pt", "x.pth", "checkpoint.pt", "parallel.pt"])
def saved(request, tmp_path):
    """One network's weights in every supported file format."""
    model = small(seed=7)
    path = tmp_path / request.param
    state = dict(model.state_dict())
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.stem == "checkpoint":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif path.stem == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save(model.state_dict(), path)
    return model, path


def test_every_file_format_is_read(saved):
    model, path = saved
    target = small(seed=1)
    loaded = load_weights(target, read_weights(path), head="fc", where=str(path))
    assert equal(target, model)
    assert loaded.head
    assert loaded.tensors == len(model.state_dict())


def test_classifier_of_another_class_count_is_skipped():
    model, target, untouched = small(9, seed=7), small(4, seed=1), small(4, seed=1)
    loaded = load_weights(target, model.state_dict(), head="fc", where="x")
    assert not loaded.head
    assert equal(target, model, besides="fc.")
    assert torch.equal(target.fc.weight, untouched.fc.weight)
    assert torch.equal(target.fc.bias, untouched.fc.bias)


def test_file_without_classifier_is_loaded():
    state = {n: t for n, t in small(seed=7).state_dict().items() if not n.startswith("fc.")}
    target = small(seed=1)
    assert not load_weights(target, state, head="fc", where="x").head
    assert equal(target, small(seed=7), besides="fc.")


def test_counters_of_batch_normalisation_may_be_missing():
    state = {n: t for n, t in small(seed=7).state_dict().items() if not n.endswith("num_batches_tracked")}
    target = small(seed=1)
    load_weights(target, state, head="fc", where="x")
    assert equal(target, small(seed=7))


def test_half_precision_is_loaded_as_float32():
    target = small(seed=1)
    load_weights(target, small(seed=7).half().state_dict(), head="fc", where="x")
    assert target.conv.weight.dtype == torch.float32
    torch.testing.assert_close(target.conv.weight, small(seed=7).conv.weight, rtol=1e-3, atol=1e-3)


def change(state, how):
    state = dict(state)
    if how == "missing":
        del state["conv.weight"]
    elif how == "unknown":
        state["extra.weight"] = torch.zeros(2)
    elif how == "shape":
        state["conv.weight"] = torch.zeros(5, 1, 3, 3)
    elif how == "type":
        state["conv.weight"] = torch.zeros(5, 3, 3, 3, dtype=torch.int8)
    elif how == "nan":
        state["conv.bias"] = torch.full((5,), float("nan"))
    elif how == "half a classifier":
        del state["fc.bias"]
    elif how == "classifier of another network":
        state["fc.weight"] = torch.zeros(4, 6)
    return state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "1 missing: conv.weight"),
        ("unknown", "1 unknown: extra.weight"),
        ("shape", "1 of another shape: conv.weight is 5x1x3x3, the network's is 5x3x3x3"),
        ("type", "conv.weight holds torch.int8"),
        ("nan", "not finite: conv.bias"),
        ("half a classifier", "1 missing: fc.bias"),
        ("classifier of another network", "fc.weight is 4x6, the network's is 4x5"),
    ],
)
def test_mismatch_is_rejected_and_nothing_is_loaded(how, says):
    target, before = small(seed=1), small(seed=1)
    with pytest.raises(DataError) as error:
        load_weights(target, change(small(seed=7).state_dict(), how), head="fc", where="the file")
    assert says in str(error.value)
    assert str(error.value).startswith("the file: ")
    assert equal(target, before)


def test_long_list_of_names_is_shortened():
    with pytest.raises(DataError) as error:
        load_weights(small(), {f"n{k}": torch.zeros(1) for k in range(50)}, head="fc", where="x")
    assert "50 unknown: n0; n1; n2; n3; n4; ..." in str(error.value)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (self.target,)

    def __init__(self, target: str) -> None:
        self.target = target


def test_pickled_code_is_rejected_and_not_run(tmp_path):
    path, trace = tmp_path / "bomb.pt", tmp_path / "ran"
    torch.save({"conv.weight": torch.zeros(1), "x": Bomb(str(trace))}, path)
    with pytest.raises(DataError, match="pickled code or objects other than tensors"):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.safetensors", "x.bin"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02}", b"PK\x03\x04" + b"\0" * 40])
def test_other_file_raises_data_error(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_weights(path)
    assert str(path) in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_file_raises_data_error(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    state = small().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list"),
        ({"lr": 0.1}, "'lr': float"),
        ({}, "nothing"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_file_of_other_objects_raises_data_error(tmp_path, content, says):
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(DataError, match=says):
        read_weights(path)


def test_missing_files_folders_and_other_suffixes(tmp_path):
    with pytest.raises(DataError, match="there is no such weights file"):
        read_weights(tmp_path / "absent.pt")
    with pytest.raises(DataError, match="is a folder"):
        read_weights(tmp_path)
    odd = tmp_path / "weights.h5"
    odd.write_bytes(b"x")
    with pytest.raises(DataError, match=r"\.h5 is not a kind of weights file"):
        read_weights(odd)


def test_resnet18_from_kdbench_and_library_files(tmp_path):
    """Files with kdbench's tensor names and with the library's both load."""
    architecture = ResNet18(upsample=0)
    model = architecture.build(6, (32, 32, 3)).eval()
    path = tmp_path / "teacher.safetensors"
    save_file(dict(model.state_dict()), path)
    again = ResNet18(upsample=0, weights=str(path)).build(6, (32, 32, 3)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    other = ResNet18(upsample=0, weights=str(path)).build(11, (32, 32, 3)).eval()
    assert equal(other.trunk.layer4, model.trunk.layer4)
    assert other(images).shape == (2, 11)


def test_resnet18_rejects_weights_of_another_network(tmp_path):
    path = tmp_path / "small.pt"
    torch.save(small().state_dict(), path)
    with pytest.raises(DataError, match="do not fit the network"):
        ResNet18(weights=str(path)).build(6, (32, 32, 3))
