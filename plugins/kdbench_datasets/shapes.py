"""Generated images of shapes: no files, any number of images, and an exact foreground mask for each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from kdbench.api import DataPlaces, ImageData, Split
from kdbench_datasets.cache import cached
from kdbench_datasets.families import TARGET
from kdbench_datasets.families_source import SOURCE
from kdbench_datasets.render import BLOCK, SIDE, Look, block

_TASKS = {"target": TARGET, "source": SOURCE}
#: Classes per superclass.
_EACH = 5
#: Version of the drawing, raised whenever a pixel changes.
_VERSION = 1


class Shapes:
    """Colour images (32, 32, 3) of shapes in a cluttered scene; each superclass is a family of five classes.

    Classes of a family differ in one feature (the number of arms, a ratio, a notch). Images of a class vary in
    position, size, rotation, stretch, stroke width, colours, shading and background. A shape is brighter than
    its background; colours carry no information about the class. The images depend on the parameters only, not
    on the machine or the number of threads, and the first n images of a class do not depend on the number of
    images.

    Parameters
    ----------
    n_train
        Training images, a multiple of the number of classes.
    n_test
        Test images, a multiple of the number of classes.
    task
        "target": 20 families (100 classes); "source": 10 other families (50 classes) that share no shape with
        them, to pretrain a teacher on.
    n_superclasses
        Number of families to use, the first ones of the task; 0 uses all.
    seed
        Seed of the images, >= 0; the classes stay the same.
    clutter
        Background pieces per image, 0..64.
    noise
        Largest change of a pixel value by noise, 0..128 (of 255).
    rotation
        Largest rotation in either direction, 0..180 degrees.

    Raises
    ------
    ValueError
        A parameter is out of range, or a number of images is not a multiple of the number of classes.
    """

    def __init__(
        self,
        *,
        n_train: int = 6000,
        n_test: int = 2000,
        task: Literal["target", "source"] = "target",
        n_superclasses: int = 0,
        seed: int = 0,
        clutter: int = 3,
        noise: int = 16,
        rotation: float = 30.0,
    ) -> None:
        if task not in _TASKS:
            raise ValueError(f"task={task!r}: 'target' or 'source'")
        families = len(_TASKS[task])
        if not 0 <= n_superclasses <= families:
            raise ValueError(
                f"n_superclasses={n_superclasses!r}: 1..{families} for task {task!r}, or 0 for all"
            )
        n_classes = (n_superclasses or families) * _EACH
        for name, value in (("n_train", n_train), ("n_test", n_test)):
            if value < n_classes or value % n_classes:
                raise ValueError(f"{name}={value!r}: a multiple of the number of classes, {n_classes}")
        if seed < 0:
            raise ValueError(f"seed={seed!r}: at least 0")
        if not 0 <= clutter <= 64:
            raise ValueError(f"clutter={clutter!r}: 0..64")
        if not 0 <= noise <= 128:
            raise ValueError(f"noise={noise!r}: 0..128")
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation={rotation!r}: 0..180 degrees")
        self.n_train, self.n_test, self.task = n_train, n_test, task
        self.n_superclasses, self.seed, self.clutter, self.noise = n_superclasses, seed, clutter, noise
        self.rotation = rotation

    def load(self, places: DataPlaces) -> ImageData:
        """Load the images; they are generated the first time and memory-mapped from `places.cache` afterwards."""
        key = {"dataset": "shapes", "version": _VERSION, **vars(self)}
        return cached(places, f"shapes-{self.task}", key, self.generate)

    def generate(self, threads: int | None = None) -> ImageData:
        """Generate the images in memory, without a digest. Image i has class i % n_classes."""
        families = _TASKS[self.task][: self.n_superclasses or None]
        return ImageData(
            train=self._split(0, self.n_train, threads),
            test=self._split(1, self.n_test, threads),
            class_names=tuple(name for _, _, names in families for name in names),
            superclass_of=np.repeat(np.arange(len(families), dtype=np.int64), _EACH),
            superclass_names=tuple(name for name, _, _ in families),
            digest="",
            source="generated",
        )

    def _split(self, split: int, total: int, threads: int | None) -> Split:
        families = _TASKS[self.task][: self.n_superclasses or None]
        n_classes = len(families) * _EACH
        each = total // n_classes
        look = Look(clutter=self.clutter, noise=self.noise, rotation=self.rotation, scale=(8.0, 13.5))
        images = np.empty((each, n_classes, SIDE, SIDE, 3), np.uint8)
        masks = np.empty((each, n_classes, SIDE, SIDE), bool)

        def draw(label: int) -> None:
            family, member = divmod(label, _EACH)
            for start in range(0, each, BLOCK):
                n = min(BLOCK, each - start)
                stream = (self.seed, list(_TASKS).index(self.task), split, label, start // BLOCK)
                rows = slice(start, start + n)
                images[rows, label], masks[rows, label] = block(families[family][1], member, look, stream, n)

        with ThreadPoolExecutor(threads or min(8, len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(draw, range(n_classes)))
        return Split(
            images.reshape(-1, SIDE, SIDE, 3),
            np.tile(np.arange(n_classes, dtype=np.int64), each),
            masks.reshape(-1, SIDE, SIDE),
        )
