"""Read artifacts back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdbench.api.data import Embedding, Neighbours
from kdbench.store import Artifact


@dataclass(frozen=True)
class StoredNetwork:
    """A network as a metric reads it (`kdbench.evaluation.view.NetworkData`), from the artifacts of its stages."""

    network: Artifact
    activations: Artifact | None = None

    def history(self) -> Mapping[str, list[float | None]]:
        return self.network.table("history")

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        return self.network.array("test_logits"), self.network.array("test_rows")

    def taps(self) -> tuple[str, ...]:
        return tuple(self.activations.record["identity"]["taps"]) if self.activations is not None else ()

    def features(self, tap: str) -> np.ndarray:
        assert self.activations is not None
        return self.activations.array(tap)


def read_embedding(artifact: Artifact) -> Embedding:
    """The embedding that an embedding stage wrote."""
    values = artifact.values
    return Embedding(
        points=np.asarray(artifact.array("points")),
        reducer=values["reducer"],
        params=values["params"],
        n_features=values["n_features"],
        loss_history=tuple(values["loss_history"]),
        diagnostics=values["diagnostics"],
    )


def read_neighbours(artifact: Artifact) -> Neighbours:
    """The neighbours that a neighbours stage wrote."""
    return Neighbours(
        np.asarray(artifact.array("indices")),
        np.asarray(artifact.array("distances")),
        artifact.values["metric"],
    )
