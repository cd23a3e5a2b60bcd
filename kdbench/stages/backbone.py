"""Features of all images from a frozen network, to train heads on."""

from __future__ import annotations

import numpy as np
import torch

from kdbench.plan.fields import BackboneFields
from kdbench.stages.networks import (
    architecture_of,
    build,
    frozen,
    head_of,
    load_all_but_head,
    normalization,
    without_head,
)
from kdbench.stages.task import Task
from kdbench.store import Draft
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.evaluate import predict


def run(task: Task, draft: Draft) -> None:
    """The head's input for every training image in both flips, and for every test image.

    Arrays: train float32 (views, n_train, d) with `train_rows`; test float32 (n_test, d) with `test_rows`.
    """
    data, fields = task.dataset(), task.fields(BackboneFields)
    architecture = architecture_of(task)
    norm = normalization(architecture, data)
    model = build(architecture, data, fields.seed, task.device)
    head = architecture.head(model)
    if task.has("source"):
        load_all_but_head(model, head, task.input("source").tensors("model"))
    width = head_of(model, head).in_features
    trunk = without_head(frozen(architecture, model), head)
    train_rows = fields.train.train(data)
    test_rows = fields.test.test(data)
    augmentation = Augmentation(flip=fields.flip)
    total = len(train_rows) * augmentation.n_views + len(test_rows)
    done = 0

    def report(n: int) -> None:
        nonlocal done
        done += n
        task.progress(done, total, "images")

    images = ImageSource(data.train.images, train_rows, norm, augmentation=augmentation, device=task.device)
    train = draft.open_array("train", (augmentation.n_views, len(train_rows), width), np.float32)
    for view in range(augmentation.n_views):
        train[view] = _numpy(
            predict(trunk, images, precision=fields.precision, upsampled=True, view=view, progress=report)
        )
    images = ImageSource(data.test.images, test_rows, norm, device=task.device)
    draft.array(
        "test",
        _numpy(predict(trunk, images, precision=fields.precision, upsampled=True, progress=report)),
    )
    draft.array("train_rows", train_rows)
    draft.array("test_rows", test_rows)
    draft.values |= {"width": width, "views": augmentation.n_views}


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.cpu().numpy()
