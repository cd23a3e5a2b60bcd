"""scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kdbench.api import DataPlaces, ImageData, Split

_TEST_EACH = 30


class Digits:
    """Handwritten digits (Alpaydin & Kaynak 1998, from scikit-learn): 10 classes, no superclasses.

    The test split is the last 30 images of every digit (300 images), mostly by other writers than the 1,497
    training images (144 to 153 per digit).

    Parameters
    ----------
    size
        Side of the images in pixels: 8, or 16 or 32 by repeating pixels, for networks that need larger
        images.
    channels
        1, or 3 with the grey value three times, for networks pretrained on colour images.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, *, size: Literal[8, 16, 32] = 8, channels: Literal[1, 3] = 3) -> None:
        if size not in (8, 16, 32):
            raise ValueError(f"size={size!r}: 8, 16 or 32")
        if channels not in (1, 3):
            raise ValueError(f"channels={channels!r}: 1 or 3")
        self.size, self.channels = size, channels

    def load(self, places: DataPlaces) -> ImageData:
        """The digits in memory, not cached; grey values 0..16 are scaled to 0..255."""
        from dataclasses import replace

        from sklearn.datasets import load_digits

        from kdbench_datasets.cache import content_digest

        bunch = load_digits()
        labels = bunch.target.astype(np.int64)
        grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        times = self.size // 8
        images = np.repeat(np.repeat(grey, times, axis=1), times, axis=2)[..., None]
        images = np.repeat(images, self.channels, axis=3)
        last = np.concatenate([np.flatnonzero(labels == c)[-_TEST_EACH:] for c in range(10)])
        held_out = np.zeros(len(labels), bool)
        held_out[last] = True
        train, test = (Split(images[rows], labels[rows]) for rows in (~held_out, held_out))
        for split in (train, test):
            split.images.setflags(write=False)  # all stages of a process share them
        data = ImageData(
            train=train,
            test=test,
            class_names=tuple(str(d) for d in range(10)),
            superclass_of=None,
            superclass_names=(),
            digest="",
            source="scikit-learn",
        )
        return replace(data, digest=content_digest(data))
