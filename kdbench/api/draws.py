"""Seeds and balanced draws: which images of a training set are labelled, unlabelled or held out in a fold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdbench.errors import SuiteError

if TYPE_CHECKING:
    import numpy as np


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same parts give the same seed on every machine."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Fold:
    """Sorted int64 rows of the training split; the three are disjoint.

    Attributes
    ----------
    labelled
        As many of every class.
    unlabelled
        The pool whose labels are never read.
    validation
        Held out to choose an epoch by, as many of every class; may be empty.
    """

    labelled: np.ndarray
    unlabelled: np.ndarray
    validation: np.ndarray


#: The key of a suite that says how many images there are of each kind.
_KEYS = {"training": "data.train", "labelled": "data.budgets", "validation": "data.validation"}


def _per_class(total: int, what: str, n_classes: int, available: int, held: int = 0) -> int:
    """Images of each class. `held`: of each that are held out already."""
    each, rest = divmod(total, n_classes)
    if rest:
        raise SuiteError(
            f"{total} {what} images can't be balanced over {n_classes} classes ({total} / {n_classes} is not whole)",
            where=_KEYS.get(what, ""),
            hint=f"use a multiple of {n_classes}, such as {max(n_classes, each * n_classes)}",
        )
    if each > available:
        raise SuiteError(
            f"{total} {what} images need {each} of every class; the smallest class has {available} to give"
            + (f" in addition to {held} held out for validation" if held else ""),
            where=_KEYS.get(what, ""),
            hint=f"at most {available * n_classes}" + (", or a smaller data.validation" if held else ""),
        )
    return each


def draw_train(labels: np.ndarray, n_classes: int, *, train: int | Literal["all"], seed: int) -> np.ndarray:
    """Sorted rows of the training split that folds are drawn from: all, or a balanced draw of so many."""
    import numpy as np

    labels = np.asarray(labels)
    if train == "all":
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == c) for c in range(n_classes)]
    keep = _per_class(train, "training", n_classes, min(len(m) for m in members))
    rng = np.random.default_rng(derive_seed(seed, "train"))
    return np.sort(np.concatenate([rng.permutation(m)[:keep] for m in members]))


def draw_fold(
    labels: np.ndarray,
    n_classes: int,
    *,
    budget: int,
    fold: int,
    seed: int,
    train: int | Literal["all"] = "all",
    validation: int = 0,
    unlabelled: int | Literal["rest"] = "rest",
) -> Fold:
    """Draw a fold (assumption LW-A7: independent seeded balanced draws, not a partition).

    Every class is put in a random order that depends on `seed` and `fold` alone: a budget takes its first
    images, so the draws of one fold are nested over the budgets, and validation takes its last. Schemes do not
    enter, so all schemes of a fold see the same images.

    Parameters
    ----------
    labels
        Int (n,), of the training split.
    n_classes
        Number of classes.
    budget
        Labelled images over all classes.
    fold
        Number of the fold, from 0.
    seed
        Seed of the run.
    train
        Use only so many of the training images, a balanced draw that is the same for every fold.
    validation
        Held-out images over all classes.
    unlabelled
        "rest", or so many of the rest.

    Returns
    -------
    Fold
        Rows of the labelled, unlabelled and validation images.

    Raises
    ------
    SuiteError
        a number that can't be balanced or is not there; says the numbers.
    """
    import numpy as np

    labels = np.asarray(labels)
    pool = draw_train(labels, n_classes, train=train, seed=seed)
    members = [pool[labels[pool] == c] for c in range(n_classes)]
    smallest = min(len(m) for m in members)
    held = _per_class(validation, "validation", n_classes, smallest) if validation else 0
    each = _per_class(budget, "labelled", n_classes, smallest - held, held)
    rng = np.random.default_rng(derive_seed(seed, "fold", fold))
    orders = [rng.permutation(m) for m in members]
    labelled = np.concatenate([o[:each] for o in orders])
    rest = np.concatenate([o[each : len(o) - held] for o in orders])
    held_out = np.concatenate([o[len(o) - held :] for o in orders])
    if unlabelled != "rest":
        if unlabelled > len(rest):
            raise SuiteError(
                f"{unlabelled} unlabelled images asked for; {len(rest)} are left after {budget} labelled ones",
                where="data.unlabelled",
                hint='unlabelled = "rest" takes what is left',
            )
        rest = rng.permutation(rest)[:unlabelled]
    return Fold(np.sort(labelled), np.sort(rest), np.sort(held_out))


def draw_test(labels: np.ndarray, n_classes: int, *, size: int | Literal["all"], seed: int) -> np.ndarray:
    """Sorted rows of the test split to look at: all, or a balanced draw that is the same for every network."""
    import numpy as np

    labels = np.asarray(labels)
    if size == "all":
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == c) for c in range(n_classes)]
    each = _per_class(size, "test", n_classes, min(len(m) for m in members))
    rng = np.random.default_rng(derive_seed(seed, "test"))
    return np.sort(np.concatenate([rng.permutation(m)[:each] for m in members]))
