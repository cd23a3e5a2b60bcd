"""Cache of decoded arrays: written once under a lock, renamed when complete, memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.api import DataPlaces, ImageData, Split
from kdbench.errors import WorkspaceError

log = logging.getLogger(__name__)

_FORMAT = 1
_META = "meta.json"


def content_digest(data: ImageData) -> str:
    """Hex SHA-256 of everything a result can depend on: images, labels, masks, superclasses and names.

    Each array is hashed as little-endian bytes after a line with its name, dtype and shape, so that no two
    datasets share a digest by concatenation.
    """
    digest = hashlib.sha256()
    names = json.dumps([list(data.class_names), list(data.superclass_names)])
    digest.update(names.encode())
    for name, array in _arrays(data).items():
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def cached(
    places: DataPlaces, name: str, key: Mapping[str, Any], build: Callable[[], ImageData]
) -> ImageData:
    """Load the dataset of `key`; `build` decodes it the first time, later calls memory-map `places.cache`.

    Parameters
    ----------
    places
        Where to store it: `<cache>/datasets/<name>-<hash of key>/`.
    name
        Readable prefix of the folder in the cache.
    key
        JSON values that identify this dataset and are cheap to compute.
    build
        Decodes the arrays in memory; its digest is ignored and computed here.

    Returns
    -------
    ImageData
        Images and masks read-only and memory-mapped; labels in memory.

    Raises
    ------
    WorkspaceError
        The cache can't be written.
    """
    from filelock import FileLock

    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    folder = places.cache / "datasets"
    entry = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    # A rename puts a complete entry there, so reading it needs no lock.
    with _using(folder):
        if (data := _read(entry)) is not None:
            return data
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.with_name(entry.name + ".lock"))
        lock.acquire()
    try:
        if (data := _read(entry)) is not None:  # another process built it
            return data
        data = build()
        with _using(folder):
            if entry.exists():
                log.warning("%s is damaged: rebuilding it", entry)
                shutil.rmtree(entry)
            _write(entry, replace(data, digest=content_digest(data)), key)
    finally:
        lock.release()
    data_on_disk = _read(entry)
    if data_on_disk is None:
        raise WorkspaceError(
            "the entry that was just written can't be read back", where=str(entry), hint="check the disk"
        )
    return data_on_disk


@contextmanager
def _using(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise WorkspaceError(
            f"the cache of decoded images can't be used: {e}",
            where=str(folder),
            hint="choose a folder that can be written and has space, with --workspace",
        ) from e


def _arrays(data: ImageData) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray | None] = {
        "train_images": data.train.images,
        "train_labels": data.train.labels,
        "train_masks": data.train.masks,
        "test_images": data.test.images,
        "test_labels": data.test.labels,
        "test_masks": data.test.masks,
        "superclass_of": data.superclass_of,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _write(entry: Path, data: ImageData, key: Mapping[str, Any]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        arrays = _arrays(data)
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
        meta = {
            "digest": data.digest,
            "class_names": list(data.class_names),
            "superclass_names": list(data.superclass_names),
            "source": data.source,
            "arrays": sorted(arrays),
            "key": dict(key),
        }
        (temporary / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        os.chmod(temporary, 0o755)  # mkdtemp's 0700 would lock other users out of a shared cache
        os.rename(temporary, entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _read(entry: Path) -> ImageData | None:
    """The entry, or None if it is absent or damaged (a file missing or truncated)."""
    try:
        meta = json.loads((entry / _META).read_text(encoding="utf-8"))
        arrays = {
            name: np.load(
                entry / f"{name}.npy",
                mmap_mode="r" if name.endswith(("images", "masks")) else None,
                allow_pickle=False,
            )
            for name in meta["arrays"]
        }
        return ImageData(
            train=Split(arrays["train_images"], arrays["train_labels"], arrays.get("train_masks")),
            test=Split(arrays["test_images"], arrays["test_labels"], arrays.get("test_masks")),
            class_names=tuple(meta["class_names"]),
            superclass_of=arrays.get("superclass_of"),
            superclass_names=tuple(meta["superclass_names"]),
            digest=meta["digest"],
            source=meta["source"],
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, EOFError):
        return None
