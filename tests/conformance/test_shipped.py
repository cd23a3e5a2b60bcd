"""What kdbench ships keeps its contracts: every component of the registry, but for schemes, which have a file of
their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kdbench.registry import Registry
from kdbench.testing import KINDS, Target, checks_for, parametrize_with_checks

#: Parameters with which a component is tried: of families a member, of the others what takes less time.
PARAMS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "reducers/tsne": [("tsne", {"perplexity": 10.0, "early_exaggeration_iter": 50, "n_iter": 100})],
    "reducers/umap": [("umap", {"n_epochs": 30})],
    "reducers/ivis-torch": [("ivis-torch", {"k": 15, "epochs": 5, "batch_size": 32})],
    "metrics/accuracy": [("accuracy", {}), ("accuracy", {"selection": "best-validation"})],
    "metrics/superclass-correlation": [
        ("superclass-correlation", {}),
        ("superclass-correlation", {"of": "softmax"}),
    ],
    "metrics/class-area": [("class-area", {"grid": 64}), ("class-area", {"estimator": "normal"})],
    "metrics/noise-demonstration": [
        ("noise-demonstration", {"clusters": 3, "points": 20, "noise": (0.5, 1.0)})
    ],
    "datasets/shapes": [("shapes", {"n_train": 20, "n_test": 20, "n_superclasses": 2})],
    "datasets/image-folder": [("image-folder", {"path": "pictures", "size": 16})],
    "architectures/wide-resnet": [
        ("wide-resnet", {"depth": 10}),
        ("wide-resnet", {"depth": 10, "width": 2, "dropout": 0.3}),
    ],
    "architectures/resnet18": [("resnet18", {"upsample": 64})],
    "architectures/efficientnet-lite0": [("efficientnet-lite0", {"upsample": 64})],
    "architectures/timm/*": [("timm/resnet10t", {"upsample": 64})],
    "architectures/torchvision/*": [("torchvision/shufflenet_v2_x0_5", {"upsample": 64})],
}
#: Tried below: the package ivis, whose every fit takes seconds, by the checks that its process could break.
APART = {"reducers/ivis"}
IVIS = {
    "input-unchanged",
    "same-seed-same-result",
    "given-neighbours-are-used",
    "beats-random-projection",
    "loss-history",
    "transform",
    "leaves-global-state-alone",
}
REGISTRY = Registry.discover()


def shipped() -> list[Target]:
    found = []
    for kind in KINDS:
        for spec in REGISTRY.specs(kind):
            id_ = f"{kind}/{spec.name}"
            if kind == "schemes" or id_ in APART:
                continue
            found += [
                Target(kind, name, REGISTRY, params) for name, params in PARAMS.get(id_, [(spec.name, {})])
            ]
    return found


@parametrize_with_checks([t for t in shipped() if t.id.partition("[")[0] != "datasets/image-folder"])
def test_a_shipped_component_keeps_its_contract(check):
    check()


def test_images_of_one_s_own_keep_their_contract(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for i, colour in enumerate(("red", "green", "blue")):
            (tmp_path / "pictures" / split / colour).mkdir(parents=True)
            for n in range(2):
                Image.new("RGB", (20 + i, 18), colour).save(
                    tmp_path / "pictures" / split / colour / f"{n}.png"
                )
    (tmp_path / "pictures" / "superclasses.toml").write_text('warm = ["red"]\ncold = ["green", "blue"]\n')
    ((name, params),) = PARAMS["datasets/image-folder"]
    fixture = Target("datasets", name, REGISTRY, params, {"folders": (tmp_path,)}).fixture
    found = {check.name: check.finding(fixture) for check in checks_for("datasets")}
    assert {n for n, f in found.items() if f.status != "passed"} == {"masks"}
    assert found["masks"].status == "not applicable"


@pytest.mark.slow
def test_the_ivis_package_keeps_its_contract():
    pytest.importorskip("ivis")
    fixture = Target("reducers", "ivis", REGISTRY, {"k": 15, "epochs": 2, "batch_size": 100}).fixture
    checks = [check for check in checks_for("reducers") if check.name in IVIS]
    assert len(checks) == len(IVIS)
    for check in checks:
        check(fixture)


@pytest.mark.slow
@pytest.mark.realdata
def test_cifar100_keeps_its_contract():
    places = [Path(__file__).parents[3] / "shared" / "data"]
    if "KDBENCH_DATA" in os.environ:
        places.insert(0, Path(os.environ["KDBENCH_DATA"]))
    folders = tuple(p for p in places if p.is_dir())
    fixture = Target("datasets", "cifar100", REGISTRY, {}, {"folders": folders}).fixture
    # each of the others would decode it once more
    once = {"images", "labels", "class-names", "superclasses", "read-only"}
    found = {check.name: check.finding(fixture) for check in checks_for("datasets") if check.name in once}
    assert set(found) == once
    if found["images"].status == "not applicable":
        pytest.skip(found["images"].sentence)
    assert {n: f.sentence for n, f in found.items() if f.status != "passed"} == {}
