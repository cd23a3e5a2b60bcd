"""All that a plugin author may import."""

from kdbench.api.data import (
    IMAGENET,
    DataPlaces,
    Embedding,
    ImageData,
    MetricResult,
    Neighbours,
    Normalization,
    Split,
)
from kdbench.api.draws import Fold, derive_seed, draw_fold, draw_test, draw_train
from kdbench.api.hookspecs import hookimpl
from kdbench.api.neighbours import exact_neighbours
from kdbench.api.protocols import (
    Architecture,
    Batch,
    Dataset,
    Executor,
    Metric,
    Reducer,
    Scheme,
    SchemeRun,
    View,
)
from kdbench.api.records import CellRecord, Result, RunSummary, StageSummary
from kdbench.api.specs import (
    ArchitectureSpec,
    DatasetSpec,
    ExecutorSpec,
    MetricSpec,
    ReducerSpec,
    Resources,
    SchemeSpec,
    Spec,
    SuiteSpec,
)

__all__ = [
    "IMAGENET",
    "Architecture",
    "ArchitectureSpec",
    "Batch",
    "CellRecord",
    "DataPlaces",
    "Dataset",
    "DatasetSpec",
    "Embedding",
    "Executor",
    "ExecutorSpec",
    "Fold",
    "ImageData",
    "Metric",
    "MetricResult",
    "MetricSpec",
    "Neighbours",
    "Normalization",
    "Reducer",
    "ReducerSpec",
    "Resources",
    "Result",
    "RunSummary",
    "Scheme",
    "SchemeRun",
    "SchemeSpec",
    "Spec",
    "Split",
    "StageSummary",
    "SuiteSpec",
    "View",
    "derive_seed",
    "draw_fold",
    "draw_test",
    "draw_train",
    "exact_neighbours",
    "hookimpl",
]
