"""`kdbench.embed` and `kdbench.score`: somebody's own networks, against a suite's records and scikit-learn."""

import numpy as np
import pytest
import torch
from torch import nn

import kdbench
from kdbench.api import Normalization
from kdbench.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def own_cache(cache_home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


class Small(nn.Module):
    """Two layers and a classifier; a child that the forward pass leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(16, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.hidden(self.pool(self.conv(x)).flatten(1))))


@pytest.fixture
def small() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


@pytest.fixture
def tensors() -> torch.Tensor:
    return torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))


LABELS = np.arange(24) % 5


def student(finished) -> tuple:
    """(weights file, record, suite) of the undistilled student of a finished suite."""
    plan, store, report = finished
    cell = next(c for c in plan.cells if c.scheme == "undistilled")
    record = next(c for c in report.cells if c.key == cell.key)
    return store.open(cell.network).folder / "model.safetensors", record, plan.suite


def test_a_size_that_no_balanced_draw_has_is_refused_by_its_name():
    with pytest.raises(
        UsageError, match=r"size: 105 .* can't be balanced over 10 classes[\s\S]*multiple of 10"
    ):
        kdbench.embed("wide-resnet", "digits", taps=["E"], reducer="pca", size=105)


def test_a_checkpoint_scores_what_the_suite_recorded_of_it(finished):
    path, record, suite = student(finished)
    network = kdbench.Network(path, architecture="wide-resnet", params={"depth": 10}, name="mine")
    dataset = {"name": "shapes", **suite.data.dataset.params}
    recorded = {(r.metric, r.value_name, r.tap, r.reducer): r.value for r in record.results}
    whole = kdbench.score(network, data=dataset, size=50, metrics=["accuracy", "superclass-correlation"])
    found = {(r["metric"], r["value_name"], r["tap"], r["reducer"]): r["value"] for r in whole.rows}
    assert found[("superclass-correlation", "r", None, None)] == pytest.approx(
        recorded[("superclass-correlation", "r", None, None)], abs=1e-5
    )
    assert whole.value("accuracy") == recorded[("accuracy", "accuracy", None, None)]
    area = {"name": "class-area", "grid": 32, "label": "class-area"}
    embedded = kdbench.score(network, data=dataset, size=30, taps=["E"], reducers=["pca"], metrics=[area])
    assert embedded.value("class-area", tap="E") == pytest.approx(
        recorded[("class-area", "median", "E", "pca")], rel=1e-3
    )


def test_an_embedding_is_what_scikit_learn_makes_of_the_activations(small, tensors):
    from sklearn.decomposition import PCA

    found = kdbench.embed(small, tensors, reducer=PCA(2, svd_solver="full"))
    assert list(found) == ["conv", "hidden"]
    with torch.no_grad():
        activations = small.conv(tensors).flatten(1).numpy().astype(np.float64)
    oracle = PCA(2, svd_solver="full").fit_transform(activations)
    points = found["conv"].points
    assert points.shape == (24, 2)
    assert found["conv"].n_features == 4 * 8 * 8
    signs = np.sign((points * oracle).sum(0))
    assert points * signs == pytest.approx(oracle, abs=5e-3)  # activations are kept in half precision


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e6])
def test_activations_of_any_size_are_kept(small, tensors, scale):
    """The same network in other units: half precision would make them zeros, or infinite."""
    whole = kdbench.score(
        small, data=(tensors, LABELS), taps=["hidden"], metrics=["knn-accuracy", "effective-rank"]
    )
    with torch.no_grad():
        small.hidden.weight *= scale
        small.hidden.bias *= scale
    scaled = kdbench.score(
        small, data=(tensors, LABELS), taps=["hidden"], metrics=["knn-accuracy", "effective-rank"]
    )
    for one, two in zip(whole.rows, scaled.rows, strict=True):
        assert [one[c] for c in ("metric", "tap")] == [two[c] for c in ("metric", "tap")]
        assert one["value"] == pytest.approx(two["value"], rel=2e-2)


def test_what_gives_no_value_is_left_out_with_a_reason(small, tensors):
    with torch.no_grad():
        small.hidden.weight.zero_()  # every image alike: no rank to speak of
    scores = kdbench.score(
        small, data=(tensors, LABELS), taps=["hidden"], metrics=["accuracy", "effective-rank"]
    )
    assert not [r for r in scores.rows if r["metric"] == "effective-rank" and r["primary"]]
    assert any("effective-rank" in reason and "hidden" in reason for reason in scores.exclusions)


def test_the_callers_network_stays_as_it_is(small, tensors):
    before = {k: v.clone() for k, v in small.state_dict().items()}
    small.train()
    kdbench.embed(small, tensors)
    assert small.training
    assert all(p.requires_grad for p in small.parameters())
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())
    assert not small.conv._forward_hooks


def test_images_come_in_many_forms_and_give_the_same(small):
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    channels = torch.from_numpy(images).permute(0, 3, 1, 2)
    normal = (channels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    network = kdbench.Network(small, normalization=Normalization(mean, std), name="small")
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(normal, torch.from_numpy(LABELS)), batch_size=7
    )
    forms = [(images, LABELS), (channels, LABELS), (normal, torch.from_numpy(LABELS)), loader]
    found = [kdbench.score(network, data=form, metrics=["accuracy", "linear-probe"]) for form in forms]
    for other in found[1:]:
        assert [r["value"] for r in other.rows] == pytest.approx(
            [r["value"] for r in found[0].rows], abs=1e-4
        )
    with torch.no_grad():
        oracle = float((network.model(normal).argmax(1).numpy() == LABELS).mean())
    assert found[0].value("accuracy") == pytest.approx(oracle)


def test_a_teacher_is_looked_at_by_what_compares(small, tensors):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        other = Small()
    metrics = ["fidelity", "cka", "knn-accuracy", "neural-collapse", "superclass-confusion"]
    pair = kdbench.score(
        small, kdbench.Network(other, name="teacher"), data=(tensors, LABELS), metrics=metrics
    )
    with torch.no_grad():
        oracle = float((small(tensors).argmax(1) == other(tensors).argmax(1)).float().mean())
    assert pair.value("fidelity") == pytest.approx(oracle)
    twins = kdbench.score(small, small, data=(tensors, LABELS), metrics=["fidelity", "cka"])
    assert twins.value("fidelity") == 1.0
    assert {r["network"] for r in pair.rows if r["metric"] == "knn-accuracy"} == {"Small", "teacher"}
    assert {r["network"] for r in pair.rows if r["metric"] == "cka"} == {"Small"}
    assert {r["tap"] for r in pair.rows if r["metric"] == "neural-collapse"} == {
        "hidden"
    }  # what the head sees
    assert any("no superclasses" in reason for reason in pair.exclusions)
    assert any(reason.startswith("metric fidelity of teacher") for reason in pair.exclusions)
    assert len(pair.frame()) == len(pair.rows)


def test_a_named_network_of_timm_is_built_and_embedded(tensors):
    network = kdbench.Network("timm/resnet10t", params={"upsample": None, "weights": "none"})
    found = kdbench.embed(network, tensors[:8], taps=["layer4", "layer1"], reducer="random-projection")
    assert list(found) == ["layer1", "layer4"]  # in the network's order
    assert found["layer4"].points.shape == (8, 2)
    again = kdbench.embed(network, tensors[:8], taps=["layer4"], reducer="random-projection", seed=1)
    assert not np.allclose(again["layer4"].points, found["layer4"].points)


def test_weights_of_a_trainer_are_found_inside_its_file(small, tensors, tmp_path):
    inside = {"state_dict": {f"module.{k}": v for k, v in small.state_dict().items()}, "epoch": 3}
    torch.save(inside, tmp_path / "last.pt")
    found = kdbench.embed(kdbench.Network(tmp_path / "last.pt", architecture=Small()), tensors)
    assert found["hidden"].points == pytest.approx(kdbench.embed(small, tensors)["hidden"].points)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda f, s: kdbench.Network(f / "gone.pt", architecture=s), DataError, "no such file"),
        (lambda f, s: kdbench.Network(f / "text.pt", architecture=s), DataError, "not a file of weights"),
        (lambda f, s: kdbench.Network(f / "other.pt", architecture=s), DataError, "they lack conv.weight"),
        (lambda f, s: kdbench.Network(f / "shape.pt", architecture=s), DataError, "another shape of fc.bias"),
        (lambda f, s: f / "other.pt", UsageError, "holds weights, not a network"),
        (lambda f, s: kdbench.Network("timm/resnet10t", architecture=s), UsageError, "is no file of weights"),
        (lambda f, s: kdbench.Network(s, params={"depth": 3}), UsageError, "needs no architecture"),
        (lambda f, s: kdbench.Network(s, taps={"a": "hiden"}), UsageError, "there is no module 'hiden'"),
        (lambda f, s: "wide-resnt", UsageError, "no 'wide-resnt'"),
    ],
)
def test_a_network_that_can_not_be_had_is_told(given, error, message, small, tensors, tmp_path):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save({**small.state_dict(), "fc.bias": torch.zeros(7)}, tmp_path / "shape.pt")
    with pytest.raises(error, match=message):
        kdbench.embed(given(tmp_path, small), tensors)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), "no labels"),
        ((np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int)), "how uint8 images are normalised"),
        ((torch.zeros(4, 3, 8, 8), np.zeros(3, int)), r"labels \(3,\)"),
        ((torch.zeros(4, 3, 8, 8), np.zeros(4)), "of float64"),
        (np.zeros((4, 3, 8, 8)), "images"),
        ([{"image": 1}], "a loader yields dict"),
        (torch.zeros(0, 3, 8, 8), "there are no images"),
        (3, "none of what images can be"),
    ],
)
def test_data_that_can_not_be_read_are_told(data, message, small):
    with pytest.raises(UsageError, match=message):
        kdbench.score(small, data=data, metrics=["accuracy"])


def test_what_can_not_be_measured_is_told(small, tensors):
    with pytest.raises(UsageError, match="no 'acuracy'"):
        kdbench.score(small, data=(tensors, LABELS), metrics=["acuracy"])
    with pytest.raises(UsageError, match="no metric was named"):
        kdbench.score(small, data=(tensors, LABELS), metrics=[])
    with pytest.raises(UsageError, match="no precision 'float8'"):
        kdbench.score(small, data=(tensors, LABELS), metrics=["accuracy"], precision="float8")
    with pytest.raises(UsageError, match="no metric could be computed") as caught:
        kdbench.score(small, data=(tensors, LABELS), metrics=["silhouette"])
    assert "there are no reducers" in caught.value.hint
    with pytest.raises(UsageError, match="40 neighbours"):
        kdbench.score(small, data=(tensors, LABELS), metrics=[{"name": "knn-accuracy", "k": 40}])
    with pytest.raises(UsageError, match=r"has no tap 'nothing\.like'"):
        kdbench.embed(small, tensors, taps=["nothing.like"])
    nested = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.LazyLinear(5))
    nested(tensors)
    with pytest.raises(UsageError, match=r"has no tap '0\.0'") as caught:
        kdbench.embed(nested, tensors, taps=["0.0"])
    assert "Network(model, taps={'mine': '0.0'})" in caught.value.hint
    with pytest.raises(UsageError, match="has no tap 'hiden'"):
        kdbench.embed(small, tensors, taps=["hiden"])
    with pytest.raises(UsageError, match="has no fit_transform"):
        kdbench.embed(small, tensors, reducer=3)
    with pytest.raises(DataError, match="not finite"):
        kdbench.embed(small, torch.full((4, 3, 8, 8), float("nan")))
    with pytest.raises(KeyError, match="2 values"):
        kdbench.score(small, data=(tensors, LABELS), metrics=["linear-probe"]).value("linear-probe")
