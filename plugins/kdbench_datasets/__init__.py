"""Datasets: CIFAR, generated shapes, digits, and a folder of image files."""

from __future__ import annotations

from kdbench.api import DatasetSpec, Resources, hookimpl


@hookimpl
def kdbench_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="cifar100",
            target="kdbench_datasets.cifar:Cifar100",
            summary="CIFAR-100: 32x32 colour photographs, 100 classes in 20 superclasses, 500 + 100 per class",
            reference="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        DatasetSpec(
            name="cifar10",
            target="kdbench_datasets.cifar:Cifar10",
            summary="CIFAR-10: 32x32 colour photographs, 10 classes, 5,000 training and 1,000 test images per class",
            reference="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        DatasetSpec(
            name="shapes",
            target="kdbench_datasets.shapes:Shapes",
            summary="Generated 32x32 colour images of 100 shapes in 20 families, with exact foreground masks",
            embedded=True,
        ),
        DatasetSpec(
            name="digits",
            target="kdbench_datasets.digits:Digits",
            summary="scikit-learn's handwritten digits: 8x8, 10 classes, 1,797 images",
            reference="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
            embedded=True,
        ),
        DatasetSpec(
            name="image-folder",
            target="kdbench_datasets.folder:ImageFolder",
            summary="Your own images: one folder per class, optionally train/ and test/ and a superclasses.toml",
            resources=Resources(memory_gib=4.0),
        ),
    ]
