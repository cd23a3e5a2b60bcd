"""t-SNE through openTSNE, on exact neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kdbench.api import Neighbours, check_choice, check_integer, check_number
from kdbench.api.data import NeighbourMetric
from kdbench_reducers._base import BaseReducer, seed_of, thread_count


class TSNE(BaseReducer):
    """t-SNE (van der Maaten & Hinton 2008) as openTSNE optimises it, with affinities from exact neighbours.

    openTSNE's own neighbours are Annoy's from 1,000 rows on, which at 16,384 features takes far longer than
    exact ones by matrix products and gives the same affinities.

    Attributes set by fitting:
        diagnostics_: "kl_divergence" of the final positions, in nats.

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    perplexity
        Effective number of neighbours; int(3 * perplexity) are used. LW section 3.2: 150.
    metric
        "euclidean", or "angular": the Euclidean distance between rows of unit length.
    early_exaggeration_iter
        Gradient steps with and without exaggerated attraction.
    early_exaggeration
        Factor of the attraction in the first of them.
    n_iter
        Gradient steps with and without exaggerated attraction.
    exaggeration
        Factor in the second; 1 is t-SNE.
    learning_rate
        "auto" (n / exaggeration, at least 200), or a number.
    initialization
        "pca", "spectral" or "random".
    negative_gradient_method
        "bh" (Barnes-Hut), "fft" (FIt-SNE) or "auto": "bh" below 10,000 rows.
    theta
        Accuracy of Barnes-Hut; 0 is exact.
    pca
        See so many principal components in place of the rows; None: the rows. See `BaseReducer`.
    random_state
        Seed of the initial positions; None: a fresh one.
    n_jobs
        Threads; None: as the process is set, -1: all.
    """

    component = "tsne"

    def __init__(
        self,
        *,
        n_components: int = 2,
        perplexity: float = 30.0,
        metric: NeighbourMetric = "euclidean",
        early_exaggeration_iter: int = 250,
        early_exaggeration: float = 12.0,
        n_iter: int = 500,
        exaggeration: float = 1.0,
        learning_rate: Literal["auto"] | float = "auto",
        initialization: Literal["pca", "spectral", "random"] = "pca",
        negative_gradient_method: Literal["auto", "bh", "fft"] = "auto",
        theta: float = 0.5,
        pca: int | None = None,
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.metric = metric
        self.early_exaggeration_iter = early_exaggeration_iter
        self.early_exaggeration = early_exaggeration
        self.n_iter = n_iter
        self.exaggeration = exaggeration
        self.learning_rate = learning_rate
        self.initialization = initialization
        self.negative_gradient_method = negative_gradient_method
        self.theta = theta
        self.pca = pca
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("n_components", self.n_components, at_least=1)
        check_number("perplexity", self.perplexity, at_least=1)
        check_choice("metric", self.metric, ("euclidean", "angular"))
        check_integer("early_exaggeration_iter", self.early_exaggeration_iter, at_least=0)
        check_number("early_exaggeration", self.early_exaggeration, at_least=1)
        check_integer("n_iter", self.n_iter, at_least=0)
        check_number("exaggeration", self.exaggeration, at_least=1)
        if self.learning_rate != "auto":
            check_number("learning_rate", self.learning_rate, above=0)
        check_choice("initialization", self.initialization, ("pca", "spectral", "random"))
        check_choice("negative_gradient_method", self.negative_gradient_method, ("auto", "bh", "fft"))
        if self.n_components > 2 and self.negative_gradient_method != "bh":
            raise ValueError(
                f"n_components={self.n_components}: more than 2 need negative_gradient_method='bh'"
            )
        check_number("theta", self.theta, at_least=0)

    def neighbours_wanted(self, n_samples: int) -> tuple[int, NeighbourMetric]:
        """int(3 * perplexity), as openTSNE takes.

        Raises UsageError if there are not so many; openTSNE would quietly lower the perplexity.
        """
        k = int(3 * self.perplexity)
        if k >= n_samples:
            raise self._too_few(
                f"perplexity={self.perplexity:g} needs {k} neighbours; a row has {n_samples - 1}",
                f"perplexity can be at most {(n_samples - 1) / 3:.4g} here",
            )
        return k, self.metric

    def affinities(self, neighbours: Neighbours):
        """openTSNE's symmetric affinities of exact `neighbours`, int(3 * perplexity) of them a row."""
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors

        index = PrecomputedNeighbors(
            neighbours.indices.astype(np.int64), neighbours.distances.astype(np.float64)
        )
        return PerplexityBasedNN(
            perplexity=self.perplexity, knn_index=index, n_jobs=thread_count(self.n_jobs)
        )

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        import openTSNE

        assert neighbours is not None
        model = openTSNE.TSNE(
            n_components=self.n_components,
            perplexity=self.perplexity,
            early_exaggeration_iter=self.early_exaggeration_iter,
            early_exaggeration=self.early_exaggeration,
            n_iter=self.n_iter,
            exaggeration=None if self.exaggeration == 1 else self.exaggeration,
            learning_rate=self.learning_rate,
            initialization=self.initialization,
            negative_gradient_method=self.negative_gradient_method,
            theta=self.theta,
            random_state=seed_of(self.random_state),
            n_jobs=thread_count(self.n_jobs),
        )
        embedding = model.fit(X, affinities=self.affinities(neighbours))
        if embedding.kl_divergence is not None:  # none was computed without a single step
            self.diagnostics_["kl_divergence"] = float(embedding.kl_divergence)
        points = np.asarray(embedding)
        if not np.isfinite(points).all():
            raise ValueError(
                "t-SNE ended at positions that are not finite: rows that are all alike have none"
            )
        return points
