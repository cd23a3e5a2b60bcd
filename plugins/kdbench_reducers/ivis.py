"""The ivis package, run on TensorFlow in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from kdbench.api import Neighbours, check_choice, check_integer
from kdbench.api.data import NeighbourMetric
from kdbench.errors import PluginError
from kdbench_reducers._base import BaseReducer, seed_of, thread_count
from kdbench_reducers._ivis_names import WIDTHS
from kdbench_reducers._ivis_process import worker
from kdbench_reducers._scaling import SCALINGS, fit_scaling
from kdbench_reducers.ivis_torch import refuse_small

_MODULES = ("ivis", "tensorflow", "tf_keras")
_WORKER = Path(__file__).with_name("_ivis_worker.py")


class Ivis(BaseReducer):
    """ivis (Szubert et al. 2019) as the package `ivis` trains it.

    TensorFlow must find TF_USE_LEGACY_KERAS=1 when it is imported, and the package draws from global
    generators: both are settled in a process that runs nothing else. The first fit starts it, which takes some
    ten seconds; it stays for the next ones, whose results are those of a fresh process.

    Attributes set by fitting:
        loss_history_: training loss of each epoch as Keras reports it.
        diagnostics_: `fit_diagnostics`, of the exact neighbours in either case.
        encoder_: the trained network with the package's weights, in PyTorch.

    Parameters
    ----------
    embedding_dims
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    k
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    distance
        "pn" or "euclidean".
    batch_size
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    epochs
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    n_epochs_without_progress
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    model
        As in `IvisTorch`. k counts the row itself, as Annoy returns it.
    metric
        Of the neighbours.
    neighbours
        "exact" gives the package exact neighbours of the rows as given, before `scaling`; "annoy" leaves them to the
        package, which finds them approximately in the scaled rows.
    n_trees
        Annoy's.
    search_k
        Annoy's.
    scaling
        Of the input: "minmax" each feature to 0..1 (assumption LW-A9), "unit-std" by one factor, "none".
    pca
        See so many principal components in place of the rows; None: the rows. See `BaseReducer`.
    random_state
        Seed of Python's, NumPy's and TensorFlow's generators in that process; None: a fresh one.
    n_jobs
        Threads; None: as this process is set, -1: all.
    """

    component = "ivis"

    def __init__(
        self,
        *,
        embedding_dims: int = 2,
        k: int = 150,
        distance: Literal["pn", "euclidean"] = "pn",
        batch_size: int = 128,
        epochs: int = 1000,
        n_epochs_without_progress: int = 20,
        model: Literal["szubert", "hinton", "maaten"] = "szubert",
        metric: NeighbourMetric = "angular",
        neighbours: Literal["exact", "annoy"] = "exact",
        n_trees: int = 50,
        search_k: int = -1,
        scaling: Literal["minmax", "unit-std", "none"] = "minmax",
        pca: int | None = None,
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.embedding_dims = embedding_dims
        self.k = k
        self.distance = distance
        self.batch_size = batch_size
        self.epochs = epochs
        self.n_epochs_without_progress = n_epochs_without_progress
        self.model = model
        self.metric = metric
        self.neighbours = neighbours
        self.n_trees = n_trees
        self.search_k = search_k
        self.scaling = scaling
        self.pca = pca
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("embedding_dims", self.embedding_dims, at_least=1)
        check_integer("k", self.k, at_least=2)
        check_choice("distance", self.distance, ("pn", "euclidean"))
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("epochs", self.epochs, at_least=1)
        check_integer("n_epochs_without_progress", self.n_epochs_without_progress, at_least=1)
        check_choice("model", self.model, tuple(WIDTHS))
        check_choice("metric", self.metric, ("euclidean", "angular"))
        check_choice("neighbours", self.neighbours, ("exact", "annoy"))
        check_integer("n_trees", self.n_trees, at_least=1)
        check_integer("search_k", self.search_k, at_least=-1)
        check_choice("scaling", self.scaling, SCALINGS)

    def neighbours_wanted(self, n_samples: int) -> tuple[int, NeighbourMetric]:
        """k - 1 of them, for training and for the triplets that `loss_eval` is measured on.

        Raises UsageError if k or the batch is too large for `n_samples` rows, and PluginError if the package is not
        installed.
        """
        refuse_small(self.component, n_samples, self.k, self.batch_size)
        refuse_missing()
        return self.k - 1, self.metric

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        import torch

        from kdbench_reducers._ivis_loss import TripletLoss, fit_diagnostics
        from kdbench_reducers._ivis_network import Encoder
        from kdbench_reducers._ivis_triplets import neighbour_lists

        assert neighbours is not None
        lists = neighbour_lists(neighbours, with_self=True)
        self.scaling_ = fit_scaling(X, self.scaling)
        result = self._run(self.scaling_(X), lists)
        self.loss_history_ = [float(v) for v in result["loss_history"]]
        self.encoder_ = Encoder(X.shape[1], self.embedding_dims, WIDTHS[self.model], generator=None)
        with torch.no_grad():
            for i, (weight, bias) in enumerate(zip(self.encoder_.weights, self.encoder_.biases, strict=True)):
                weight.copy_(torch.from_numpy(result[f"w{i}"].T))
                bias.copy_(torch.from_numpy(result[f"b{i}"]))
        points = result["points"]
        loss = TripletLoss("both" if self.distance == "pn" else "an")
        self.diagnostics_.update(fit_diagnostics(points, lists, self.loss_history_, loss, self.k))
        return points

    def _run(self, scaled: np.ndarray, lists: np.ndarray) -> Mapping[str, np.ndarray]:
        """What the worker wrote."""
        threads = thread_count(self.n_jobs)
        params = {
            "embedding_dims": int(self.embedding_dims),
            "k": int(self.k),
            "distance": self.distance,
            "batch_size": int(self.batch_size),
            "epochs": int(self.epochs),
            "n_epochs_without_progress": int(self.n_epochs_without_progress),
            "model": self.model,
            "knn_distance_metric": self.metric,
            "n_trees": int(self.n_trees),
            "search_k": int(self.search_k),
        }
        task = {"params": params, "seed": seed_of(self.random_state)}
        with tempfile.TemporaryDirectory(prefix="kdbench-ivis-") as name:
            folder = Path(name)
            (folder / "task.json").write_text(json.dumps(task), "utf-8")
            np.save(folder / "data.npy", scaled)
            if self.neighbours == "exact":
                np.save(folder / "neighbours.npy", lists)
            worker(_WORKER, threads, os.getpid()).run(folder)
            with np.load(folder / "result.npz", allow_pickle=False) as arrays:
                return dict(arrays)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Points of new rows, (m, n_features): float32, (m, embedding_dims); computed without TensorFlow."""
        from kdbench_reducers._ivis_train import embed

        return embed(self.encoder_, self.scaling_, self._new_points(X))


def refuse_missing() -> None:
    """Raise PluginError where the package, or what it runs on, is not installed."""
    missing = [m for m in _MODULES if importlib.util.find_spec(m) is None]
    if missing:
        raise PluginError(
            f"{', '.join(missing)} not installed", where="reducers/ivis", hint='pip install "kdbench[ivis]"'
        )
