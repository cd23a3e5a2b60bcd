"""Resident images, views and batches, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdbench.api import Normalization
from kdbench.training.data import (
    Augmentation,
    FeatureSource,
    ImageSource,
    dataset_normalization,
    generator_for,
    shuffled,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 6, 7, 3), dtype=np.uint8)
NORM = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
ROWS = np.array([3, 4, 8, 11, 12, 20, 29])


def view_of(image: np.ndarray, view: int, flip: bool, shift: int) -> np.ndarray:
    """(h, w, c) as seen in a view, in plain Python: shifted within zeros, then mirrored."""
    flips = 2 if flip else 1
    place, mirrored = divmod(view, flips)
    down, right = divmod(place, 2 * shift + 1)
    down, right = down - shift, right - shift
    h, w, _ = image.shape
    out = np.zeros_like(image)
    for y in range(h):
        for x in range(w):
            if 0 <= y + down < h and 0 <= x + right < w:
                out[y, x] = image[y + down, x + right]
    return out[:, ::-1] if mirrored else out


@pytest.mark.parametrize(("flip", "shift"), [(False, 0), (True, 0), (False, 2), (True, 1), (True, 4)])
def test_every_view_is_what_plain_numpy_makes_of_it(flip, shift):
    augmentation = Augmentation(flip, shift)
    n = (2 if flip else 1) * (2 * shift + 1) ** 2
    assert augmentation.n_views == n
    image = IMAGES[0]
    batch = torch.from_numpy(np.repeat(image[None], n, 0)).permute(0, 3, 1, 2)
    seen = augmentation.apply(batch, torch.arange(n)).permute(0, 2, 3, 1).numpy()
    for view in range(n):
        assert np.array_equal(seen[view], view_of(image, view, flip, shift)), view


def test_views_are_drawn_evenly_and_from_their_generator():
    augmentation = Augmentation(True, 1)
    views = augmentation.draw(18_000, generator_for(1))
    counts = np.bincount(views.numpy(), minlength=18)
    assert len(counts) == 18
    assert np.abs(counts - 1000).max() < 160  # five standard deviations
    assert torch.equal(views, augmentation.draw(18_000, generator_for(1)))


def test_normalisation_of_the_dataset():
    norm = dataset_normalization(IMAGES)
    scaled = IMAGES.astype(np.float64) / 255
    assert np.allclose(norm.mean, scaled.mean((0, 1, 2)), atol=5.1e-5)
    assert np.allclose(norm.std, scaled.std((0, 1, 2)), atol=5.1e-5)
    some = dataset_normalization(IMAGES, np.array([5, 2]))
    assert np.allclose(some.mean, scaled[[2, 5]].mean((0, 1, 2)), atol=5.1e-5)
    many = np.random.default_rng(3).integers(0, 256, (9000, 24, 24, 1), dtype=np.uint8)  # more than one part
    found = dataset_normalization(many)
    assert found.mean[0] == round(float((many / 255).mean()), 4)
    assert found.std[0] == round(float((many / 255).std()), 4)
    black = dataset_normalization(np.zeros((4, 2, 2, 1), np.uint8))
    assert black.mean == (0.0,)
    assert black.std[0] > 0


def test_a_large_dataset_is_sampled_over_its_whole_length():
    images = np.zeros((30_000, 1, 1, 1), np.uint8)
    images[15_000:] = 255
    assert dataset_normalization(images).mean[0] == pytest.approx(0.5, abs=1e-3)


def test_images_are_normalised_as_in_numpy():
    source = ImageSource(IMAGES, ROWS, NORM, augmentation=Augmentation(True, 1))
    positions, views = torch.tensor([6, 0, 3]), torch.tensor([17, 4, 9])
    got = source.batch(positions, views)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    for i, (position, view) in enumerate(zip(positions.tolist(), views.tolist(), strict=True)):
        seen = view_of(IMAGES[ROWS[position]], view, True, 1)
        expected = (seen / 255 - np.array(NORM.mean)) / np.array(NORM.std)
        np.testing.assert_allclose(got[i].permute(1, 2, 0).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("view", [0, 1])
def test_images_in_order(view):
    source = ImageSource(IMAGES, ROWS, NORM, augmentation=Augmentation(True, 0))
    got = torch.cat(list(source.in_order(3, view)))
    assert torch.equal(got, source.batch(torch.arange(len(ROWS)), torch.full((len(ROWS),), view)))
    assert len(source) == len(ROWS)


@pytest.mark.parametrize(("n", "batch_size"), [(30, 8), (30, 30), (30, 64), (30, 15)])
def test_a_pass_covers_each_image_exactly_once(n, batch_size):
    source = ImageSource(IMAGES, np.arange(n), NORM, augmentation=Augmentation(True, 0))
    labels = torch.arange(n) * 10
    batches = list(shuffled(source, labels, batch_size, generator_for("a")))
    rows = torch.cat([b.index for b in batches])
    assert sorted(rows.tolist()) == list(range(n))
    assert rows.tolist() != list(range(n))
    assert [len(b.index) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    for b in batches:
        assert b.labels is not None
        assert torch.equal(b.labels, b.index * 10)
        assert torch.equal(b.images, source.batch(b.index, b.view))


def test_batches_name_images_by_their_rows_in_the_split():
    source = ImageSource(IMAGES, ROWS, NORM)
    for batch in shuffled(source, None, 3, generator_for(0)):
        assert batch.labels is None
        assert torch.equal(batch.index, source.rows[batch.positions])
        expected = ImageSource(IMAGES, batch.index.numpy(), NORM).batch(torch.arange(len(batch.index)))
        assert torch.equal(batch.images, expected)


def test_a_last_batch_of_one_is_left_out_but_a_single_image_is_not():
    sizes = [len(b.index) for b in shuffled(ImageSource(IMAGES, ROWS, NORM), None, 3, generator_for(0))]
    assert sizes == [3, 3]
    alone = ImageSource(IMAGES, ROWS[:1], NORM)
    assert [len(b.index) for b in shuffled(alone, None, 3, generator_for(0))] == [1]


def test_features_in_place_of_images():
    features = RNG.standard_normal((2, 30, 5)).astype(np.float32)
    source = FeatureSource(features, ROWS, augmentation=Augmentation(True, 0))
    got = source.batch(torch.tensor([0, 6, 6]), torch.tensor([1, 0, 1]))
    assert np.array_equal(got.numpy(), features[[1, 0, 1], [3, 29, 29]])
    assert np.array_equal(torch.cat(list(source.in_order(2, 1))).numpy(), features[1, ROWS])
    with pytest.raises(ValueError, match="features of 2 views; the augmentation makes 18"):
        FeatureSource(features, ROWS, augmentation=Augmentation(True, 1))
