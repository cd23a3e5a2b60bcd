"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdbench.api import DataPlaces, ImageData, Split
from kdbench.errors import DataError
from kdbench_datasets import cifar_names
from kdbench_datasets.cache import cached
from kdbench_datasets.cifar_files import Layout, Source, SplitName, find, read


class _Cifar:
    layout: ClassVar[Layout]

    def load(self, places: DataPlaces) -> ImageData:
        """Load the dataset from `places.folders` or a download; decode it once, then memory-map it.

        Each folder and the level below it is searched: torchvision's pickled batches first, then the Hugging Face
        hub's parquet shards. Images are sorted by the SHA-256 of their pixels, so that every copy, in either layout
        and with any number of shards, has the same digest and the same folds.

        Parameters
        ----------
        places
            Folders to search, the cache, and whether a download is allowed.

        Returns
        -------
        ImageData
            Images uint8 (n, 32, 32, 3), memory-mapped; labels int64 (n,).

        Raises
        ------
        DataError
            No copy is found (the message lists the folders searched), or a file is damaged.
        """
        source, looked = find(self.layout, places.folders)
        if source is None:
            source = self._download(places, looked)
        key = {"dataset": self.layout.name, "kind": source.kind, "files": source.fingerprint()}
        return cached(places, self.layout.name, key, lambda: self._decode(source))

    def _decode(self, source: Source) -> ImageData:
        layout = self.layout
        return ImageData(
            train=self._split(source, "train"),
            test=self._split(source, "test"),
            class_names=layout.class_names,
            superclass_of=None if layout.superclass_of is None else np.array(layout.superclass_of, np.int64),
            superclass_names=layout.superclass_names,
            digest="",
            source=str(source.folder),
        )

    def _split(self, source: Source, name: SplitName) -> Split:
        images, labels = read(self.layout, source, name)
        # A few images occur twice; the label after the pixels fixes their order too.
        keys = [
            hashlib.sha256(image.tobytes()).digest() + bytes([label])
            for image, label in zip(images, labels, strict=True)
        ]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        return Split(np.ascontiguousarray(images[order]), labels[order])

    def _download(self, places: DataPlaces, looked: list[str]) -> Source:
        import urllib.error
        import urllib.request

        name = self.layout.name
        hint = (
            f"put {self.layout.pickled_folder}/, or the hub's train-*.parquet and test-*.parquet, into a"
            " folder and name it with --data-dir or $KDBENCH_DATA"
        )
        places_text = "".join(f"\n    {line}" for line in looked) or " nowhere (no data folder is set)"
        if not places.download:
            raise DataError(
                f"not found, and downloading is off; looked in:{places_text}", where=name, hint=hint
            )
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive

        maker = getattr(datasets, self.layout.torchvision)
        target = places.folders[-1] if places.folders else places.cache / "downloads"
        try:
            # torchvision has no timeout; this request fails quickly on a machine without a network
            urllib.request.urlopen(urllib.request.Request(maker.url, method="HEAD"), timeout=10).close()
            download_and_extract_archive(maker.url, str(target), filename=maker.filename, md5=maker.tgz_md5)
        except (
            OSError,
            RuntimeError,
            EOFError,
        ) as e:  # URLError and timeouts are OSErrors; RuntimeError: MD5
            raise DataError(
                f"not found, and {maker.url} can't be downloaded to {target} ({e}); looked in:{places_text}",
                where=name,
                hint=hint,
            ) from e
        source, looked = find(self.layout, (Path(target),))
        if source is None:
            raise DataError(f"downloaded, but not found afterwards: {looked[-1]}", where=name, hint=hint)
        return source


class Cifar100(_Cifar):
    """CIFAR-100 (Krizhevsky 2009): 32x32 colour photographs, 100 classes in 20 superclasses.

    50,000 training and 10,000 test images (32, 32, 3), 500 and 100 per class.
    """

    layout = Layout(
        name="cifar100",
        class_names=cifar_names.CIFAR100,
        superclass_names=cifar_names.CIFAR100_SUPERCLASSES,
        superclass_of=cifar_names.CIFAR100_SUPERCLASS_OF,
        per_class={"train": 500, "test": 100},
        pickled_folder="cifar-100-python",
        pickled_files={"train": ("train",), "test": ("test",)},
        pickled_labels="fine_labels",
        pickled_superclasses="coarse_labels",
        label="fine_label",
        superclass="coarse_label",
        torchvision="CIFAR100",
    )


class Cifar10(_Cifar):
    """CIFAR-10 (Krizhevsky 2009): 32x32 colour photographs, 10 classes, no superclasses.

    50,000 training and 10,000 test images (32, 32, 3), 5,000 and 1,000 per class.
    """

    layout = Layout(
        name="cifar10",
        class_names=cifar_names.CIFAR10,
        per_class={"train": 5000, "test": 1000},
        pickled_folder="cifar-10-batches-py",
        pickled_files={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        pickled_labels="labels",
        label="label",
        torchvision="CIFAR10",
    )
