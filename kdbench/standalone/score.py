"""Networks of one's own measured without a suite, through the same view, reducers and metrics."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import UsageError
from kdbench.locations import data_places, discover
from kdbench.standalone.embed import (
    built_for,
    chosen_taps,
    component_of,
    device_of,
    embedding_of,
    features_of,
    reducer_of,
    store_in,
)
from kdbench.standalone.images import Samples, read
from kdbench.standalone.networks import Built

if TYPE_CHECKING:
    import pandas as pd

    from kdbench.api.data import ImageData
    from kdbench.api.specs import MetricSpec
    from kdbench.registry import Registry
    from kdbench.standalone.embed import AnyNetwork
    from kdbench.store import Artifact, Store
    from kdbench.suite.schema import Component

#: Needs of a metric by which it looks at each tap.
_PER_TAP = frozenset({"features", "neighbours", "teacher_features"})
_PER_EMBEDDING = frozenset({"embedding", "loss_history"})
_BESIDE_TEACHER = frozenset({"teacher", "teacher_features", "independent_teacher"})
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
    """Measure a network, and its teacher beside it, with kdbench's metrics.

    Args:
        network, teacher: see `embed`. Metrics that compare with a teacher look at it; others measure both.
        data: labelled images, see `kdbench.standalone.images.read`.
        metrics: names, or names with parameters: ["accuracy", {"name": "knn-accuracy", "k": 5}].
        taps: of the network; all for None. A teacher has all of its own, or those of them that are named here.
        reducers: for metrics that look at embeddings, as in `embed`.
        size: so many of the images, a balanced draw of `seed`. The rest as in `embed`.

    Returns:
        The numbers, and why others are missing.

    Raises:
        As `embed`; UsageError too where a metric can't be computed.
    """
    registry = discover([Path(p) for p in plugins])
    at = device_of(device)
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
    chosen = {"network": chosen_taps(networks["network"], taps)}
    if teacher is not None:
        own = [t for t in taps or () if t in networks["teacher"].taps]
        chosen["teacher"] = chosen_taps(networks["teacher"], own or None)
    scores = Scores()
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder:
        bench = _Bench(store_in(folder), registry, whole, samples, at, precision, seed, reducing)
        for role, built in networks.items():
            bench.look(role, built, chosen[role], wanted)
        for role, built in networks.items():
            for metric in wanted:
                bench.measure(role, built, chosen[role], metric, scores)
    if not scores.rows:
        raise UsageError("no metric could be computed", where="metrics", hint="; ".join(scores.exclusions))
    return scores


@dataclass
class Scores:
    """What was measured.

    Attributes:
        rows: one a number, by `SCORE_COLUMNS`.
        exclusions: what was left out, each with its reason.
        arrays: per point, class or superclass: "<network>/<tap>/<reducer>/<metric>.<name>".
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    exclusions: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def frame(self) -> pd.DataFrame:
        """One row a number."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(SCORE_COLUMNS))

    def value(self, metric: str, *, network: str | None = None, tap: str | None = None) -> float:
        """The one primary number of a metric at this place.

        Raises:
            KeyError: there is none, or there are several.
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


