"""Outputs of a teacher for each distinct view that the augmentation can make of an image."""

from __future__ import annotations

import numpy as np
import torch

from kdbench.api.data import ImageData
from kdbench.plan.fields import TargetsFields
from kdbench.stages.networks import architecture_of, frozen, normalization, trained_network
from kdbench.stages.task import Task
from kdbench.stages.teaching import live_teacher, sample_logits
from kdbench.store import Artifact, Draft
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.evaluate import predict
from kdbench.training.teaching import top_probability

#: Temperatures at which a teacher's confidence is recorded.
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


def run(task: Task, draft: Draft) -> None:
    """Arrays: `rows`, the fold's labelled and unlabelled images, and logits float32 (views, n, n_classes).

    Of more views than are worth computing ahead only a `sample` of logits stands here, (about 500, n_classes) of
    images as they are stored; a cache beside the artifact is filled with the views that students come to see.
    """
    data, fields = task.dataset(), task.fields(TargetsFields)
    fold = fields.draw.of(data)
    rows = np.sort(np.concatenate([fold.labelled, fold.unlabelled]))
    teacher = task.input("teacher")
    if fields.shift is not None and fields.shift_fill is not None:
        augmentation = Augmentation(fields.flip, fields.shift, fields.shift_fill)  # type: ignore[arg-type]
        logits = sample_logits(live_teacher(task, teacher, data, augmentation)).cpu()
        draft.array("sample", logits.numpy())
        draft.values["filled_lazily"] = True
    else:
        logits = _of_all_views(task, data, teacher, rows, Augmentation(flip=fields.flip))
        draft.array("logits", logits.numpy())
    draft.array("rows", rows)
    draft.values |= {
        "logit_sd": round(float(logits.std()), 4),
        "top_probability": {f"{t:g}": round(top_probability(logits, t), 5) for t in TEMPERATURES},
    }


def _of_all_views(
    task: Task, data: ImageData, teacher: Artifact, rows: np.ndarray, augmentation: Augmentation
) -> torch.Tensor:
    if teacher.record["identity"].get("mode") == "head":
        return _from_features(task, rows, augmentation.n_views)
    architecture = architecture_of(task, "teacher_network")
    model = frozen(architecture, trained_network(task, teacher, architecture, data))
    images = ImageSource(
        data.train.images,
        rows,
        normalization(architecture, data),
        augmentation=augmentation,
        device=task.device,
    )
    done = 0

    def report(n: int) -> None:
        nonlocal done
        done += n
        task.progress(done, len(rows) * augmentation.n_views, "images")

    precision = task.fields(TargetsFields).precision
    return torch.stack(
        [
            predict(model, images, precision=precision, upsampled=True, view=view, progress=report).cpu()
            for view in range(augmentation.n_views)
        ]
    )


def _from_features(task: Task, rows: np.ndarray, views: int) -> torch.Tensor:
    backbone, state = task.input("backbone"), task.input("teacher").tensors("model")
    places = np.searchsorted(backbone.array("train_rows"), rows)
    features = torch.from_numpy(np.asarray(backbone.array("train")[:views, places]))
    return torch.nn.functional.linear(features, state["head.weight"], state["head.bias"])
