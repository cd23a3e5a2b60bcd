"""ivis in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import Neighbours, check_choice, check_integer, check_number
from kdbench.api.data import NeighbourMetric
from kdbench.errors import KdbenchError, UsageError
from kdbench_reducers._base import BaseReducer, seed_of
from kdbench_reducers._ivis_names import WIDTHS, LossVariant, Sampling
from kdbench_reducers._scaling import SCALINGS, fit_scaling

if TYPE_CHECKING:
    from kdbench_reducers._ivis_loss import TripletLoss

Compat = Literal["2.0.11", "1.8.4", "paper"]
Negative = Literal["random", "hard"]


@dataclass(frozen=True)
class Preset:
    """What a version of the package, or the paper, means where they differ.

    `list_extra`: the list of positives holds k + list_extra rows beside the anchor itself (`with_self`).
    """

    loss_variant: LossVariant
    squared: bool
    sampling: Sampling
    negative: Negative
    with_self: bool
    list_extra: int


def preset_of(compat: str) -> Preset:
    """The preset of `compat`.

    - "2.0.11" (from 2.0.5 on): both hinges, one neighbour rank a batch, k rows that count the anchor itself.
    - "1.8.4" (up to 2.0.4, loss up to 1.8.4): the nearer of both, a rank for each row, k rows beside the
      anchor.
    - "paper": LW equation 2: squared distances, anchor against negative alone; under the package's hinge, and
      with its random positive among k and random negative, because the published losses (0.146 to 0.606) fit
      neither a sum without a hinge nor the nearest and the furthest row (assumption LW-A9).
    """
    presets = {
        "2.0.11": Preset("both", False, "rank_per_batch", "random", True, -1),
        "1.8.4": Preset("min", False, "per_row", "random", True, 0),
        "paper": Preset("an", True, "per_row", "random", False, 0),
    }
    return presets[compat]


class IvisTorch(BaseReducer):
    """ivis (Szubert et al. 2019), the algorithm of the package in PyTorch.

    A siamese network learns to place each row nearer to one of its k neighbours than to a row that is none,
    by a triplet loss; the neighbours are exact ones of the rows as given, before `scaling`. Results depend on
    the order of the rows, as the package's do: a batch is a block of consecutive rows.

    Attributes set by fitting:
        loss_history_: training loss of each epoch, dropout on: the mean over its rows.
        diagnostics_: `fit_diagnostics`.
        encoder_: the trained network, on the CPU.

    Parameters
    ----------
    embedding_dims
        Dimensions of the embedding.
    k
        Neighbours a positive is drawn from; what it counts is `compat`'s matter. The loss depends on k and n before
        it depends on the layer.
    distance
        "pn" also holds the negative away from the positive, "euclidean" from the anchor alone. The preset "paper" is
        the second whatever stands here.
    batch_size
        Rows of a batch, at most n.
    epochs
        At most so many.
    n_epochs_without_progress
        Stop when the training loss has had no new minimum for so many epochs; the last weights are kept, not the
        best.
    margin
        Of the hinge, in units of the embedding.
    model
        Hidden layers: "szubert" 128-128-128, "hinton" 2000-1000-500, "maaten" 500-500-2000.
    metric
        Of the neighbours.
    compat
        Whose defaults the next four take where they are None: `preset_of`.
    loss_variant
        "both", "min" or "an": `TripletLoss`.
    squared
        Squared distances in the loss.
    sampling
        "rank_per_batch" or "per_row".
    negative
        "random": uniform among rows outside the anchor's list; "hard": of those drawn for the batch, the nearest to
        the anchor as embedded now that is outside its list.
    learning_rate
        Of Adam.
    scaling
        Of the input: "minmax" each feature to 0..1 (assumption LW-A9), "unit-std" by one factor, "none".
    precision
        "bfloat16" multiplies the hidden layers so in training, and sums in float32: faster where the hardware has it.
    pca
        See so many principal components in place of the rows; None: the rows. See `BaseReducer`.
    device
        "cpu", "cuda", "cuda:1", ...; "auto": CUDA where there is one.
    random_state
        Seed of weights, triplets and dropout; None: a fresh one. Equal seeds give equal results on the same device
        and number of threads.
    n_jobs
        Threads; None: as the process is set, -1: all.
    """

    component = "ivis-torch"

    def __init__(
        self,
        *,
        embedding_dims: int = 2,
        k: int = 150,
        distance: Literal["pn", "euclidean"] = "pn",
        batch_size: int = 128,
        epochs: int = 1000,
        n_epochs_without_progress: int = 20,
        margin: float = 1.0,
        model: Literal["szubert", "hinton", "maaten"] = "szubert",
        metric: NeighbourMetric = "angular",
        compat: Compat = "2.0.11",
        loss_variant: LossVariant | None = None,
        squared: bool | None = None,
        sampling: Sampling | None = None,
        negative: Negative | None = None,
        learning_rate: float = 1e-3,
        scaling: Literal["minmax", "unit-std", "none"] = "minmax",
        precision: Literal["float32", "bfloat16"] = "float32",
        pca: int | None = None,
        device: str = "auto",
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.embedding_dims = embedding_dims
        self.k = k
        self.distance = distance
        self.batch_size = batch_size
        self.epochs = epochs
        self.n_epochs_without_progress = n_epochs_without_progress
        self.margin = margin
        self.model = model
        self.metric = metric
        self.compat = compat
        self.loss_variant = loss_variant
        self.squared = squared
        self.sampling = sampling
        self.negative = negative
        self.learning_rate = learning_rate
        self.scaling = scaling
        self.precision = precision
        self.pca = pca
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("embedding_dims", self.embedding_dims, at_least=1)
        check_choice("compat", self.compat, ("2.0.11", "1.8.4", "paper"))
        check_integer("k", self.k, at_least=1 - preset_of(self.compat).list_extra)
        check_choice("distance", self.distance, ("pn", "euclidean"))
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("epochs", self.epochs, at_least=1)
        check_integer("n_epochs_without_progress", self.n_epochs_without_progress, at_least=1)
        check_number("margin", self.margin, at_least=0)
        check_choice("model", self.model, tuple(WIDTHS))
        check_choice("metric", self.metric, ("euclidean", "angular"))
        check_choice("loss_variant", self.loss_variant, (None, "both", "min", "an"))
        check_choice("squared", self.squared, (None, False, True))
        check_choice("sampling", self.sampling, (None, "rank_per_batch", "per_row"))
        check_choice("negative", self.negative, (None, "random", "hard"))
        check_number("learning_rate", self.learning_rate, above=0)
        check_choice("scaling", self.scaling, SCALINGS)
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        if not isinstance(self.device, str) or self.device.split(":")[0] not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device={self.device!r}: allowed are 'auto', 'cpu', 'cuda', 'cuda:0', ...")

    @property
    def loss(self) -> TripletLoss:
        """The loss that the parameters resolve to."""
        from kdbench_reducers._ivis_loss import TripletLoss

        preset = preset_of(self.compat)
        variant = self.loss_variant or ("an" if self.distance == "euclidean" else preset.loss_variant)
        return TripletLoss(variant, preset.squared if self.squared is None else self.squared, self.margin)

    def neighbours_wanted(self, n_samples: int) -> tuple[int, NeighbourMetric]:
        """k - 1 for compat "2.0.11", whose lists count the row itself; k for the others.

        Raises UsageError if k or the batch is too large for `n_samples` rows.
        """
        refuse_small(self.component, n_samples, self.k, self.batch_size)
        return self.k + preset_of(self.compat).list_extra, self.metric

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        import torch

        from kdbench_reducers._ivis_loss import fit_diagnostics
        from kdbench_reducers._ivis_network import Encoder
        from kdbench_reducers._ivis_train import Recipe, train
        from kdbench_reducers._ivis_triplets import neighbour_lists

        assert neighbours is not None
        preset = preset_of(self.compat)
        lists = neighbour_lists(neighbours, preset.with_self)
        device = self.resolved_device()
        # Each purpose draws from a stream of its own, so that e.g. another sampling leaves the weights alone.
        weights, triplets, dropout = np.random.SeedSequence(seed_of(self.random_state)).generate_state(3)
        self.scaling_ = fit_scaling(X, self.scaling)
        half = self.precision == "bfloat16"
        encoder = Encoder(
            X.shape[1],
            self.embedding_dims,
            WIDTHS[self.model],
            generator=torch.Generator().manual_seed(int(weights)),
            in_bfloat16=half,
        ).to(device)
        data = self.scaling_.tensor(X, torch.bfloat16 if half else torch.float32).to(device)
        recipe = Recipe(
            loss=self.loss,
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.n_epochs_without_progress,
            learning_rate=self.learning_rate,
            sampling=self.sampling or preset.sampling,
            hard=(self.negative or preset.negative) == "hard",
        )
        self.loss_history_ = train(
            encoder,
            data,
            torch.from_numpy(lists).to(device),
            recipe,
            triplets=torch.Generator(device).manual_seed(int(triplets)),
            dropout=int(dropout),
        )
        if not np.isfinite(self.loss_history_[-1]):
            raise KdbenchError(
                f"the loss of epoch {len(self.loss_history_)} is {self.loss_history_[-1]}",
                where=f"reducers/{self.component}",
                hint=f"try another scaling than {self.scaling!r}, or a smaller learning_rate",
            )
        del data
        self.encoder_ = encoder.cpu()
        self.encoder_.in_bfloat16 = False
        points = self._embed(X)
        self.diagnostics_.update(fit_diagnostics(points, lists, self.loss_history_, self.loss, self.k))
        return points

    def resolved_device(self) -> str:
        """The device that "auto" stands for here, or the one named. Raises UsageError if it is not there."""
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        kind, _, index = self.device.partition(":")
        if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
            raise self._too_few(f"device={self.device!r} is not there", "use device='auto' or 'cpu'")
        return self.device

    def _embed(self, X: np.ndarray) -> np.ndarray:
        from kdbench_reducers._ivis_train import embed

        return embed(self.encoder_, self.scaling_, X)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Points of new rows, (m, n_features): float32, (m, embedding_dims)."""
        return self._embed(self._new_points(X))


def refuse_small(component: str, n: int, k: int, batch_size: int) -> None:
    """Raise UsageError where `n` rows are too few for `k` or for one batch, as the package does."""
    where = f"reducers/{component}"
    if k >= n:
        raise UsageError(
            f"k={k} is not below the {n} rows", where=where, hint=f"k can be at most {n - 1} here"
        )
    if batch_size > n:
        raise UsageError(
            f"batch_size={batch_size} is more than the {n} rows",
            where=where,
            hint=f"batch_size can be at most {n} here",
        )
