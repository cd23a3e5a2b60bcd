"""A teacher: a network fine-tuned on a fold's labelled images, or a head trained on its frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from kdbench.plan.fields import TeacherFields
from kdbench.stages.networks import architecture_of, build, head_of, load_all_but_head, normalization
from kdbench.stages.task import Task
from kdbench.stages.training import (
    augmentation_of,
    evaluator,
    history_table,
    recipe_of,
    report_epochs,
)
from kdbench.store import Draft
from kdbench.training.data import FeatureSource, ImageSource
from kdbench.training.evaluate import predict
from kdbench.training.loop import Run, Supervised, train


def run(task: Task, draft: Draft) -> None:
    """Arrays: test_logits float32 (n_test, n_classes) with `test_rows`. Tensors: `model`, a state dict; of the
    head alone ("head.weight", "head.bias") where only that was trained."""
    data, fields = task.dataset(), task.fields(TeacherFields)
    recipe = recipe_of(fields.recipe)
    fold = fields.draw.of(data)
    test_rows = fields.test.test(data)
    architecture = architecture_of(task)
    augmentation = augmentation_of(recipe)
    labelled: ImageSource | FeatureSource
    test: ImageSource | FeatureSource
    validation: ImageSource | FeatureSource
    if fields.mode == "head":
        backbone = task.input("backbone")
        scale = _Standardisation(
            backbone.array("train"), _places(backbone.array("train_rows"), fold.labelled)
        )
        features = scale(backbone.array("train"))
        rows = backbone.array("train_rows")
        labelled = FeatureSource(
            features, _places(rows, fold.labelled), augmentation=augmentation, device=task.device
        )
        validation = FeatureSource(features, _places(rows, fold.validation), device=task.device)
        test = FeatureSource(
            scale(backbone.array("test"))[None],
            _places(backbone.array("test_rows"), test_rows),
            device=task.device,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(fields.seed)  # that of a GPU stays as it is
            model: nn.Module = nn.Linear(backbone.values["width"], data.n_classes).to(task.device)
        nn.init.zeros_(model.weight)  # type: ignore[arg-type]
        nn.init.zeros_(model.bias)  # type: ignore[arg-type]
    else:
        norm = normalization(architecture, data)
        model = build(architecture, data, fields.seed, task.device)
        if task.has("source"):
            load_all_but_head(model, architecture.head(model), task.input("source").tensors("model"))
        head_of(model, architecture.head(model))
        labelled = ImageSource(
            data.train.images, fold.labelled, norm, augmentation=augmentation, device=task.device
        )
        validation = ImageSource(data.train.images, fold.validation, norm, device=task.device)
        test = ImageSource(data.test.images, test_rows, norm, device=task.device)
    train_labels = np.asarray(data.train.labels)
    splits = {"test": (test, np.asarray(data.test.labels)[test_rows])}
    if len(fold.validation):
        splits["validation"] = (validation, train_labels[fold.validation])
    precision = "float32" if fields.mode == "head" else recipe.precision
    evaluate = evaluator(lambda: model, splits, precision)
    training = Run(
        student=model,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=fields.seed,
        labelled_source=labelled,
        labels=torch.as_tensor(train_labels[fold.labelled], device=task.device),
    )
    trained = train(
        training, Supervised(), recipe, precision=precision, evaluate=evaluate, eval_every=recipe.eval_every,
        checkpoints=task.store.partial(task.stage.key), progress=report_epochs(task, recipe.epochs),
    )  # fmt: skip
    logits = predict(model, test, precision=precision)
    if fields.mode == "head":
        scale.fold_into(model)  # type: ignore[arg-type]
        draft.tensors("model", {f"head.{k}": v for k, v in model.state_dict().items()})
    else:
        draft.tensors("model", model.state_dict())
    draft.array("test_logits", logits.cpu().numpy())
    draft.array("test_rows", test_rows)
    draft.table("history", history_table(trained.history))
    draft.values |= {
        "images": trained.images,
        "steps": trained.steps,
        "logit_sd": round(float(logits.std()), 4),
    }


def _places(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the `wanted` rows stand among sorted `rows`."""
    return np.searchsorted(rows, wanted)


class _Standardisation:
    """Zero mean and unit variance over the labelled images, so that one learning rate suits any backbone;
    folded into the head's weights afterwards, so that the network itself stays as it was."""

    def __init__(self, features: np.ndarray, places: np.ndarray) -> None:
        chosen = np.asarray(features[:, places], dtype=np.float64).reshape(-1, features.shape[-1])
        self.mean = chosen.mean(0).astype(np.float32)
        self.std = (chosen.std(0) + 1e-3 * chosen.std()).astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features) - self.mean) / self.std

    def fold_into(self, head: nn.Linear) -> None:
        with torch.no_grad():
            std = torch.as_tensor(self.std, device=head.weight.device)
            mean = torch.as_tensor(self.mean, device=head.weight.device)
            head.weight.div_(std)
            head.bias.sub_(head.weight @ mean)
