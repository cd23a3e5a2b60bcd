"""Metrics, datasets, architectures and executors that each break one promise."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdbench.api import (
    ArchitectureSpec,
    DatasetSpec,
    ExecutorSpec,
    ImageData,
    MetricResult,
    MetricSpec,
    Normalization,
    Outcome,
    Split,
    hookimpl,
)
from kdbench.errors import DataError

# Metrics


class Accuracy:
    """Share of images with the right class."""

    invariances = ("order of images", "logits plus a constant", "logits times a constant")

    def __call__(self, view):
        logits = np.asarray(view.logits, np.float64)
        if not np.isfinite(logits).all():
            raise ValueError("logits are not finite")
        right = logits.argmax(1) == view.labels
        return MetricResult({"value": self.value(view, float(right.mean()))}, {"right": right}, "all")

    def value(self, view, accuracy):
        return accuracy


class Errors(Accuracy):
    def value(self, view, accuracy):
        return 1 - accuracy


class Percent(Accuracy):
    def value(self, view, accuracy):
        return 100 * accuracy


class AnArray(Accuracy):
    def value(self, view, accuracy):
        return np.array([accuracy])


class NotANumber(Accuracy):
    """0 / 0 where outputs are constant."""

    def value(self, view, accuracy):
        spread = np.ptp(view.logits)
        with np.errstate(all="ignore"):
            return float(np.float64(spread) / spread) * accuracy


class Assumes(Accuracy):
    def value(self, view, accuracy):
        assert len(np.unique(view.labels)) > 1
        return accuracy


class TakesNaN(Accuracy):
    def __call__(self, view):
        return MetricResult({"value": float(np.mean(np.nan_to_num(view.logits).argmax(1) == view.labels))})


class Sorts(Accuracy):
    def value(self, view, accuracy):
        view.labels.sort()
        return accuracy


class Subsamples(Accuracy):
    invariances = ()

    def value(self, view, accuracy):
        rows = np.random.permutation(len(view.labels))[:50]  # noqa: NPY002
        return float(np.mean(view.logits[rows].argmax(1) == view.labels[rows]))


class ReadsFeatures(Accuracy):
    def value(self, view, accuracy):
        return accuracy * (view.features.ndim == 2)


class DependsOnScale(Accuracy):
    def value(self, view, accuracy):
        return float(np.clip(accuracy * np.abs(view.logits).mean() / 100, 0, 1))


class InvariantToWhat(Accuracy):
    invariances = ("everything",)


class WantsWithoutNeed(Accuracy):
    def neighbours_wanted(self, n_samples):
        return 5, "euclidean"


class KeepsObjects(Accuracy):
    def __call__(self, view):
        return MetricResult(super().__call__(view).values, {"names": np.array([object()])})


# Datasets


class Patches:
    """Noise about a grey that is the class."""

    def load(self, places):
        rng = np.random.default_rng(0)
        labels = np.arange(20, dtype=np.int64) % 4
        images = (50 * labels[:, None, None, None] + rng.integers(0, 50, (20, 8, 8, 3))).astype(np.uint8)
        images.setflags(write=False)
        split = Split(images, labels)
        digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        groups = np.array([0, 0, 1, 1], np.int64)
        data = ImageData(split, split, tuple("abcd"), groups, ("ab", "cd"), digest)
        return self.change(data, places)

    def change(self, data, places):
        return data


class Floats(Patches):
    def change(self, data, places):
        images = data.train.images / np.float32(255)
        return dataclasses.replace(data, train=Split(images, data.train.labels))


class ChannelsFirst(Patches):
    def change(self, data, places):
        images = np.ascontiguousarray(data.train.images.transpose(0, 3, 1, 2))
        return dataclasses.replace(data, train=Split(images, data.train.labels))


class LabelsFromOne(Patches):
    def change(self, data, places):
        return dataclasses.replace(data, train=Split(data.train.images, data.train.labels + 1))


class LacksAClass(Patches):
    def change(self, data, places):
        keep = data.train.labels != 2
        images = data.train.images[keep]
        images.setflags(write=False)
        return dataclasses.replace(data, test=Split(images, data.train.labels[keep]))


class OneNameTwice(Patches):
    def change(self, data, places):
        return dataclasses.replace(data, class_names=("a", "b", "b", "d"))


class SuperclassTooMany(Patches):
    def change(self, data, places):
        return dataclasses.replace(data, superclass_names=("ab", "cd", "ef"))


class EmptyMasks(Patches):
    def change(self, data, places):
        split = dataclasses.replace(data.train, masks=np.zeros(data.train.images.shape[:3], bool))
        return dataclasses.replace(data, train=split, test=split)


class OtherEveryTime(Patches):
    def change(self, data, places):
        return dataclasses.replace(data, digest=hashlib.sha256(np.random.bytes(8)).hexdigest())  # noqa: NPY002


class Writable(Patches):
    def change(self, data, places):
        return dataclasses.replace(data, train=Split(data.train.images.copy(), data.train.labels))


class WritesBesideItsFiles(Patches):
    def change(self, data, places):
        for folder in places.folders:
            (Path(folder) / "decoded.npy").write_bytes(b"1")
        return data


class NotFound(Patches):
    def load(self, places):
        raise DataError("not found")


# Architectures


class Small:
    """Two layers."""

    def build(self, n_classes, input_shape):
        h, w, c = input_shape
        return nn.Sequential(nn.Flatten(), nn.Linear(h * w * c, 8), nn.ReLU(), nn.Linear(8, n_classes))

    def taps(self, model):
        return {"A": "1", "B": "2"}

    def head(self, model):
        return "3"

    @property
    def normalization(self):
        return None


class OneClassMore(Small):
    def build(self, n_classes, input_shape):
        return super().build(n_classes + 1, input_shape)


class SqueezesABatch(Small):
    def build(self, n_classes, input_shape):
        class Squeezed(nn.Sequential):
            def forward(self, x):
                return super().forward(x).squeeze()

        return Squeezed(*super().build(n_classes, input_shape))


class AlwaysTraining(Small):
    def build(self, n_classes, input_shape):
        model = super().build(n_classes, input_shape)
        return nn.Sequential(*list(model)[:2], BatchCentre(), model[3])


class BatchCentre(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class TapsBackwards(Small):
    def taps(self, model):
        return {"B": "2", "A": "1"}


class TapOfNothing(Small):
    def taps(self, model):
        return {"A": "9"}


class TapsCount(Small):
    calls = 0

    def taps(self, model):
        type(self).calls += 1
        return {f"A{self.calls}": "1"}


class HeadElsewhere(Small):
    def head(self, model):
        return "1"


class NoDeviation(Small):
    @property
    def normalization(self):
        return Normalization((0.5,) * 3, (0.0,) * 3)


class DrawsFromNumPy(Small):
    def build(self, n_classes, input_shape):
        model = super().build(n_classes, input_shape)
        with torch.no_grad():
            model[3].bias.copy_(torch.from_numpy(np.random.standard_normal(n_classes)))  # noqa: NPY002
        return model


class HidesAWeight(Small):
    def build(self, n_classes, input_shape):
        class Shifted(nn.Sequential):
            shift = torch.randn(n_classes)

            def forward(self, x):
                return super().forward(x) + self.shift

        return Shifted(*super().build(n_classes, input_shape))


class SetsDeterminism(Small):
    def build(self, n_classes, input_shape):
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        return super().build(n_classes, input_shape)


class UnusedLayer(Small):
    def build(self, n_classes, input_shape):
        model = super().build(n_classes, input_shape)
        model[3].register_parameter("spare", nn.Parameter(torch.ones(1)))
        return model


class HalvesForInference(Small):
    def for_inference(self, model):
        with torch.no_grad():
            model[3].weight.mul_(0.5)
        return model.requires_grad_(False)


class OtherOutputs(Small):
    def for_inference(self, model):
        import copy

        other = copy.deepcopy(model).requires_grad_(False)
        other[3].bias += 1
        return other


# Executors


class Threadless:
    """One after another, in this process."""

    def __init__(self) -> None:
        self.slots, self.queue = 1, []

    def start(self, context):
        self.place = context.workplace()

    def submit(self, stages):
        self.queue += self.place.execute(stages)

    def wait(self, listener):
        return self.queue.pop(0)

    def stop(self):
        self.queue.clear()


class Swallows(Threadless):
    """Says of a stage that fails that it is finished."""

    def wait(self, listener):
        outcome = super().wait(listener)
        return Outcome(outcome.key, "failed", error="it failed") if outcome.status == "failed" else outcome


class LeavesAThread(Threadless):
    def start(self, context):
        super().start(context)
        self.end = threading.Event()
        threading.Thread(target=self.end.wait, args=(8,), name="forgotten").start()


class NoSlots(Threadless):
    def start(self, context):
        super().start(context)
        self.slots = 0


def _specs(kind, module_classes, **more):
    return [
        kind(name=name, target=f"kdb_broken_others:{target}", summary=name, **{**more, **extra})
        for name, target, extra in module_classes
    ]


@hookimpl
def kdbench_metrics():
    more = {"higher_is_better": True, "bounds": (0.0, 1.0), "needs": frozenset({"logits"})}
    names = (
        "Accuracy", "Errors", "Percent", "AnArray", "NotANumber", "Assumes", "TakesNaN", "Sorts", "Subsamples",
        "ReadsFeatures", "DependsOnScale", "InvariantToWhat", "WantsWithoutNeed", "KeepsObjects",
    )  # fmt: skip
    found = _specs(MetricSpec, [(f"broken-{n.lower()}", n, {}) for n in names], **more)
    return [*found, *_specs(MetricSpec, [("broken-primary", "Accuracy", {"primary": "r"})], **more)]


@hookimpl
def kdbench_datasets():
    names = (
        "Patches", "Floats", "ChannelsFirst", "LabelsFromOne", "LacksAClass", "OneNameTwice", "SuperclassTooMany",
        "EmptyMasks", "OtherEveryTime", "Writable", "WritesBesideItsFiles", "NotFound",
    )  # fmt: skip
    found = _specs(DatasetSpec, [(f"broken-{n.lower()}", n, {}) for n in names])
    return [*found, *_specs(DatasetSpec, [("broken-embedded", "NotFound", {"embedded": True})])]


@hookimpl
def kdbench_architectures():
    names = (
        "Small", "OneClassMore", "SqueezesABatch", "AlwaysTraining", "TapsBackwards", "TapOfNothing", "TapsCount",
        "HeadElsewhere", "NoDeviation", "DrawsFromNumPy", "HidesAWeight", "SetsDeterminism", "UnusedLayer",
        "HalvesForInference", "OtherOutputs",
    )  # fmt: skip
    return _specs(ArchitectureSpec, [(f"broken-{n.lower()}", n, {}) for n in names])


@hookimpl
def kdbench_executors():
    names = ("Threadless", "Swallows", "LeavesAThread", "NoSlots")
    return _specs(ExecutorSpec, [(f"broken-{n.lower()}", n, {}) for n in names])
