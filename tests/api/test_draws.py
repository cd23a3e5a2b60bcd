"""Balanced, nested, reproducible draws."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.api import derive_seed, draw_fold, draw_test, draw_train
from kdbench.errors import SuiteError

CLASSES, EACH = 7, 13
LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(CLASSES), EACH))


def counts(rows: np.ndarray) -> list[int]:
    return np.bincount(LABELS[rows], minlength=CLASSES).tolist()


@settings(max_examples=40, deadline=None)
@given(
    each=st.integers(1, 8),
    held=st.integers(0, 4),
    fold=st.integers(0, 20),
    seed=st.integers(0, 2**40),
)
def test_a_fold_is_balanced_and_its_parts_are_a_partition(each, held, fold, seed):
    drawn = draw_fold(LABELS, CLASSES, budget=each * CLASSES, fold=fold, seed=seed, validation=held * CLASSES)
    assert counts(drawn.labelled) == [each] * CLASSES
    assert counts(drawn.validation) == [held] * CLASSES
    together = np.concatenate([drawn.labelled, drawn.unlabelled, drawn.validation])
    assert sorted(together) == list(range(len(LABELS)))
    for part in (drawn.labelled, drawn.unlabelled, drawn.validation):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def test_budgets_of_a_fold_are_nested_and_hold_the_same_images_back():
    drawn = [
        draw_fold(LABELS, CLASSES, budget=b * CLASSES, fold=1, seed=0, validation=CLASSES) for b in (1, 3, 8)
    ]
    for smaller, larger in itertools.pairwise(drawn):
        assert set(smaller.labelled) < set(larger.labelled)
        assert set(larger.unlabelled) < set(smaller.unlabelled)
        assert np.array_equal(smaller.validation, larger.validation)


def test_the_same_draw_again_and_another_for_another_fold_or_seed():
    def labelled(**changed):
        return draw_fold(
            LABELS, CLASSES, **({"budget": 4 * CLASSES, "fold": 0, "seed": 0} | changed)
        ).labelled

    assert np.array_equal(labelled(), labelled())
    assert not np.array_equal(labelled(), labelled(fold=1))
    assert not np.array_equal(labelled(), labelled(seed=1))
    # what is done with the rest does not change which images are labelled
    assert np.array_equal(labelled(), labelled(unlabelled=10))
    assert np.array_equal(labelled(), labelled(validation=CLASSES))


def test_folds_do_not_favour_an_image():
    """Over many folds every image is labelled about equally often (4 of 13 times)."""
    n = 600
    times = np.zeros(len(LABELS))
    for fold in range(n):
        times[draw_fold(LABELS, CLASSES, budget=4 * CLASSES, fold=fold, seed=9).labelled] += 1
    p = 4 / EACH
    assert np.abs(times - n * p).max() < 5 * np.sqrt(n * p * (1 - p))


def test_only_the_order_of_images_matters_not_the_order_of_classes_names():
    """Draws follow the labels: relabelling two classes leaves the sizes as they are."""
    swapped = np.where(LABELS == 0, 1, np.where(LABELS == 1, 0, LABELS))
    drawn = draw_fold(swapped, CLASSES, budget=CLASSES * 2, fold=0, seed=0)
    assert np.bincount(swapped[drawn.labelled]).tolist() == [2] * CLASSES


def test_a_smaller_training_set_is_the_same_for_every_fold():
    pool = draw_train(LABELS, CLASSES, train=5 * CLASSES, seed=4)
    assert counts(pool) == [5] * CLASSES
    for fold in range(3):
        drawn = draw_fold(LABELS, CLASSES, budget=CLASSES, fold=fold, seed=4, train=5 * CLASSES)
        assert sorted([*drawn.labelled, *drawn.unlabelled]) == pool.tolist()


def test_all_is_all():
    assert np.array_equal(draw_train(LABELS, CLASSES, train="all", seed=0), np.arange(len(LABELS)))
    assert np.array_equal(draw_test(LABELS, CLASSES, size="all", seed=0), np.arange(len(LABELS)))


def test_so_many_unlabelled_images():
    rest = draw_fold(LABELS, CLASSES, budget=CLASSES, fold=0, seed=0).unlabelled
    some = draw_fold(LABELS, CLASSES, budget=CLASSES, fold=0, seed=0, unlabelled=11).unlabelled
    assert len(some) == 11
    assert set(some) < set(rest)
    assert (np.diff(some) > 0).all()


def test_smaller_looks_at_the_test_split_are_part_of_larger_ones():
    small, large = (draw_test(LABELS, CLASSES, size=n * CLASSES, seed=2) for n in (3, 9))
    assert counts(small) == [3] * CLASSES
    assert set(small) < set(large)
    assert not np.array_equal(large, draw_test(LABELS, CLASSES, size=9 * CLASSES, seed=3))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"budget": 10}, ["10 labelled", "7 classes", "such as 7"]),
        ({"budget": 3}, ["3 labelled", "such as 7"]),
        ({"budget": 14 * 7}, ["98 labelled", "14 of every class", "13", "at most 91"]),
        ({"budget": 12 * 7, "validation": 14}, ["84 labelled", "12 of every class", "11", "at most 77"]),
        ({"validation": 8}, ["8 validation", "7 classes"]),
        ({"train": 8}, ["8 training", "7 classes"]),
        ({"train": 7 * 14}, ["98 training", "14 of every class", "13"]),
        ({"unlabelled": 85}, ["85 unlabelled", "84 are left", "7 labelled"]),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_numbers(changed, words):
    with pytest.raises(SuiteError) as caught:
        draw_fold(LABELS, CLASSES, **({"budget": CLASSES, "fold": 0, "seed": 0} | changed))
    for word in words:
        assert word in str(caught.value)


def test_a_test_draw_that_cannot_be_is_refused():
    with pytest.raises(SuiteError, match="20 test images can't be balanced over 7"):
        draw_test(LABELS, CLASSES, size=20, seed=0)
    with pytest.raises(SuiteError, match="at most 91"):
        draw_test(LABELS, CLASSES, size=700, seed=0)


def test_the_smallest_class_limits():
    labels = np.array([0] * 9 + [1] * 2)
    with pytest.raises(SuiteError, match="has 2 to give"):
        draw_fold(labels, 2, budget=6, fold=0, seed=0)
    drawn = draw_fold(labels, 2, budget=4, fold=0, seed=0)
    assert np.bincount(labels[drawn.labelled]).tolist() == [2, 2]
    assert len(drawn.unlabelled) == 7


def test_seeds_fit_every_generator_and_tell_parts_apart():
    seeds = {derive_seed(*parts) for parts in [(1, 23), (12, 3), ("1", "2", "3"), (1, 2), (0,)]}
    assert len(seeds) == 5
    assert all(0 <= s < 2**63 for s in seeds)
    # known answer: the first eight bytes of SHA-256, halved, on every machine
    digest = hashlib.sha256(b"7\x1ffold\x1f2").digest()
    assert derive_seed(7, "fold", 2) == int.from_bytes(digest[:8], "big") // 2
