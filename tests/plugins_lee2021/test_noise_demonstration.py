"""The noise demonstration as a metric."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from kdbench_lee2021.noise_demonstration import NoiseDemonstration
from kdbench_lee2021.noise_figure import COLOURS, NoisePanel, blobs, draw, within_share


def first_two(X):
    return X[:, :2]


def view(**reducers):
    return SimpleNamespace(reducers=reducers)


def test_values_per_reducer_and_noise_level():
    metric = NoiseDemonstration(noise=(0.0, 0.5, 2.0), clusters=4, points=30, features=6)
    result = metric(SimpleNamespace(reducers={"tsne[k=3]": first_two, "B": lambda X: X[:, 2:4]}))
    for level in (0.0, 0.5, 2.0):
        X, labels = blobs(seed=0, noise=level, n_clusters=4, points_per_cluster=30, n_features=6)
        assert result.values[f"tsne-k-3.noise-{level:g}"] == pytest.approx(within_share(X[:, :2], labels))
        assert result.values[f"b.noise-{level:g}"] == pytest.approx(within_share(X[:, 2:4], labels))
        assert result.values[f"features.noise-{level:g}"] == pytest.approx(within_share(X, labels))
    shares = [v for k, v in result.values.items() if not k.startswith(("features", "within"))]
    assert len(shares) == 6
    assert result.values["within"] == pytest.approx(np.mean(shares))
    assert result.setting == "n=120, d=6, 4 clusters"


def test_arrays_contain_the_data_of_the_figure():
    metric = NoiseDemonstration(noise=(0.5, 1.0), clusters=3, points=5, seed=4)
    result = metric(view(a=first_two, b=lambda X: X[:, 2:4]))
    points, labels = result.arrays["points"], result.arrays["labels"]
    assert points.shape == (2, 2, 15, 2)
    X, expected = blobs(seed=4, noise=1.0, n_clusters=3, points_per_cluster=5)
    np.testing.assert_array_equal(points[1, 1], X[:, 2:4])
    np.testing.assert_array_equal(labels, expected)
    assert result.arrays["share"][1, 0] == result.values["b.noise-0.5"]
    assert result.arrays["share-before"][1] == result.values["features.noise-1"]
    panels = result.figures["panels"].axes
    assert [ax.get_title() for ax in panels] == ["noise 0.5", "noise 1"] * 2
    np.testing.assert_array_equal(panels[3].collections[0].get_offsets(), points[1, 1])


def test_markers_distinguish_more_clusters_than_colours():
    labels = np.repeat(np.arange(23), 2)
    points = np.random.default_rng(0).normal(size=(46, 2)).astype(np.float32)
    [ax] = draw([NoisePanel("r", 1.0, points, labels, 0.5, 0.5)]).axes
    looks = [
        (to_hex(colour), path.tobytes())
        for group in ax.collections
        for path in [group.get_paths()[0].vertices]
        for colour in group.get_facecolors()
    ]
    assert len(looks) == 46
    assert len(set(looks)) == 23
    assert len(set(COLOURS)) == 10


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"noise": ()}, r"noise=\(\)"),
        ({"noise": (1.0, 1.0)}, "different"),
        ({"noise": (-0.5,)}, "-0.5"),
        ({"noise": (float("nan"),)}, "nan"),
        ({"clusters": 1}, "clusters=1"),
        ({"points": 1}, "points=1"),
        ({"features": 0}, "features=0"),
    ],
)
def test_parameters_out_of_range_are_rejected(params, said):
    with pytest.raises(ValueError, match=said):
        NoiseDemonstration(**params)


def test_labels_with_equal_value_names_are_rejected():
    with pytest.raises(ValueError, match="a 1, a=1"):
        NoiseDemonstration(points=2)(SimpleNamespace(reducers={"a=1": first_two, "a 1": first_two}))
