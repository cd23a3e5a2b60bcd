"""A student trained by a scheme."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import nn

from kdbench.api.data import ImageData
from kdbench.plan.fields import StudentFields
from kdbench.stages.networks import architecture_of, build, normalization
from kdbench.stages.task import Task
from kdbench.stages.teaching import teaching_of
from kdbench.stages.training import (
    augmentation_of,
    evaluator,
    history_table,
    recipe_of,
    report_epochs,
)
from kdbench.store import Draft
from kdbench.training.compiled import Compiled
from kdbench.training.data import ImageSource
from kdbench.training.evaluate import predict
from kdbench.training.loop import Run, training_steps
from kdbench.training.outputs import Anatomy
from kdbench.training.setup import Setup, scheme_modules
from kdbench.training.teaching import Teaching


def run(task: Task, draft: Draft) -> Generator[None, None, None]:
    """Arrays: test_logits float32 (n_test, n_classes) with `test_rows`. Tensors: `model`, the state dict of the
    network that is kept: the moving average where the scheme has one. Pauses after each optimiser step."""
    data, fields = task.dataset(), task.fields(StudentFields)
    recipe = recipe_of(fields.recipe)
    fold = fields.draw.of(data)
    test_rows = fields.test.test(data)
    architecture = architecture_of(task)
    norm = normalization(architecture, data)
    model = build(architecture, data, fields.seed, task.device)
    reference = task.reference("scheme")
    scheme = task.registry.create("schemes", reference.name, reference.params)
    augmentation = augmentation_of(recipe)
    images = data.train.images
    anatomy = Anatomy.of(architecture, model)
    teaching = teaching_of(task, data, scheme, augmentation, draft)
    pool = fields.draw.unlabelled is not None and len(fold.unlabelled) > 0
    training = Run(
        student=model,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=fields.seed,
        labelled_source=ImageSource(
            images, fold.labelled, norm, augmentation=augmentation, device=task.device
        ),
        labels=torch.as_tensor(np.asarray(data.train.labels)[fold.labelled], device=task.device),
        unlabelled_source=ImageSource(
            images, fold.unlabelled, norm, augmentation=augmentation, device=task.device
        )
        if pool
        else None,
        teaching=teaching,
        anatomy=anatomy,
        n_classes=data.n_classes,
    )
    training.modules = _modules(task, data, scheme, training, architecture)
    test = ImageSource(data.test.images, test_rows, norm, device=task.device)
    splits = {"test": (test, np.asarray(data.test.labels)[test_rows])}
    if len(fold.validation):
        held = ImageSource(images, fold.validation, norm, device=task.device)
        splits["validation"] = (held, np.asarray(data.train.labels)[fold.validation])
    trained = yield from training_steps(
        training, scheme, recipe, precision=recipe.precision,
        evaluate=evaluator(lambda: kept_network(training), splits, recipe.precision),
        eval_every=recipe.eval_every, checkpoints=task.store.partial(task.stage.key),
        progress=report_epochs(task, recipe.epochs),
    )  # fmt: skip
    kept = kept_network(training)
    draft.tensors("model", kept.state_dict())
    draft.array("test_logits", predict(kept, test, precision=recipe.precision).cpu().numpy())
    draft.array("test_rows", test_rows)
    draft.table("history", history_table(trained.history))
    draft.values |= {"images": trained.images, "steps": trained.steps}
    if trained.figures:
        draft.values["figures"] = dict(trained.figures)


def kept_network(training: Run) -> nn.Module:
    """The network that is evaluated and kept: the student, or its moving average."""
    kept = training.student if training.ema is None else training.ema
    return kept.network if isinstance(kept, Compiled) else kept


def _modules(task: Task, data: ImageData, scheme: Any, training: Run, architecture: Any) -> nn.Module | None:
    """What the scheme adds to the training, made to the measure of its networks."""
    if not hasattr(scheme, "modules"):
        return None
    assert training.anatomy is not None
    sample = training.labelled_source.batch(torch.arange(min(2, len(training.labelled_source))))
    shapes, width = training.anatomy.shapes(training.student, sample)
    setup = Setup(
        student=training.student,
        n_classes=data.n_classes,
        n_train=len(data.train.labels),
        n_labelled=len(training.labelled_source),
        n_unlabelled=training.n_unlabelled,
        student_features=shapes,
        student_width=width,
        build=lambda seed: build(architecture, data, seed, task.device),
        seed=training.seed,
        **_of_teacher(training.teaching),
    )
    return scheme_modules(scheme, setup, task.device)


def _of_teacher(teaching: Teaching | None) -> dict[str, Any]:
    live = teaching.live if teaching else None
    if live is None:
        return {"teacher": None}
    shapes, width = live.anatomy.shapes(live.model, live.source.batch(torch.arange(2)))
    return {"teacher": live.model, "teacher_features": shapes, "teacher_width": width}