class _Bench:
    """Artifacts of networks in a store that lasts as long as the call, and metrics that look at them."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        data: ImageData,
        samples: Samples,
        device: str,
        precision: str,
        seed: int,
        reducers: Sequence[Component],
    ) -> None:
        self.store, self.registry, self.data, self.samples = store, registry, data, samples
        self.device, self.precision, self.seed, self.reducers = device, precision, seed, reducers
        self.rows = samples.rows if samples.rows is not None else np.arange(len(samples))
        self.logits: dict[str, Artifact] = {}
        self.features: dict[str, Artifact] = {}
        self.wishes: dict[str, int] = {}

    def look(self, role: str, network: Built, taps: Sequence[str], metrics: Sequence[Component]) -> None:
        """Write down the network's logits, and its activations where a metric wants any."""
        from kdbench.training.evaluate import predict

        source = self.samples.source(network, self.device)
        logits = (
            predict(network.module, source, precision=self.precision, upsampled=network.upsampled)
            .cpu()
            .numpy()
        )
        if logits.ndim != 2 or logits.shape[1] < self.data.n_classes:
            raise UsageError(
                f"{network.name} gives outputs {logits.shape} for {self.data.n_classes} classes",
                where=role,
                hint="logits (n, n_classes) are expected",
            )
        with self.store.write(f"{role}-logits", {"identity": {}, "inputs": {}}) as draft:
            draft.array("test_logits", logits.astype(np.float32))
            draft.array("test_rows", self.rows)
            draft.table("history", {})
        self.logits[role] = self.store.open(f"{role}-logits")
        needs = frozenset[str]().union(*(self._spec(m).needs for m in metrics))
        if needs & (_PER_TAP | _PER_EMBEDDING):
            self.features[role] = features_of(
                self.store, role, network, self.samples, taps, self.device, self.precision
            )

    def measure(
        self, role: str, network: Built, taps: Sequence[str], metric: Component, scores: Scores
    ) -> None:
        """Compute one metric wherever it looks at; say why where it can't."""
        spec = self._spec(metric)
        if reason := self._lacking(role, network, taps, spec):
            scores.exclusions.append(f"metric {metric.title} of {network.name}: {reason}")
            return
        per_embedding = bool(spec.needs & _PER_EMBEDDING)
        if not per_embedding and not spec.needs & _PER_TAP:
            self._call(role, network, metric, spec, None, None, scores)
            return
        for tap in taps[-1:] if "head" in spec.needs else taps:
            if not per_embedding:
                self._call(role, network, metric, spec, tap, None, scores)
                continue
            for reducer in self.reducers:
                if "loss_history" in spec.needs and not getattr(
                    self.registry.spec("reducers", reducer.name), "loss_history", False
                ):
                    why = f"metric {metric.title} of reducer {reducer.title}: it has no loss history"
                    scores.exclusions += [why] if why not in scores.exclusions else []
                    continue
                self._call(role, network, metric, spec, tap, reducer, scores)

    def _spec(self, metric: Component) -> MetricSpec:
        return self.registry.spec("metrics", metric.name)

    def _lacking(self, role: str, network: Built, taps: Sequence[str], spec: MetricSpec) -> str:
        needs = spec.needs
        if "superclasses" in needs and self.data.superclass_of is None:
            return "the data have no superclasses"
        if "masks" in needs and self.data.test.masks is None:
            return "the data have no masks"
        if needs & _BESIDE_TEACHER and "teacher" not in self.logits:
            return "it compares with a teacher, and there is none"
        if needs & _BESIDE_TEACHER and role == "teacher":
            return "it compares with this network"
        if "head" in needs and network.head is None:
            return "it has no linear layer"
        if needs & (_PER_TAP | _PER_EMBEDDING) and not taps:
            return "it has no taps"
        if (needs & _PER_EMBEDDING or "reducers" in needs) and not self.reducers:
            return "no reducer was named"
        return ""

    def _call(
        self,
        role: str,
        network: Built,
        metric: Component,
        spec: MetricSpec,
        tap: str | None,
        reducer: Component | None,
        scores: Scores,
    ) -> None:
        from kdbench.api.data import MetricResult
        from kdbench.evaluation.view import ArtifactView

        called = self.registry.create("metrics", metric.name, metric.params)
        teacher = None
        if spec.needs & _BESIDE_TEACHER:
            known = self.features.get("teacher") if "teacher_features" in spec.needs else None
            teacher = ArtifactView(
                self.data,
                self.rows,
                network=self.logits["teacher"],
                tap=tap if known else None,
                features=known,
            )
        view = ArtifactView(
            self.data,
            self.rows,
            network=self.logits[role],
            tap=tap,
            features=self.features[role] if tap else None,
            embedding=self._embedding(role, tap, reducer) if tap and reducer else None,
            neighbours=self._neighbours(role, tap, called) if tap and "neighbours" in spec.needs else None,
            reducers=dict(self._functions()) if "reducers" in spec.needs else None,
            teacher=teacher,
            head=partial(_head, network) if "head" in spec.needs else None,
            needs=spec.needs,
        )
        place = "/".join(p for p in (network.name, tap, reducer.title if reducer else None) if p)
        try:
            result = called(view)
        except ValueError as error:
            raise UsageError(f"it can't be computed: {error}", where=f"{metric.title} of {place}") from error
        if not isinstance(result, MetricResult):
            raise TypeError(f"metrics/{metric.name} returned {type(result).__name__}, not a MetricResult")
        if spec.primary not in result.values:
            scores.exclusions.append(f"metric {metric.title} of {place}: it gives no {spec.primary!r} here")
        for name, value in result.values.items():
            if not math.isfinite(value):
                raise ValueError(f"metrics/{metric.name} returned {name}={value} for {place}")
            title = reducer.title if reducer else None
            numbers = (
                network.name,
                tap,
                title,
                metric.title,
                name,
                float(value),
                result.setting,
                name == spec.primary,
            )
            scores.rows.append(dict(zip(SCORE_COLUMNS, numbers, strict=True)))
        for name, array in result.arrays.items():
            scores.arrays[f"{place}/{metric.title}.{name}"] = np.asarray(array)

    def _neighbours(self, role: str, tap: str, metric: Any) -> Artifact | None:
        """Those that a metric wants, computed once a tap and distance for the largest k so far."""
        from kdbench.api.neighbours import exact_neighbours

        ask = getattr(metric, "neighbours_wanted", None)
        wanted = ask(len(self.rows)) if ask else None
        if not wanted:
            return None
        k, distance = wanted
        if not 1 <= k < len(self.rows):
            raise UsageError(f"{k} neighbours asked for among {len(self.rows)} images", where="metrics")
        key = f"{role}-neighbours-{tap.replace('/', '.')}-{distance}-{k}"
        if not self.store.has(key):
            X = np.asarray(self.features[role].array(tap), dtype=np.float32)
            found = exact_neighbours(X, k, distance, device=self.device)
            with self.store.write(key, {}) as draft:
                draft.array("indices", found.indices)
                draft.array("distances", found.distances)
                draft.values["metric"] = found.metric
        return self.store.open(key)

    def _embedding(self, role: str, tap: str, reducer: Component) -> Artifact:
        from kdbench.stages.reducers import embed as reduce
        from kdbench.store import content_key

        key = content_key({"role": role, "tap": tap, "name": reducer.name, "params": reducer.params})
        if not self.store.has(key):
            X = np.asarray(self.features[role].array(tap), dtype=np.float32)
            make, name, params = reducer_of(reducer, self.registry, self.device, self.seed)
            fitted = make()
            found = embedding_of(reduce(fitted, X, what=f"reducers/{name}"), fitted, name, params, X)
            with self.store.write(key, {}) as draft:
                draft.array("points", found.points)
                draft.values |= {
                    "reducer": name,
                    "params": dict(found.params),
                    "n_features": found.n_features,
                    "loss_history": list(found.loss_history),
                    "diagnostics": dict(found.diagnostics),
                }
        return self.store.open(key)

    def _functions(self) -> Iterator[tuple[str, Any]]:
        """The reducers as functions, for a metric that runs them on data of its own."""
        from kdbench.stages.reducers import embed as reduce

        for reducer in self.reducers:
            make, name, _ = reducer_of(reducer, self.registry, self.device, self.seed)

            def run(X: np.ndarray, make: Any = make, name: str = name) -> np.ndarray:
                return reduce(make(), np.ascontiguousarray(X, dtype=np.float32), what=f"reducers/{name}")

            yield reducer.title, run


def _head(network: Built) -> tuple[np.ndarray, np.ndarray]:
    """Weight (n_classes, d) and bias (n_classes,) of the last linear layer, float32."""
    layer: Any = network.module.get_submodule(network.head or "")
    weight = layer.weight.detach().float().cpu().numpy()
    bias = (
        np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().float().cpu().numpy()
    )
    return weight, bias
