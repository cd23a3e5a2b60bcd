"""A network trained on a source task, for a teacher to start from."""

from __future__ import annotations

import numpy as np
import torch

from kdbench.plan.fields import SourceFields
from kdbench.stages.networks import architecture_of, build, normalization
from kdbench.stages.task import Task
from kdbench.stages.training import augmentation_of, evaluator, history_table, recipe_of, report_epochs
from kdbench.store import Draft
from kdbench.training.data import ImageSource
from kdbench.training.loop import Run, Supervised, train


def run(task: Task, draft: Draft) -> None:
    """Train on the whole training split of the source dataset."""
    data, fields = task.dataset(), task.fields(SourceFields)
    recipe = recipe_of(fields.recipe)
    architecture = architecture_of(task)
    norm = normalization(architecture, data)
    model = build(architecture, data, fields.seed, task.device)
    everything = np.arange(len(data.train.labels))
    training = Run(
        student=model,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=fields.seed,
        labelled_source=ImageSource(
            data.train.images,
            everything,
            norm,
            augmentation=augmentation_of(recipe),
            device=task.device,
        ),
        labels=torch.as_tensor(np.asarray(data.train.labels), device=task.device),
    )
    test = ImageSource(data.test.images, np.arange(len(data.test.labels)), norm, device=task.device)
    evaluate = evaluator(lambda: model, {"test": (test, data.test.labels)}, recipe.precision)
    trained = train(
        training, Supervised(), recipe, precision=recipe.precision, evaluate=evaluate, eval_every=recipe.eval_every,
        checkpoints=task.store.partial(task.stage.key), progress=report_epochs(task, recipe.epochs),
    )  # fmt: skip
    draft.tensors("model", model.state_dict())
    draft.table("history", history_table(trained.history))
    draft.values |= {
        "test_accuracy": evaluate()["test_accuracy"],
        "images": trained.images,
        "steps": trained.steps,
    }
