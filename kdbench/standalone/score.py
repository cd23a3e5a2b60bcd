"""Measure networks without a suite, through the same views, reducers and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.api.cores import available_cores
from kdbench.api.data import MetricResult
from kdbench.api.neighbours import exact_neighbours, requested_neighbours
from kdbench.errors import UsageError
from kdbench.evaluation.embeddings import (
    describe,
    make_reducer,
    reduce,
    reducing_functions,
)
from kdbench.evaluation.scores import NotFinite, compute, linear_layer
from kdbench.evaluation.view import MetricView
from kdbench.locations import data_places, discover
from kdbench.plan.fields import Reference
from kdbench.plan.placement import Measurable, exclusion, positions, without_loss_history
from kdbench.standalone.embed import built_for, chosen_taps, component_of, device_of, features_of
from kdbench.standalone.images import Samples, read
from kdbench.standalone.networks import Built

if TYPE_CHECKING:
    import pandas as pd

    from kdbench.api.data import Embedding, ImageData, Neighbours
    from kdbench.api.specs import MetricSpec
    from kdbench.registry import Registry
    from kdbench.standalone.embed import AnyNetwork
    from kdbench.suite.schema import Component

SCORE_COLUMNS = ("network", "tap", "reducer", "metric", "value_name", "value", "setting", "primary")


def score(
    network: AnyNetwork,
    teacher: AnyNetwork | None = None,
    *,
    data: Any,
    metrics: Sequence[str | Mapping[str, Any]],
    taps: Sequence[str] | None = None,
    reducers: Sequence[str | Mapping[str, Any]] = (),
    size: int | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str = "float32",
    plugins: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
) -> Scores:
    """Measure a network, and a teacher if given, with kdbench's metrics.

    Parameters
    ----------
    network
        A module, the name of an architecture, a file of weights, or a `kdbench.Network`.
    teacher
        Another network. Metrics that compare with a teacher read it; the other metrics measure both.
    data
        Labelled images; see `kdbench.standalone.images.read`.
    metrics
        Names, or names with parameters: `["accuracy", {"name": "knn-accuracy", "k": 5}]`.
    taps
        Taps of the network, all by default. A teacher is measured at those of them that it has, else at all of its
        own.
    reducers
        For metrics of embeddings: names, names with parameters, or import paths.
    size
        Number of images, a balanced draw.
    seed
        Seed of the draw and of the reducers.
    device
        "cpu", "cuda", ...; by default a GPU if there is one.
    precision
        "float32" or "bfloat16", of the networks.
    plugins
        One-file plugins.
    data_dir
        Where a named dataset is looked for first.

    Returns
    -------
    Scores
        The numbers, and what was excluded with the reason.

    Raises
    ------
    UsageError
        A name does not exist or does not fit, or a metric can't be computed.
    DataError
        Weights or data are missing or damaged.
    PluginError, SuiteError
        A component is broken, or a parameter is wrong.
    """
    registry = discover([Path(p) for p in plugins])
    at = device_of(device, precision)
    wanted = [component_of("metrics", m, registry) for m in metrics]
    reducing = [component_of("reducers", r, registry) for r in reducers]
    if not wanted:
        raise UsageError("no metric was named", where="metrics", hint="kdbench list metrics")
    samples = read(data, registry, data_places(data_dir), size=size, seed=seed)
    whole = samples.as_data()
    networks = {"network": built_for(network, registry, samples, at)}
    if teacher is not None:
        networks["teacher"] = built_for(teacher, registry, samples, at)
    if len({b.name for b in networks.values()}) < len(networks):
        networks["teacher"].name += " (teacher)"
    taps_of = {"network": chosen_taps(networks["network"], taps)}
    if teacher is not None:
        shared = [t for t in taps or () if t in networks["teacher"].taps]
        taps_of["teacher"] = chosen_taps(networks["teacher"], shared or None)
    specs = [registry.spec("metrics", m.name) for m in wanted]
    reads_features = any(spec.scope != "network" for spec in specs)
    computed = {
        role: ComputedNetwork.of(
            built, samples, whole.n_classes, taps_of[role] if reads_features else (), at, precision
        )
        for role, built in networks.items()
    }
    scorer = _Scorer(registry, whole, samples.positions, reducing, at, seed)
    scores = Scores()
    for network_data in computed.values():
        for metric, spec in zip(wanted, specs, strict=True):
            other = computed.get("teacher") if spec.requires_teacher else None
            scorer.measure(network_data, metric, spec, other, scores)
    if not scores.rows:
        raise UsageError("no metric could be computed", where="metrics", hint="; ".join(scores.exclusions))
    return scores


@dataclass
class Scores:
    """What was measured.

    Attributes
    ----------
    rows
        One a number, with the columns `SCORE_COLUMNS`.
    exclusions
        What is not measured, each with its reason.
    arrays
        Values per point, class or superclass: "<network>/<tap>/<reducer>/<metric>.<name>".
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    exclusions: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def exclude(self, reason: str) -> None:
        """Note what is not measured, once."""
        if reason not in self.exclusions:
            self.exclusions.append(reason)

    def add(
        self,
        network: str,
        tap: str | None,
        reducer: str | None,
        metric: str,
        primary: str,
        result: MetricResult,
    ) -> None:
        """Add the values and arrays of a metric."""
        position = "/".join(p for p in (network, tap, reducer) if p)
        if primary not in result.values:
            self.exclude(f"metric {metric} of {position}: no {primary!r}, its primary value, is defined here")
        for name, value in result.values.items():
            row = (network, tap, reducer, metric, name, value, result.setting, name == primary)
            self.rows.append(dict(zip(SCORE_COLUMNS, row, strict=True)))
        for name, array in result.arrays.items():
            self.arrays[f"{position}/{metric}.{name}"] = np.asarray(array)

    def frame(self) -> pd.DataFrame:
        """One row a number."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(SCORE_COLUMNS))

    def value(self, metric: str, *, network: str | None = None, tap: str | None = None) -> float:
        """The one primary number of a metric at this place.

        Raises KeyError if there is none, or there are several.
        """
        found = [
            r["value"]
            for r in self.rows
            if r["primary"]
            and r["metric"] == metric
            and network in (None, r["network"])
            and tap in (None, r["tap"])
        ]
        if len(found) != 1:
            raise KeyError(f"{len(found)} values of {metric!r}: name the network or the tap")
        return found[0]


@dataclass
class ComputedNetwork:
    """A network as a metric reads it (`kdbench.evaluation.view.NetworkData`), in memory.

    Attributes
    ----------
    built
        The network.
    outputs
        Logits (n, n_classes), float32.
    rows
        Test rows (n,) that they are of.
    activations
        Tap to features (n, d).
    """

    built: Built
    outputs: np.ndarray
    rows: np.ndarray
    activations: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        network: Built,
        samples: Samples,
        n_classes: int,
        taps: Sequence[str],
        device: str,
        precision: str,
    ) -> ComputedNetwork:
        """Run a network. Raises UsageError if its outputs are not logits of the classes, or a tap does not run."""
        from kdbench.training.evaluate import predict

        source = samples.source(network, device)
        logits = predict(network.module, source, precision=precision, upsampled=network.upsampled)
        if logits.ndim != 2 or logits.shape[1] < n_classes:
            raise UsageError(
                f"{network.name} gives outputs {tuple(logits.shape)} for {n_classes} classes",
                where=network.name,
                hint="logits (n, n_classes) are expected",
            )
        features = features_of(network, samples, taps, device, precision) if taps else {}
        return cls(network, logits.cpu().numpy().astype(np.float32), samples.positions, features)

    def history(self) -> Mapping[str, list[float | None]]:
        return {}

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        return self.outputs, self.rows

    def taps(self) -> tuple[str, ...]:
        return tuple(self.activations)

    def features(self, tap: str) -> np.ndarray:
        return self.activations[tap]


@dataclass
class _Scorer:
    """Computes metrics; embeddings and neighbours are computed once and kept."""

    registry: Registry
    data: ImageData
    rows: np.ndarray
    reducers: Sequence[Component]
    device: str
    seed: int
    embeddings: dict[tuple[str, str, str], Embedding] = field(default_factory=dict)
    neighbours: dict[tuple[str, str, str, int], Neighbours] = field(default_factory=dict)

    def measure(
        self,
        network: ComputedNetwork,
        metric: Component,
        spec: MetricSpec,
        teacher: ComputedNetwork | None,
        scores: Scores,
    ) -> None:
        """Compute a metric wherever it applies; note why where it does not."""
        measurable = Measurable(
            superclasses=self.data.superclass_of is not None,
            masks=self.data.test.masks is not None,
            teacher=teacher is not None,
            is_teacher=teacher is network,
            taps=network.taps(),
            reducers={r.title: self.registry.spec("reducers", r.name).loss_history for r in self.reducers},
            head=network.built.head is not None,
        )
        if reason := exclusion(spec, measurable):
            scores.exclude(f"metric {metric.title} of {network.built.name}: {reason}")
            return
        for skipped in without_loss_history(spec, measurable):
            scores.exclude(f"metric {metric.title} of reducer {skipped}: it has no loss history")
        for tap, label in positions(spec, measurable):
            result = self._compute(network, metric, spec, teacher, tap, label)
            scores.add(network.built.name, tap, label, metric.title, spec.primary, result)

    def _compute(
        self,
        network: ComputedNetwork,
        metric: Component,
        spec: MetricSpec,
        teacher: ComputedNetwork | None,
        tap: str | None,
        label: str | None,
    ) -> MetricResult:
        component = self.registry.create("metrics", metric.name, metric.params)
        teacher_view = None
        if teacher is not None:
            teacher_tap = tap if "teacher_features" in spec.needs else None
            teacher_view = MetricView(self.data, self.rows, teacher, tap=teacher_tap)
        known = None
        if tap and "neighbours" in spec.needs:
            known = self._neighbours(network, tap, component)
        view = MetricView(
            self.data,
            self.rows,
            network,
            tap=tap,
            embedding=partial(self._embedding, network, tap, label) if tap and label else None,
            neighbours=known,
            reducers=self._functions() if "reducers" in spec.needs else None,
            teacher=teacher_view,
            head=partial(_head, network.built) if "head" in spec.needs else None,
            needs=spec.needs,
        )
        position = "/".join(p for p in (network.built.name, tap, label) if p)
        try:
            return compute(component, view, name=f"metrics/{metric.name} of {position}")
        except NotFinite:
            raise
        except ValueError as error:
            raise UsageError(
                f"it can't be computed: {error}", where=f"{metric.title} of {position}"
            ) from error

    def _neighbours(self, network: ComputedNetwork, tap: str, metric: Any) -> Callable[[], Neighbours] | None:
        requested = requested_neighbours(metric, len(self.rows))
        if requested is None:
            return None
        k, distance = requested
        if not 1 <= k < len(self.rows):
            raise UsageError(f"{k} neighbours requested among {len(self.rows)} images", where="metrics")
        key = (network.built.name, tap, distance, k)
        if key not in self.neighbours:
            X = np.asarray(network.features(tap), dtype=np.float32)
            self.neighbours[key] = exact_neighbours(X, k, distance, device=self.device)  # type: ignore[arg-type]
        return partial(self.neighbours.__getitem__, key)

    def _embedding(self, network: ComputedNetwork, tap: str, label: str) -> Embedding:
        key = (network.built.name, tap, label)
        if key not in self.embeddings:
            reference = self._reference(label)
            X = np.asarray(network.features(tap), dtype=np.float32)
            reducer = make_reducer(self.registry, reference, **self._machine)
            points = reduce(reducer, X, name=f"reducers/{reference.name}")
            params = self.registry.check("reducers", reference.name, reference.params)
            self.embeddings[key] = describe(points, reducer, reference.name, params, X.shape[1])
        return self.embeddings[key]

    def _functions(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        reducers = [(r.title, Reference(r.name, r.params)) for r in self.reducers]
        return reducing_functions(self.registry, reducers, **self._machine)

    def _reference(self, label: str) -> Reference:
        reducer = next(r for r in self.reducers if r.title == label)
        return Reference(reducer.name, reducer.params)

    @property
    def _machine(self) -> dict[str, Any]:
        return {"seed": self.seed, "threads": len(available_cores()), "device": self.device}


def _head(network: Built) -> tuple[np.ndarray, np.ndarray]:
    return linear_layer(network.module.get_submodule(network.head or ""))
