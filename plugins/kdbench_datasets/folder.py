"""Images in a local folder."""

from __future__ import annotations

import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kdbench.api import DataPlaces, ImageData, Split
from kdbench.errors import DataError, did_you_mean
from kdbench_datasets.cache import cached

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_SUPERCLASSES = "superclasses.toml"

Files = dict[str, list[Path]]  # class name to its images, both in alphabetical order


class ImageFolder:
    """Images in folders named after their classes.

    Either `path/<class>/*.png`, or `path/train/<class>/...` and `path/test/<class>/...`. Without `test/`, a
    fraction of every class is held out. `path/superclasses.toml` may define superclasses: `superclass =
    ["class", ...]`, with every class in exactly one. Images are rotated as their EXIF data say, cropped to a
    central square, resized (bicubic) and converted to RGB. Hidden files and files without the extension of
    an image are ignored.

    Parameters
    ----------
    path
        The folder; a relative path is searched in the data folders, then in the working directory.
    size
        Height and width of the images, 4..1024 pixels.
    test_fraction
        Fraction of every class that is held out if there is no `test/`, at least one image; strictly between
        0 and 1.
    seed
        Seed of the held-out draw, >= 0.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, *, path: str, size: int = 32, test_fraction: float = 0.2, seed: int = 0) -> None:
        if not path:
            raise ValueError(f"path={path!r}: must be a folder with one folder per class")
        if not 4 <= size <= 1024:
            raise ValueError(f"size={size!r}: 4..1024")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction={test_fraction!r}: strictly between 0 and 1")
        if seed < 0:
            raise ValueError(f"seed={seed!r}: at least 0")
        self.path, self.size, self.test_fraction, self.seed = path, size, test_fraction, seed

    def load(self, places: DataPlaces) -> ImageData:
        """Load the images; they are decoded the first time and memory-mapped from `places.cache` afterwards.

        Parameters
        ----------
        places
            Folders to search and the cache.

        Returns
        -------
        ImageData
            Images uint8 (n, size, size, 3), classes in alphabetical order.

        Raises
        ------
        DataError
            The folder does not exist, has too few classes or images, its splits have different classes, an image
            can't be read, or superclasses.toml does not match the classes.
        """
        root = self._root(places)
        train, test = self._files(root)
        names = tuple(train)
        superclasses = _superclasses(root / _SUPERCLASSES, names)
        every = [p for split in (train, test) for paths in split.values() for p in paths]
        stats = [(p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in every]
        key = {
            "dataset": "image-folder",
            "root": str(root),
            "files": stats,
            "n_train": sum(map(len, train.values())),
            "size": self.size,
            "superclasses": superclasses,
        }
        return cached(places, "image-folder", key, lambda: self._decode(root, train, test, superclasses))

    def _root(self, places: DataPlaces) -> Path:
        path = Path(self.path).expanduser()
        candidates = [folder / path for folder in places.folders] + [Path.cwd() / path]
        for candidate in dict.fromkeys(candidates):
            if candidate.is_dir():
                return candidate.resolve()
        looked = "".join(f"\n    {c}" for c in dict.fromkeys(candidates))
        raise DataError(
            f"no such folder: {self.path}; looked at:{looked}",
            where="image-folder",
            hint="give an absolute path, or name the folder it is in with --data-dir",
        )

    def _files(self, root: Path) -> tuple[Files, Files]:
        train, test = root / "train", root / "test"
        if test.is_dir() and not train.is_dir():
            raise DataError("has test/ but no train/", where=str(root), hint="add train/, or rename test/")
        files = _classes(train if train.is_dir() else root)
        if not test.is_dir():
            return self._held_out(files)
        tests = _classes(test)
        if unmatched := sorted(set(files) ^ set(tests)):
            where = train if unmatched[0] in files else test
            raise DataError(
                f"class {unmatched[0]!r} is only in {where.name}/ ({len(unmatched)} such classes)",
                where=str(root),
                hint="train/ and test/ need the same class folders",
            )
        return files, tests

    def _held_out(self, files: Files) -> tuple[Files, Files]:
        train: Files = {}
        test: Files = {}
        for label, (name, paths) in enumerate(files.items()):
            if len(paths) < 2:
                raise DataError(
                    f"class {name!r} has one image, and one must be held out",
                    where=str(paths[0].parent),
                    hint="add images, or a test/ folder next to train/",
                )
            n = min(max(1, round(self.test_fraction * len(paths))), len(paths) - 1)
            chosen = set(np.random.default_rng([self.seed, label]).permutation(len(paths))[:n].tolist())
            test[name] = [p for i, p in enumerate(paths) if i in chosen]
            train[name] = [p for i, p in enumerate(paths) if i not in chosen]
        return train, test

    def _decode(
        self, root: Path, train: Files, test: Files, superclasses: dict[str, list[str]] | None
    ) -> ImageData:
        names = list(train)
        superclass_of = None
        if superclasses is not None:
            label_of = {name: i for i, members in enumerate(superclasses.values()) for name in members}
            superclass_of = np.array([label_of[name] for name in names], np.int64)
        return ImageData(
            train=self._split(train),
            test=self._split(test),
            class_names=tuple(names),
            superclass_of=superclass_of,
            superclass_names=tuple(superclasses or ()),
            digest="",
            source=str(root),
        )

    def _split(self, files: Files) -> Split:
        paths = [path for members in files.values() for path in members]
        counts = [len(members) for members in files.values()]
        images = np.empty((len(paths), self.size, self.size, 3), np.uint8)

        def decode(i: int) -> None:
            images[i] = _read(paths[i], self.size)

        with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(decode, range(len(paths))))
        return Split(images, np.repeat(np.arange(len(files), dtype=np.int64), counts))


def _classes(folder: Path) -> Files:
    files: Files = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        images = sorted(
            p for p in sub.iterdir() if p.suffix.lower() in _ENDINGS and not p.name.startswith(".")
        )
        if not images:
            raise DataError(
                f"no image in the folder of class {sub.name!r}",
                where=str(sub),
                hint=f"images end in {' '.join(_ENDINGS)}",
            )
        files[sub.name] = images
    if len(files) < 2:
        raise DataError(
            f"{len(files)} classes; at least two are needed",
            where=str(folder),
            hint="use one folder per class",
        )
    return files


def _read(path: Path, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise DataError(
            f"the image can't be read: {e}", where=str(path), hint="replace or remove the file"
        ) from e
    return np.asarray(fitted)


def _superclasses(path: Path, names: tuple[str, ...]) -> dict[str, list[str]] | None:
    if not path.is_file():
        return None

    def wrong(what: str, hint: str = 'write superclass = ["class", ...], every class once') -> DataError:
        return DataError(what, where=str(path), hint=hint)

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise wrong(f"not valid TOML: {e}") from e
    seen: dict[str, str] = {}
    for superclass, members in table.items():
        if not isinstance(members, list) or not members or not all(isinstance(m, str) for m in members):
            raise wrong(f"{superclass!r} is {members!r}, not a list of classes")
        for name in members:
            if name not in names:
                raise wrong(
                    f"{superclass!r} names the class {name!r}, which has no folder", did_you_mean(name, names)
                )
            if name in seen:
                raise wrong(f"class {name!r} is in {seen[name]!r} and in {superclass!r}")
            seen[name] = superclass
    if missing := [name for name in names if name not in seen]:
        raise wrong(f"class {missing[0]!r} is in no superclass ({len(missing)} such classes)")
    return table
