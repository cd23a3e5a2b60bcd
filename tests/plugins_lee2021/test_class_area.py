"""Class area against scipy's kernel density on LW-A10's fixed grid, analytic cases and invariances."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, gaussian_kde

from kdbench_lee2021.class_area import ClassArea, count_cells


def view(points, labels, n_classes):
    return SimpleNamespace(
        embedding=SimpleNamespace(points=np.asarray(points, np.float32)),
        labels=np.asarray(labels),
        class_names=tuple(f"c{i}" for i in range(n_classes)),
        superclass_of=np.arange(n_classes) // 2,
    )


def clusters(seed=0, n_classes=6, each=30, spread=4.0):
    """Slanted clusters of different sizes, some of which reach beyond the bounding box's margin."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), each)
    shapes = rng.normal(size=(n_classes, 2, 2)) * rng.uniform(0.2, 1.5, (n_classes, 1, 1))
    points = np.einsum("nij,nj->ni", shapes[labels], rng.standard_normal((len(labels), 2)))
    return points + spread * rng.standard_normal((n_classes, 2))[labels], labels


def scipy_ratios(points, labels, n_classes, level, factor, grid=256):
    """LW-A10 literally: scipy.stats.gaussian_kde on one grid over the bounding box plus 5 %."""
    low, high = points.min(0), points.max(0)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axes = [low[d] + (high[d] - low[d]) * (np.arange(grid) + 0.5) / grid for d in (0, 1)]
    where = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")])

    def area(of):
        kde = gaussian_kde(of.T)
        kde.set_bandwidth(kde.scotts_factor() * factor)
        mass = np.sort(kde(where))[::-1]
        return np.searchsorted(np.cumsum(mass), level * mass.sum()) + 1

    whole = area(points)
    return np.array([area(points[labels == c]) / whole for c in range(n_classes)])


@pytest.mark.parametrize(("level", "factor"), [(0.95, 1.0), (0.5, 1.0), (0.8, 0.5), (0.95, 2.0)])
def test_agrees_with_scipy_on_the_fixed_grid(level, factor):
    points, labels = clusters()
    ours = ClassArea(level=level, bandwidth_factor=factor).ratios(points, labels, 6)
    # The difference is the error of the fixed grid, largest for the smallest classes.
    np.testing.assert_allclose(ours, scipy_ratios(points, labels, 6, level, factor), rtol=0.02)


def test_class_spread_like_all_points_has_ratio_one():
    # Every class has the same points, up to a shuffle: kernels differ by Scott's n^(-1/6) alone.
    points = np.random.default_rng(1).standard_normal((3000, 2))
    area = ClassArea(estimator="normal")
    everything = np.concatenate([points, points])
    np.testing.assert_allclose(area.ratios(everything, np.repeat([0, 1], 3000), 2), 1, rtol=1e-3)
    np.testing.assert_allclose(ClassArea().ratios(everything, np.repeat([0, 1], 3000), 2), 1, rtol=0.02)


def test_single_class_has_ratio_one():
    points, _ = clusters()
    assert ClassArea().ratios(points, np.zeros(len(points), int), 1)[0] == pytest.approx(1, abs=1e-9)


def test_kde_region_of_normal_points_is_the_normal_ellipse():
    points = np.random.default_rng(2).standard_normal((20000, 2))
    points = np.concatenate([points, [[-9, -9], [9, 9], [-9, 9], [9, -9]]])  # a box that cuts nothing off
    unit = (points - points.min(0)) / np.ptp(points, axis=0)
    expected = np.pi * chi2.ppf(0.8, 2) * (1 + len(points) ** (-1 / 3)) / 18**2
    assert ClassArea(level=0.8).area(unit) == pytest.approx(expected, rel=0.03)


def test_normal_estimator_is_ratio_of_ellipses():
    points, labels = clusters(3)
    root = [np.sqrt(np.linalg.det(np.cov(points[labels == c].T))) for c in range(6)]
    expected = np.array(root) / np.sqrt(np.linalg.det(np.cov(points.T)))
    np.testing.assert_allclose(ClassArea(estimator="normal").ratios(points, labels, 6), expected, rtol=1e-9)
    unit = (points - points.min(0)) / np.ptp(points, axis=0)
    ellipse = np.pi * chi2.ppf(0.95, 2) * np.sqrt(np.linalg.det(np.cov(unit.T)))
    assert ClassArea(estimator="normal").area(unit) == pytest.approx(ellipse)


@given(
    scale=st.tuples(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4)),
    shift=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    mirror=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_ratios_are_invariant_to_stretch_translation_and_reflection(scale, shift, mirror):
    points, labels = clusters(4, each=15)
    moved = points * np.array(scale) * (-1 if mirror else 1) + shift
    before, after = (ClassArea(grid=64).ratios(p, labels, 6) for p in (points, moved))
    np.testing.assert_allclose(after, before, rtol=5e-3)


