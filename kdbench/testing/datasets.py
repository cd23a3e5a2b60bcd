"""Conformance checks of datasets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kdbench.api.data import Split
from kdbench.errors import DataError
from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.datasets import DatasetFixture
from kdbench.testing.import_guard import global_seeds, left_alone
from kdbench.testing.outcome import NotApplicable, Violation


@check(
    "datasets",
    "return images as a C-contiguous uint8 array (n, h, w, c) of one size, with one or three channels",
)
def images(fixture: DatasetFixture) -> None:
    """Both splits have images, uint8 (n, h, w, c), C-contiguous, of one size, with one or three channels."""
    shapes = []
    for name, split in _splits(fixture):
        found = split.images
        if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 4 or not len(found):
            kind = getattr(found, "dtype", type(found).__name__)
            raise Violation(
                f"{name}: images are {kind} of shape {np.shape(found)}; uint8 (n, h, w, c) is expected"
            )
        if found.shape[3] not in (1, 3):
            raise Violation(
                f"{name}: images have {found.shape[3]} channels (the last axis); one or three are expected"
            )
        if not found.flags.c_contiguous:
            raise Violation(f"{name}: images are not C-contiguous")
        shapes.append(found.shape[1:])
    if shapes[0] != shapes[1]:
        raise Violation(f"train images are {shapes[0]}, test images {shapes[1]}")


@check("datasets", "return labels as an int64 array (n,) of rows of class_names")
def labels(fixture: DatasetFixture) -> None:
    """Labels are int64 (n,), one an image, each a row of `class_names`; both splits have every class."""
    n_classes = fixture.data.n_classes
    for name, split in _splits(fixture):
        found = split.labels
        if (
            not isinstance(found, np.ndarray)
            or found.dtype != np.int64
            or found.shape != (len(split.images),)
        ):
            kind = getattr(found, "dtype", type(found).__name__)
            raise Violation(
                f"{name}: labels are {kind} of shape {np.shape(found)} for {len(split.images)} images"
            )
        if found.min() < 0 or found.max() >= n_classes:
            raise Violation(
                f"{name}: labels go from {found.min()} to {found.max()}; there are {n_classes} classes"
            )
        absent = np.flatnonzero(np.bincount(found, minlength=n_classes) == 0)
        if len(absent):
            raise Violation(
                f"{name}: no image of class {fixture.data.class_names[absent[0]]!r} ({len(absent)} such)"
            )


@check("datasets", "name every class once, as a tuple of str")
def class_names(fixture: DatasetFixture) -> None:
    """There are two classes or more, each with a name of its own."""
    names = fixture.data.class_names
    if not isinstance(names, tuple) or len(names) < 2 or not all(isinstance(n, str) and n for n in names):
        raise Violation(f"class_names is {names!r:.80}; a tuple of two names or more is expected")
    if len(set(names)) < len(names):
        raise Violation(f"two classes are called {next(n for n in names if names.count(n) > 1)!r}")


@check("datasets", "give superclass_of as int64 (n_classes,) with a name each, or None and ()")
def superclasses(fixture: DatasetFixture) -> None:
    """Superclasses are there for every class and have a class each and a name each, or there are none."""
    of, names = fixture.data.superclass_of, fixture.data.superclass_names
    if of is None:
        if names:
            raise Violation(f"superclass_of is None, and there are {len(names)} superclass_names")
        return
    if of.dtype != np.int64 or of.shape != (fixture.data.n_classes,):
        raise Violation(
            f"superclass_of is {of.dtype} of shape {of.shape}; int64 ({fixture.data.n_classes},) is expected"
        )
    if len(set(names)) < len(names):
        raise Violation("two superclasses have one name")
    if sorted(set(of.tolist())) != list(range(len(names))):
        raise Violation(
            f"superclass_of has {sorted(set(of.tolist()))[:9]}, and there are {len(names)} superclass_names"
        )


@check("datasets", "give masks as bool (n, h, w), True on the foreground, of both splits or of none")
def masks(fixture: DatasetFixture) -> None:
    """Foreground masks are bool (n, h, w) of both splits, with a foreground in each, or there are none."""
    both = [split.masks for _, split in _splits(fixture)]
    if both[0] is None and both[1] is None:
        raise NotApplicable("it has no masks")
    for name, split in _splits(fixture):
        found = split.masks
        if found is None or found.dtype != bool or found.shape != split.images.shape[:3]:
            shape = None if found is None else (found.dtype, found.shape)
            raise Violation(f"{name}: masks are {shape} for images of shape {split.images.shape}")
        empty = int((~found.any(axis=(1, 2))).sum())
        if empty:
            raise Violation(f"{name}: {empty} masks have no foreground")


@check("datasets", "hash images, labels and superclasses with SHA-256, and make them in a settled order")
def digest_is_stable(fixture: DatasetFixture) -> None:
    """The digest is a hex SHA-256. Another instance, loaded with other global random states, has the same digest,
    images and labels."""
    data = fixture.data
    if not re.fullmatch(r"[0-9a-f]{64}", data.digest):
        raise Violation(f"digest is {data.digest!r}; the hex digits of a SHA-256 are expected")
    with global_seeds(1):
        again = fixture.load()
    if again.digest != data.digest:
        raise Violation(f"two loads have the digests {data.digest[:12]}... and {again.digest[:12]}...")
    for name in ("train", "test"):
        one, two = getattr(data, name), getattr(again, name)
        if not (np.array_equal(one.images, two.images) and np.array_equal(one.labels, two.labels)):
            raise Violation(f"{name}: two loads have one digest and other images or labels")


@check("datasets", "array.setflags(write=False), or map a file with mmap_mode='r'")
def read_only(fixture: DatasetFixture) -> None:
    """Images and masks can't be written to: all stages of a process share them."""
    for name, split in _splits(fixture):
        for what, array in (("images", split.images), ("masks", split.masks)):
            if array is not None and array.flags.writeable:
                raise Violation(f"{name}: {what} can be written to")


