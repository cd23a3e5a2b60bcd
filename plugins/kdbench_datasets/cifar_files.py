"""Find and read CIFAR's files: torchvision's pickled batches and the Hugging Face hub's parquet shards."""

from __future__ import annotations

import io
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdbench.errors import DataError

SplitName = Literal["train", "test"]
SIDE = 32


@dataclass(frozen=True)
class Layout:
    """File layout of one member of the CIFAR family.

    Attributes
    ----------
    name
        Name of the dataset, and of a folder it may be in.
    class_names
        Class name of each label.
    per_class
        Images per class in each split.
    pickled_folder
        Folder of torchvision's pickled batches.
    pickled_files
        Files of each split in torchvision's layout.
    pickled_labels
        Key of the labels in the pickled dictionaries.
    label
        Column of the labels in the parquet layout.
    torchvision
        Class in torchvision.datasets that has the download URL.
    superclass_names
        Superclass name of each superclass label.
    superclass_of
        Superclass label of each class label; None without superclasses.
    pickled_superclasses
        Key of the superclass labels in the pickled dictionaries, if any.
    superclass
        Column of the superclass labels in the parquet layout, if any.
    """

    name: str
    class_names: tuple[str, ...]
    per_class: dict[SplitName, int]
    pickled_folder: str
    pickled_files: dict[SplitName, tuple[str, ...]]
    pickled_labels: str
    label: str
    torchvision: str
    superclass_names: tuple[str, ...] = ()
    superclass_of: tuple[int, ...] | None = None
    pickled_superclasses: str | None = None
    superclass: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read from the parquet layout."""
        return ("img", self.label) + ((self.superclass,) if self.superclass else ())


@dataclass(frozen=True)
class Source:
    """A copy of the dataset on disk.

    Attributes
    ----------
    kind
        Layout of the files.
    folder
        Folder that holds them.
    files
        Files of each split, in reading order.
    """

    kind: Literal["pickled", "parquet"]
    folder: Path
    files: dict[SplitName, tuple[Path, ...]]

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """(path, bytes, modification time in ns) of each file: detects a change without reading the file."""
        every = [path for paths in self.files.values() for path in paths]
        return [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in every]


def find(layout: Layout, folders: tuple[Path, ...]) -> tuple[Source | None, list[str]]:
    """Find the first copy of a dataset in `folders`.

    A folder may be the dataset's folder or its parent.

    Parameters
    ----------
    layout
        The dataset.
    folders
        Folders to search, in order.

    Returns
    -------
    tuple[Source | None, list[str]]
        The copy, or None; and one line per folder searched, for the error message.

    Raises
    ------
    DataError
        A copy exists but is damaged or incomplete (no other copy is used instead).
    """
    looked: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            looked.append(f"{folder}: not a folder")
            continue
        looked.append(
            f"{folder}: has neither {layout.pickled_folder}/ nor train-*.parquet and test-*.parquet"
        )
        bases = [folder, folder / layout.name, folder / layout.name.replace("cifar", "cifar-")]
        for candidate in (c for base in bases for c in (base, base / layout.pickled_folder)):
            source = _pickled_source(layout, candidate)
            if source is not None:
                return source, looked
        below = ("", "data", layout.name, "plain_text")
        for candidate in dict.fromkeys(base / sub for base in bases for sub in below):
            source, mismatch = _parquet_source(layout, candidate)
            if source is not None:
                return source, looked
            if mismatch:
                looked[-1] = mismatch
    return None, looked


def _pickled_source(layout: Layout, folder: Path) -> Source | None:
    wanted = {split: tuple(folder / f for f in names) for split, names in layout.pickled_files.items()}
    every = [path for paths in wanted.values() for path in paths]
    missing = [path.name for path in every if not path.is_file()]
    if len(missing) == len(every) or (missing and folder.name != layout.pickled_folder):
        return None
    if missing:
        raise DataError(
            f"incomplete: {', '.join(missing)} of {len(every)} files missing",
            where=str(folder),
            hint="unpack the archive again, or remove the folder to have it downloaded",
        )
    return Source("pickled", folder, wanted)


def _parquet_source(layout: Layout, folder: Path) -> tuple[Source | None, str]:
    splits: tuple[SplitName, ...] = ("train", "test")
    files = {split: tuple(sorted(folder.glob(f"{split}-*.parquet"))) for split in splits}
    first = next((paths[0] for paths in files.values() if paths), None)
    if first is None:
        return None, ""
    has = _columns(first)
    if lacking := [c for c in layout.columns if c not in has]:
        return (
            None,
            f"{first}: has the columns {', '.join(has)}; {layout.name} also needs {', '.join(lacking)}",
        )
    for split, paths in files.items():
        if not paths:
            raise DataError(
                f"incomplete: no {split}-*.parquet", where=str(folder), hint="fetch the missing shards"
            )
        _check_shards(paths)
    return Source("parquet", folder, files), ""


def _check_shards(paths: tuple[Path, ...]) -> None:
    """Check that all shards are there: `train-00002-of-00005` is one of five."""
    numbered = [m for p in paths if (m := re.search(r"-(\d+)-of-(\d+)$", p.stem))]
    if len(numbered) != len(paths):
        return
    present, totals = {int(m[1]) for m in numbered}, {int(m[2]) for m in numbered}
    if len(totals) != 1:
        raise DataError(
            f"shards of different sets: {', '.join(p.name for p in paths)}",
            where=str(paths[0].parent),
            hint="keep one set of shards in the folder",
        )
    if absent := sorted(set(range(totals.pop())) - present):
        raise DataError(
            f"shard {absent[0]} of {paths[0].name.rsplit('-of-')[0].split('-')[0]} is missing"
            f" ({len(paths)} present)",
            where=str(paths[0].parent),
            hint="fetch the missing shards",
        )


def read(
    layout: Layout, source: Source, split: SplitName, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read and check one split, in the order of the files.

    Parameters
    ----------
    layout
        The dataset.
    source
        Files found by `find`.
    split
        "train" or "test".
    threads
        Threads that decode images; None: one per available core, at most 8.

    Returns
    -------
    tuple[ndarray, ndarray]
        Images uint8 (n, 32, 32, 3) and labels int64 (n,).

    Raises
    ------
    DataError
        A file is damaged or has the wrong contents, labels are out of range, superclasses do not match the
        classes, or a class has the wrong number of images.
    """
    threads = threads or min(8, len(os.sched_getaffinity(0)))
    images, labels = [], []
    for path in source.files[split]:
        if source.kind == "pickled":
            pixels, fine, coarse = _read_pickled(layout, path)
        else:
            pixels, fine, coarse = _read_parquet(layout, path, threads)
        _check_labels(layout, path, fine, coarse)
        images.append(pixels)
        labels.append(fine)
    every = np.concatenate(labels)
    counts = np.bincount(every, minlength=len(layout.class_names))
    wrong = np.flatnonzero(counts != layout.per_class[split])
    if wrong.size:
        c = int(wrong[0])
        raise DataError(
            f"{split} has {counts[c]} images of {layout.class_names[c]!r}, {layout.name} has"
            f" {layout.per_class[split]} of every class ({wrong.size} classes have a wrong number)",
            where=", ".join(str(p) for p in source.files[split]),
            hint="fetch the dataset again",
        )
    return np.concatenate(images), every


