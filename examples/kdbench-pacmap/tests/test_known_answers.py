"""What this reducer does beyond the contract: the package's own result, seeds, and what it refuses."""

import numpy as np
import pytest
from kdbench_pacmap.pacmap import PaCMAP


@pytest.fixture(scope="module")
def rows():
    """(120, 8): three clusters of 40."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(120, 8)) + 6 * rng.normal(size=(3, 8)).repeat(40, axis=0)).astype(np.float32)


def test_it_is_what_the_package_computes(rows):
    pacmap = pytest.importorskip("pacmap")
    theirs = pacmap.PaCMAP(n_neighbors=7, MN_ratio=1.0, num_iters=(20, 20, 40), random_state=3)
    ours = PaCMAP(n_neighbors=7, mid_near_ratio=1.0, iterations=(20, 20, 40), random_state=3)
    np.testing.assert_array_equal(ours.fit_transform(rows), theirs.fit_transform(rows.copy()))


def test_clusters_stay_apart(rows):
    points = PaCMAP(random_state=0).fit_transform(rows)
    centres = points.reshape(3, 40, 2).mean(axis=1)
    nearest = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)
    assert (nearest == np.arange(3).repeat(40)).all()


def test_another_seed_is_another_embedding(rows):
    one, other = (PaCMAP(random_state=seed).fit_transform(rows) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_few_rows_are_refused_rather_than_given_fewer_pairs(rows):
    with pytest.raises(ValueError, match="at least 37 rows"):
        PaCMAP().fit_transform(rows[:36])
    assert PaCMAP(random_state=0).fit_transform(rows[:37]).shape == (37, 2)


@pytest.mark.parametrize(
    "bad",
    [{"n_neighbors": 0}, {"further_ratio": 0.0}, {"iterations": (1, 2)}, {"mid_near_ratio": float("nan")}],
)
def test_a_bad_value_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        PaCMAP(**bad)
