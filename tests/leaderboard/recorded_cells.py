"""Cells with the parameters that the runner puts on record, for a teacher and two kinds of students."""

from __future__ import annotations

from typing import Any

from kdbench.api.records import CellRecord, Result
from kdbench.suite.schema import Suite

BUDGETS = (400, 2500)
SCHEMES = ("undistilled", "distilled", "teacher")
POOL = 10_000
RECIPE = {
    "batch_size": 64, "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0005,
    "schedule": "cosine", "decay_every": 60, "decay_factor": 0.2, "flip": True, "shift": 0,
    "precision": "bfloat16", "eval_every": 1,
}  # fmt: skip
ACCURACY = {"undistilled": 0.1, "distilled": 0.2, "teacher": 0.3}


def recorded(
    scheme: str = "distilled",
    budget: int = 400,
    fold: int = 0,
    *,
    set_: dict[str, Any] | None = None,
    network_failed: bool = False,
    key: str = "",
    created: float = 0.0,
    accuracy: float | None = None,
) -> CellRecord:
    """A record like `kdbench.runner.cell_record`'s.

    Args:
        set_: parameters to override, as flat names.
        network_failed: nothing was trained, so there are no steps.
    """
    params: dict[str, Any] = {
        "data.dataset": "shapes", "data.train": POOL, "data.test": "all", "data.embedded": 500,
        "data.validation": 0,
    }  # fmt: skip
    epochs = 60 if scheme == "teacher" else 6
    if scheme == "teacher":
        images = epochs * budget
    else:
        params |= {
            "student.architecture": "wide-resnet", "student.architecture.depth": 28,
            "student.architecture.width": 1, "student.epochs": epochs,
        } | {f"student.{k}": v for k, v in RECIPE.items()}  # fmt: skip
        images = epochs * budget * 6
    if scheme == "undistilled":
        params |= {"scheme.passes": 6}
    else:
        params |= {
            "teacher.architecture": "resnet18", "teacher.architecture.weights": None, "teacher.epochs": 60,
            "teacher.mode": "head", "teacher.source.dataset": "source shapes", "teacher.source.epochs": 5,
        } | {f"teacher.{k}": v for k, v in RECIPE.items()}  # fmt: skip
    if scheme == "distilled":
        params |= {
            "scheme.temperature": 4.0, "scheme.t2_scaling": False, "scheme.direction": "forward",
            "data.unlabelled": POOL - budget,
        }  # fmt: skip
        images = epochs * POOL
    results = [Result("accuracy", "accuracy", accuracy or ACCURACY[scheme] + 0.01 * fold, primary=True)]
    params["metrics.accuracy.best_on_validation"] = False
    if scheme != "teacher":
        params |= {"reducers.ivis.k": 15, "reducers.ivis.epochs": 100, "metrics.ivis-loss.tail": 20}
        results.append(Result("ivis-loss", "last", 0.5 - 0.01 * fold, "A", "ivis", "n=500, k=15", True))
        results.append(Result("embedding-time", "seconds", 3.0 + fold, "A", "ivis", "n=500"))
    params |= set_ or {}
    if not network_failed:
        params |= {"steps": images // 64, "images_seen": images}
    return CellRecord(
        key=key or f"{scheme}-{budget}-{fold}",
        suite="demo",
        scale="quick",
        dataset="shapes",
        dataset_digest="0123456789abcdef" * 4,
        budget=budget,
        fold=fold,
        scheme=scheme,
        student="" if scheme == "teacher" else "WRN-28-1",
        teacher="" if scheme == "undistilled" else "resnet18",
        status="failed" if network_failed else "finished",
        results=() if network_failed else tuple(results),
        params=params,
        hardware={"label": "2 cores", "device": "cpu"},
        versions={"kdbench": "0.1.0"},
        error="student\nFloatingPointError: the loss is NaN" if network_failed else "",
        created=created,
    )


def all_recorded(folds: int = 3, **changes: Any) -> list[CellRecord]:
    """Every scheme at both budgets; `changes` go to each."""
    return [recorded(s, b, f, **changes) for b in BUDGETS for f in range(folds) for s in SCHEMES]


def recorded_suite(**changes: Any) -> Suite:
    """The suite that they are of: it says what is not a default, and no more."""
    accuracy = {"metric": "accuracy", "value_name": "accuracy"}
    base = {
        "name": "demo",
        "title": "A demonstration",
        "scale": "quick",
        "data": {
            "dataset": {"name": "shapes", "n_train": POOL, "label": "shapes"},
            "budgets": list(BUDGETS), "folds": 3, "train": POOL, "embedded": 500,
        },
        "teacher": {
            "architecture": "resnet18", "epochs": 60, "mode": "head", "schedule": "cosine",
            "source": {"dataset": {"name": "shapes", "label": "source shapes"}, "epochs": 5},
        },
        "student": {
            "architecture": {"name": "wide-resnet", "depth": 28, "label": "WRN-28-1"},
            "epochs": 6, "schedule": "cosine",
        },
        "schemes": [
            {"name": "undistilled", "passes": 6, "label": "undistilled"},
            {"name": "kl", "temperature": 4, "t2_scaling": False, "label": "distilled"},
        ],
        "taps": ["A"],
        "reducers": [{"name": "ivis-torch", "k": 15, "label": "ivis"}],
        "metrics": ["accuracy", "ivis-loss"],
        "published": [
            {"where": "Table 1", "budget": b, "scheme": s, **accuracy, "value": v}
            for b, s, v in [(400, "distilled", 0.24), (2500, "distilled", 0.44), (2500, "teacher", 0.5)]
        ],
        "claim": [
            {
                "id": "helps", "text": "Distillation helps", "where": "5.1", **accuracy,
                "left": {"scheme": "distilled", "budget": [400, 2500]}, "right": {"scheme": "undistilled"},
                "expect": "greater",
            },
        ],
    }  # fmt: skip
    return Suite.model_validate(base | changes)
