"""A student trained by a scheme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kdbench.api.data import ImageData
from kdbench.api.draws import draw_test
from kdbench.stages.networks import architecture_of, build, normalization, trained_network
from kdbench.stages.targets import top_probability
from kdbench.stages.task import Task
from kdbench.stages.training import evaluator, fold_of, history_table, recipe_of, report_epochs
from kdbench.store import Draft
from kdbench.training.data import Augmentation, ImageSource, TrainingBatch
from kdbench.training.evaluate import predict
from kdbench.training.loop import Run, train
from kdbench.training.precision import autocast

#: A teacher whose mean top probability is below so many times chance tells its student next to nothing.
NEARLY_UNIFORM = 5.0


def run(task: Task, draft: Draft) -> None:
    """Arrays: test_logits float32 (n_test, n_classes) with `test_rows`. Tensors: `model`, the state dict."""
    data, identity = task.dataset(), task.identity
    recipe = recipe_of(identity["recipe"])
    fold = fold_of(task, data.train.labels, data.n_classes)
    test_rows = draw_test(data.test.labels, data.n_classes, **identity["test"])
    architecture = architecture_of(task)
    norm = normalization(architecture, data)
    model = build(architecture, data, identity["seed"], task.device)
    chosen = task.stage.options["scheme"]
    scheme = task.registry.create("schemes", chosen["name"], chosen["params"])
    augmentation = Augmentation(recipe.flip, recipe.shift)
    images = data.train.images
    pool = "unlabelled" in identity["draw"]
    training = Run(
        student=model,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=identity["seed"],
        labelled_source=ImageSource(
            images, fold.labelled, norm, augmentation=augmentation, device=task.device
        ),
        labels=torch.as_tensor(np.asarray(data.train.labels)[fold.labelled], device=task.device),
        unlabelled_source=ImageSource(
            images, fold.unlabelled, norm, augmentation=augmentation, device=task.device
        )
        if pool
        else None,
        teacher=_teacher(task, data, scheme, augmentation, draft),
    )
    test = ImageSource(data.test.images, test_rows, norm, device=task.device)
    splits = {"test": (test, np.asarray(data.test.labels)[test_rows])}
    if len(fold.validation):
        held = ImageSource(images, fold.validation, norm, device=task.device)
        splits["validation"] = (held, np.asarray(data.train.labels)[fold.validation])
    trained = train(
        training, scheme, recipe, precision=recipe.precision,
        evaluate=evaluator(model, splits, recipe.precision), eval_every=recipe.eval_every,
        checkpoints=task.store.partial(task.stage.key), progress=report_epochs(task, recipe.epochs),
    )  # fmt: skip
    draft.tensors("model", model.state_dict())
    draft.array("test_logits", predict(model, test, precision=recipe.precision).cpu().numpy())
    draft.array("test_rows", test_rows)
    draft.table("history", history_table(trained.history))
    draft.values |= {"images": trained.images, "steps": trained.steps}


def _teacher(
    task: Task, data: ImageData, scheme: Any, augmentation: Augmentation, draft: Draft
) -> Callable[[TrainingBatch], torch.Tensor] | None:
    """The teacher's logits for a batch: looked up where they were computed ahead, else computed live."""
    temperature = getattr(scheme, "temperature", 1.0)
    if task.has("targets"):
        targets = task.input("targets")
        logits = torch.from_numpy(np.array(targets.array("logits")))
        _check_confidence(task, draft, scheme, top_probability(logits, temperature), data.n_classes)
        logits = logits.to(task.device)
        place = torch.full((len(data.train.labels),), -1, dtype=torch.int64)
        rows = torch.from_numpy(np.array(targets.array("rows")))
        place[rows] = torch.arange(len(rows))

        def look_up(batch: TrainingBatch) -> torch.Tensor:
            return logits[batch.view.to(logits.device), place[batch.index].to(logits.device)]

        return look_up
    if not task.has("teacher"):
        return None
    artifact = task.input("teacher")
    architecture = architecture_of(task, "teacher_network")
    model = trained_network(task, artifact, architecture, data)
    precision = artifact.record["identity"]["recipe"]["precision"]
    everything = np.arange(len(data.train.labels))
    source = ImageSource(
        data.train.images,
        everything,
        normalization(architecture, data),
        augmentation=augmentation,
        device=task.device,
    )

    def live(batch: TrainingBatch) -> torch.Tensor:
        with torch.no_grad(), autocast(precision, task.device):
            return model(source.batch(batch.index, batch.view)).float()

    sample = torch.arange(0, len(everything), max(1, len(everything) // 500))
    with torch.no_grad(), autocast(precision, task.device):
        seen = model(source.batch(sample, torch.zeros_like(sample))).float()
    _check_confidence(task, draft, scheme, top_probability(seen, temperature), data.n_classes)
    return live


def _check_confidence(task: Task, draft: Draft, scheme: Any, top: float, n_classes: int) -> None:
    """Record how sure the teacher is at the scheme's temperature; warn where that is next to nothing and the
    scheme does not make up for it by a factor T²."""
    temperature = getattr(scheme, "temperature", 1.0)
    draft.values["teacher_confidence"] = {"top_probability": round(top, 5), "temperature": temperature}
    if top < NEARLY_UNIFORM / n_classes and not getattr(scheme, "t2_scaling", False):
        task.warn(
            f"{task.stage.title}: the teacher is nearly uniform at T={temperature:g} (mean top probability "
            f"{top:.3f}, chance {1 / n_classes:.3f}); without a T² factor such targets teach little"
        )