def _check_labels(layout: Layout, path: Path, fine: np.ndarray, coarse: np.ndarray | None) -> None:
    n = len(layout.class_names)
    if fine.size and not (fine.min() >= 0 and fine.max() < n):
        bad = int(fine[(fine < 0) | (fine >= n)][0])
        raise DataError(
            f"label {bad} is out of range: 0..{n - 1}", where=str(path), hint=f"is this {layout.name}?"
        )
    if coarse is not None and layout.superclass_of is not None:
        expected = np.asarray(layout.superclass_of)[fine]
        if (off := np.flatnonzero(coarse != expected)).size:
            i = int(off[0])
            raise DataError(
                f"image {i} of class {layout.class_names[fine[i]]!r} has superclass label {coarse[i]},"
                f" but {expected[i]} in {layout.name}",
                where=str(path),
                hint="the class labels are in another order, or the file is damaged",
            )


def _damaged(path: Path, error: object) -> DataError:
    return DataError(f"can't be read: {error}", where=str(path), hint="the file is damaged: fetch it again")


# parquet


def _columns(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as e:
        raise _damaged(path, e) from e


def _read_parquet(
    layout: Layout, path: Path, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    has = _columns(path)
    if lacking := [c for c in layout.columns if c not in has]:  # a later shard that differs from the first
        raise DataError(
            f"column {lacking[0]!r} is missing; it has {', '.join(has)}",
            where=str(path),
            hint=f"{layout.name} in the parquet layout has the columns {', '.join(layout.columns)}",
        )
    try:
        # "img.bytes" skips the file names
        with pq.ParquetFile(path) as file:
            table = file.read(columns=["img.bytes", *layout.columns[1:]], use_threads=threads > 1)
        encoded = [cell and cell.get("bytes") for cell in table["img"].to_pylist()]
        fine = table[layout.label].to_numpy()
        coarse = table[layout.superclass].to_numpy() if layout.superclass else None
    except (pa.ArrowException, OSError) as e:
        raise _damaged(path, e) from e
    images = np.empty((len(encoded), SIDE, SIDE, 3), np.uint8)

    def decode(rows: range) -> None:
        for i in rows:
            images[i] = _decode(path, i, encoded[i])

    step = 256
    chunks = [range(i, min(i + step, len(encoded))) for i in range(0, len(encoded), step)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, chunks))
    return images, _integers(path, fine), None if coarse is None else _integers(path, coarse)


def _decode(path: Path, row: int, encoded: bytes | None) -> np.ndarray:
    from PIL import Image

    try:
        if encoded is None:
            raise ValueError("no bytes")
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as e:  # Pillow raises SyntaxError for a broken PNG
        raise _damaged(path, f"image {row}: {e}") from e
    if pixels.shape != (SIDE, SIDE, 3):
        raise DataError(
            f"image {row} is {pixels.shape[1]}x{pixels.shape[0]}, not {SIDE}x{SIDE}", where=str(path)
        )
    return pixels


def _integers(path: Path, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":  # missing values turn a column of integers into floats or objects
        raise DataError(f"labels are {array.dtype}, not whole numbers", where=str(path))
    return array.astype(np.int64)


# pickles


class _ArraysOnly(pickle.Unpickler):
    """Unpickles builtin containers and NumPy arrays only; anything else could run code."""

    _parts = (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return super().find_class(module, name)
        package, _, part = module.rpartition(".")
        if package in ("numpy.core", "numpy._core") and (part, name) in self._parts:
            package = "numpy._core" if hasattr(np, "_core") else "numpy.core"  # NumPy 2 moved it
            return super().find_class(f"{package}.{part}", name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which no CIFAR file needs")


def _read_pickled(layout: Layout, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
    except OSError as e:
        raise _damaged(path, e) from e
    except Exception as e:  # a damaged pickle may raise any exception
        raise _damaged(path, e) from e
    wanted = ["data", layout.pickled_labels]
    wanted += [layout.pickled_superclasses] if layout.pickled_superclasses else []
    if not isinstance(batch, dict) or any(key not in batch for key in wanted):
        has = ", ".join(map(str, batch)) if isinstance(batch, dict) else type(batch).__name__
        raise DataError(f"has {has}; {', '.join(wanted)} are needed", where=str(path))
    data = np.asarray(batch["data"])
    fine = _integers(path, batch[layout.pickled_labels])
    coarse = _integers(path, batch[layout.pickled_superclasses]) if layout.pickled_superclasses else None
    n = len(fine)
    if (
        data.dtype != np.uint8
        or data.shape != (n, 3 * SIDE * SIDE)
        or (coarse is not None and len(coarse) != n)
    ):
        raise DataError(
            f"data is {data.dtype} {data.shape} for {n} labels, not uint8 ({n}, {3 * SIDE * SIDE})",
            where=str(path),
            hint="the file is damaged: fetch it again",
        )
    return data.reshape(n, 3, SIDE, SIDE).transpose(0, 2, 3, 1), fine, coarse