def test_rotation_changes_ratios_only_at_the_box():
    points, labels = clusters(5, spread=8.0)
    far = np.array([[40, 40], [-40, 40], [40, -40], [-40, -40]])  # so far out that no box cuts a class
    points, labels = np.concatenate([points, far]), np.concatenate([labels, np.arange(4)])
    keep = len(points) - 4
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    area = ClassArea()
    ratios = []
    for p in (points, points @ turn.T):
        unit = (p - p.min(0)) / np.ptp(p, axis=0)
        ratios.append([area.area(unit[:keep][labels[:keep] == c]) / area.area(unit[:keep]) for c in range(6)])
    np.testing.assert_allclose(ratios[1], ratios[0], rtol=5e-3)


def test_ratio_is_proportional_to_class_area():
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(20), 40)
    centres, offsets = rng.uniform(-10, 10, (20, 2))[labels], rng.standard_normal((800, 2))
    loose, tight = (ClassArea().ratios(centres + s * offsets, labels, 20) for s in (0.2, 0.02))
    np.testing.assert_allclose(np.median(loose / tight), 100, rtol=0.1)


def test_values_summarise_classes_and_count_those_without_area():
    points, labels = clusters()
    labels = labels.copy()
    labels[labels == 4] = 0  # class 4 has no point at all
    points[labels == 5] = np.linspace(0, 1, 30)[:, None] * [1.0, 2.0] + [3, 3]  # class 5 lies on a line
    labels[np.flatnonzero(labels == 3)[2:]] = 1  # class 3 has two points
    result = ClassArea()(view(points, labels, 6))
    ratio = result.arrays["ratio"]
    assert ratio.shape == (6,)
    np.testing.assert_array_equal(np.isnan(ratio), [False, False, False, True, True, True])
    finite = ratio[:3]
    np.testing.assert_array_equal(result.arrays["label"], labels)
    np.testing.assert_array_equal(result.arrays["superclass"], [0, 0, 1, 1, 2, 2])
    assert result.values["left_out"] == 3
    assert result.values["median"] == pytest.approx(np.median(finite))
    assert result.values["mean"] == pytest.approx(finite.mean())
    assert (result.values["q25"], result.values["q75"]) == pytest.approx(
        tuple(np.quantile(finite, [0.25, 0.75]))
    )
    assert result.setting == "n=180, kde, level=0.95"
    assert ClassArea(bandwidth_factor=2)(view(points, labels, 6)).setting.endswith("bandwidth x2")
    assert ClassArea(estimator="normal", level=0.5)(view(points, labels, 6)).setting == "n=180, normal"


@pytest.mark.parametrize("points", [np.zeros((12, 2)), np.arange(12)[:, None] * [1.0, -3.0]])
def test_collapsed_embedding_reports_no_area(points):
    result = ClassArea()(view(points, np.arange(12) % 3, 3))
    assert result.values == {"left_out": 3}
    assert np.isnan(result.arrays["ratio"]).all()


def test_count_cells_counts_last_cell_in_part():
    mass = np.array([[1.0, 4.0], [2.0, 1.0]])
    assert count_cells(mass, 0.5) == pytest.approx(1)
    assert count_cells(mass, 0.75) == pytest.approx(2)
    assert count_cells(mass, 0.8125) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((6, 3)), np.zeros(6, int), "two-dimensional"),
        (np.zeros((6, 2)), np.zeros(5, int), "do not fit"),
        (np.zeros((0, 2)), np.zeros(0, int), "do not fit"),
        (np.full((6, 2), np.nan), np.zeros(6, int), "not finite"),
    ],
)
def test_invalid_embedding_is_rejected(points, labels, message):
    with pytest.raises(ValueError, match=message):
        ClassArea()(view(points, labels, 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"level": 0}, "level=0: 0 < level < 1"),
        ({"level": 1.0}, "level"),
        ({"bandwidth_factor": 0}, "bandwidth_factor=0"),
        ({"bandwidth_factor": float("nan")}, "bandwidth_factor"),
        ({"grid": 8}, "grid=8: 16"),
        ({"estimator": "histogram"}, "estimator='histogram'.*'normal'"),
    ],
)
def test_parameter_out_of_range_is_rejected(params, message):
    with pytest.raises(ValueError, match=message):
        ClassArea(**params)


def test_too_small_bandwidth_is_rejected():
    points, labels = clusters()
    with pytest.raises(ValueError, match="bandwidth_factor is too small"):
        ClassArea(bandwidth_factor=1e-3).ratios(points, labels, 6)
