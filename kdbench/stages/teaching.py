"""A student's teacher, or teachers, from the artifacts of their stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kdbench.api.data import ImageData
from kdbench.stages.networks import architecture_of, frozen, normalization, trained_network
from kdbench.stages.task import Task
from kdbench.store import Artifact, Draft
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.outputs import Anatomy
from kdbench.training.teaching import (
    CachedLogits,
    KnownLogits,
    LiveTeacher,
    Teaching,
    ViewCache,
    top_probability,
)

#: A teacher whose mean top probability is below so many times chance tells its student next to nothing.
NEARLY_UNIFORM = 5.0


def teaching_of(
    task: Task, data: ImageData, scheme: Any, augmentation: Augmentation, draft: Draft
) -> Teaching | None:
    """What the engine has of a teacher for the stage's student; None without one. How sure the teacher is, is
    recorded in the draft."""
    roles = sorted(r for r in task.stage.inputs if r.startswith("targets"))
    live = live_teacher(task, task.input("teacher"), data, augmentation) if task.has("teacher") else None
    if roles:
        several = [task.input(role) for role in roles]
        _check_confidence(task, draft, scheme, _sampled_logits(several[0]), data.n_classes)
        logits = [_logits(task, one, data, augmentation) for one in several]
        if roles == ["targets"]:
            return Teaching(logits=logits[0])
        return Teaching(live=live, several=logits)  # a scheme may read the first one's activations too
    if live is None:
        return None
    _check_confidence(task, draft, scheme, sample_logits(live), data.n_classes)
    return Teaching(live=live)


def live_teacher(task: Task, artifact: Artifact, data: ImageData, augmentation: Augmentation) -> LiveTeacher:
    """A trained teacher over all training images; one for all stages that take turns in a process."""
    name = f"live teacher {artifact.key} {augmentation}"
    if name not in task.shared:
        architecture = architecture_of(task, "teacher_network")
        model = frozen(architecture, trained_network(task, artifact, architecture, data))
        source = ImageSource(
            data.train.images,
            np.arange(len(data.train.labels)),
            normalization(architecture, data),
            augmentation=augmentation,
            device=task.device,
        )
        precision = artifact.record["identity"]["recipe"]["precision"]
        task.shared[name] = LiveTeacher(model, source, Anatomy.of(architecture, model), precision)
    return task.shared[name]


def sample_logits(live: LiveTeacher) -> torch.Tensor:
    """A teacher's logits of some 500 training images, evenly spaced, as they are stored."""
    n = len(live.source)
    rows = torch.arange(0, n, max(1, n // 500))
    seen = [live.see(r, live.source.augmentation.unchanged(len(r))).logits for r in rows.split(50)]
    return torch.cat(seen)


def _logits(
    task: Task, targets: Artifact, data: ImageData, augmentation: Augmentation
) -> KnownLogits | CachedLogits:
    rows, n_train = torch.from_numpy(np.array(targets.array("rows"))), len(data.train.labels)
    if not targets.values.get("filled_lazily"):
        logits = torch.from_numpy(np.array(targets.array("logits"))).to(task.device)
        return KnownLogits(logits, rows, n_train)
    cache = ViewCache(
        task.store.cache(targets.key) / "logits.float16", (augmentation.n_views, len(rows), data.n_classes)
    )
    artifact = task.store.open(targets.record["inputs"]["teacher"])
    return CachedLogits(cache, lambda: live_teacher(task, artifact, data, augmentation), rows, n_train)


def _sampled_logits(targets: Artifact) -> torch.Tensor:
    name = "sample" if targets.values.get("filled_lazily") else "logits"
    return torch.from_numpy(np.array(targets.array(name)))


def _check_confidence(task: Task, draft: Draft, scheme: Any, logits: torch.Tensor, n_classes: int) -> None:
    """Record how sure the teacher is at the scheme's temperature; warn where that is next to nothing and the
    scheme does not make up for it by a factor T²."""
    temperature = float(getattr(scheme, "temperature", 1.0))
    top = top_probability(logits, temperature)
    draft.values["teacher_confidence"] = {"top_probability": round(top, 5), "temperature": temperature}
    if temperature <= 1 or getattr(
        scheme, "t2_scaling", False
    ):  # nothing softened that a factor would restore
        return
    if top < NEARLY_UNIFORM / n_classes:
        task.warn(
            f"{task.stage.title}: the teacher is nearly uniform at T={temperature:g} (mean top probability "
            f"{top:.3f}, chance {1 / n_classes:.3f}); without a T² factor such targets teach little"
        )
