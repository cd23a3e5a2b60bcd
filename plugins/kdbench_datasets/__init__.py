"""Datasets: CIFAR, generated shapes, digits, and a folder of one's own images."""

from __future__ import annotations

from kdbench.api import DatasetSpec, Resources, hookimpl


@hookimpl
def kdbench_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="cifar100",
            target="kdbench_datasets.cifar:Cifar100",
            summary="CIFAR-100: 32x32 colour photographs, 100 classes in 20 superclasses, 500 + 100 a class",
            reference="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        DatasetSpec(
            name="cifar10",
            target="kdbench_datasets.cifar:Cifar10",
            summary="CIFAR-10: 32x32 colour photographs, 10 classes, 5,000 + 1,000 a class",
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
            summary="Your own images: a folder a class, optionally train/ and test/ and a superclasses.toml",
            resources=Resources(memory_gib=4.0),
        ),
    ]