@check("datasets", "write to places.cache alone")
def files_stay_as_they_are(fixture: DatasetFixture) -> None:
    """Loading adds, changes and removes nothing in the folders where its files are."""
    if not fixture.folders:
        raise NotApplicable("no folder was given")
    fixture.data  # noqa: B018 - files that are not here are said first
    before = _listing(fixture.folders)
    fixture.load()
    if changed := sorted(set(_listing(fixture.folders)) ^ set(before)):
        raise Violation(f"{changed[0][0]} was added, changed or removed")


@check("datasets", "raise kdbench.errors.DataError that says where it looked (what) and what to do (hint)")
def nothing_found(fixture: DatasetFixture) -> None:
    """Where its files are not, loading ends in a DataError with a hint; an embedded dataset needs no files."""
    try:
        fixture.load(folders=())
    except DataError as error:
        if fixture.spec.embedded:
            raise Violation(
                f"its spec says embedded, and it does not load without files: {error.what}"
            ) from error
        if not error.hint:
            raise Violation(f"the error has no hint: {error.what}") from error


@check(
    "datasets", "neither seed nor draw from a global generator, and log with `logging` instead of printing"
)
def leaves_global_state_alone(fixture: DatasetFixture) -> None:
    """Loading moves no global random state (Python, NumPy, PyTorch) and prints nothing."""
    fixture.data  # noqa: B018 - files that are not here are said first
    with left_alone("while it was loaded"):
        fixture.load()


def _splits(fixture: DatasetFixture) -> tuple[tuple[str, Split], tuple[str, Split]]:
    return ("train", fixture.data.train), ("test", fixture.data.test)


def _listing(folders: tuple[Path, ...]) -> list[tuple[str, int, int]]:
    files = (p for folder in folders for p in Path(folder).rglob("*") if p.is_file())
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)


CHECKS: tuple[Check, ...] = (
    images,
    labels,
    class_names,
    superclasses,
    masks,
    digest_is_stable,
    read_only,
    files_stay_as_they_are,
    nothing_found,
    leaves_global_state_alone,
)
