"""A teacher's outputs, once for each distinct view that the augmentation can make of an image."""

from __future__ import annotations

import numpy as np
import torch

from kdbench.stages.networks import architecture_of, normalization, trained_network
from kdbench.stages.task import Task
from kdbench.stages.training import fold_of
from kdbench.store import Draft
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.evaluate import predict

#: Temperatures at which a teacher's confidence is recorded.
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


def run(task: Task, draft: Draft) -> None:
    """Arrays: logits float32 (views, n, n_classes) of the fold's labelled and unlabelled images, with `rows`."""
    data, identity = task.dataset(), task.identity
    fold = fold_of(task, data.train.labels, data.n_classes)
    rows = np.sort(np.concatenate([fold.labelled, fold.unlabelled]))
    augmentation = Augmentation(flip=identity["flip"])
    teacher = task.input("teacher")
    if teacher.record["identity"]["mode"] == "head":
        logits = _from_features(task, rows, augmentation.n_views)
    else:
        architecture = architecture_of(task)
        model = trained_network(task, teacher, architecture, data)
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

        logits = torch.stack(
            [
                predict(
                    model, images, precision=identity["precision"], upsampled=True, view=view, progress=report
                ).cpu()
                for view in range(augmentation.n_views)
            ]
        )
    draft.array("logits", logits.numpy())
    draft.array("rows", rows)
    draft.values |= {
        "logit_sd": round(float(logits.std()), 4),
        "top_probability": {f"{t:g}": round(top_probability(logits, t), 5) for t in TEMPERATURES},
    }


def _from_features(task: Task, rows: np.ndarray, views: int) -> torch.Tensor:
    backbone, state = task.input("backbone"), task.input("teacher").tensors("model")
    places = np.searchsorted(backbone.array("train_rows"), rows)
    features = torch.from_numpy(np.asarray(backbone.array("train")[:views, places]))
    return torch.nn.functional.linear(features, state["head.weight"], state["head.bias"])


def top_probability(logits: torch.Tensor, temperature: float) -> float:
    """Mean probability of the most likely class at `temperature`; 1 / n_classes when it says nothing."""
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return float(torch.softmax(flat / temperature, 1).amax(1).mean())
