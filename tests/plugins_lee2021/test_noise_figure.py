"""The noise demonstration."""

from __future__ import annotations

import numpy as np
import pytest

from kdbench_lee2021.noise_figure import blobs, draw, noise_demonstration, within_share


def first_two(X):
    return X[:, :2]


def test_panels_differ_only_in_noise_scale():
    quiet, labels = blobs(seed=7, noise=0.0)
    low, _ = blobs(seed=7, noise=0.5)
    high, _ = blobs(seed=7, noise=1.0)
    np.testing.assert_allclose(high - quiet, 2 * (low - quiet), atol=1e-5)
    assert low.dtype == np.float32
    assert np.std(high - quiet) == pytest.approx(1, rel=0.02)
    assert all(len(np.unique(quiet[labels == c], axis=0)) == 1 for c in range(10))
    assert not np.array_equal(blobs(seed=8, noise=0.5)[0], low)


def test_within_share_is_the_sum_of_squares_of_anova():
    rng = np.random.default_rng(0)
    points, labels = rng.standard_normal((90, 2)), rng.integers(3, 6, 90)
    within = sum(((points[labels == c] - points[labels == c].mean(0)) ** 2).sum() for c in (3, 4, 5))
    assert within_share(points, labels) == pytest.approx(within / ((points - points.mean(0)) ** 2).sum())
    assert within_share(np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])) == 0
    assert within_share(points, np.zeros(90, int)) == pytest.approx(1)
    with pytest.raises(ValueError, match="are equal"):
        within_share(np.ones((4, 2)), np.arange(4))


def test_within_share_increases_with_noise():
    panels = noise_demonstration(seed=0, reducers={"axes": first_two, "swapped": lambda X: X[:, 1::-1]})
    assert [(p.reducer, p.noise) for p in panels[:4]] == [("axes", s) for s in (0.25, 0.5, 1.0, 2.0)]
    for rows in (panels[:4], panels[4:]):
        for spread in ([p.spread for p in rows], [p.spread_before for p in rows]):
            assert spread == sorted(spread)
    assert panels[0].spread == pytest.approx(panels[4].spread)
    assert panels[3].spread_before == pytest.approx(4 / (4 + 1), abs=0.05)  # variances add up


def test_figure_has_row_per_reducer_and_column_per_level():
    figure = draw(
        noise_demonstration(seed=0, reducers={"axes": first_two}, noise=(0.1, 1.0), points_per_cluster=5)
    )
    assert [ax.get_title() for ax in figure.axes] == ["noise 0.1", "noise 1"]
    assert all(len(ax.collections[0].get_offsets()) == 50 for ax in figure.axes)


def test_invalid_input_is_rejected():
    with pytest.raises(ValueError, match="noise=-1"):
        blobs(seed=0, noise=-1)
    with pytest.raises(ValueError, match="n_clusters=0"):
        blobs(seed=0, noise=1, n_clusters=0)
    with pytest.raises(ValueError, match="at least one"):
        noise_demonstration(seed=0, reducers={})
    with pytest.raises(ValueError, match=r"'identity' returned shape \(1000, 64\)"):
        noise_demonstration(seed=0, reducers={"identity": lambda X: X})
