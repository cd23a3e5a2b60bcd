"""A network's layers reduced without a suite, and what that has in common with measuring them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import UsageError, did_you_mean
from kdbench.locations import data_places, discover
from kdbench.standalone.images import Samples, read
from kdbench.standalone.networks import Built, Network, build

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api.data import Embedding
    from kdbench.registry import Registry
    from kdbench.store import Artifact, Store
    from kdbench.suite.schema import Component

    AnyNetwork = Network | nn.Module | str | Path


def embed(
    network: AnyNetwork,
    images: Any,
    *,
    taps: Sequence[str] | None = None,
    reducer: str | Mapping[str, Any] | Any = "pca",
    size: int | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str = "float32",
    plugins: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
) -> dict[str, Embedding]:
    """A network's activations at its taps, each reduced to a few dimensions.

    Args:
        network: a module, the name of an architecture, a file of weights, or a `kdbench.Network` that says more.
        images: see `kdbench.standalone.images.read`; labels are not needed.
        taps: of the network; all of them for None.
        reducer: a name ("tsne"), a name with parameters ({"name": "tsne", "perplexity": 5}), the import path of
            a scikit-learn-compatible class, or an object with `fit_transform`.
        size: so many of the images. seed: of the reducer, where it takes one; the same for every tap.
        device: a GPU where there is one for None. precision: "float32" or "bfloat16", of the network.
        plugins: one-file plugins. data_dir: where a dataset that is named is looked for first.

    Returns:
        Tap to embedding; its `points` are float32 (n, d), in the order of the images.

    Raises:
        UsageError: what is named does not exist, or does not fit. DataError: weights or data.
        PluginError, SuiteError: of the reducer.
    """
    from kdbench.stages.reducers import embed as reduce

    registry = discover([Path(p) for p in plugins])
    at = device_of(device)
    make, name, params = reducer_of(reducer, registry, at, seed)
    samples = read(images, registry, data_places(data_dir), size=size, seed=seed)
    built = built_for(network, registry, samples, at)
    chosen = chosen_taps(built, taps)
    found = {}
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder:
        store = store_in(folder)
        features = features_of(store, "network", built, samples, chosen, at, precision)
        for tap in chosen:
            X = np.asarray(features.array(tap), dtype=np.float32)
            fitted = make()
            found[tap] = embedding_of(reduce(fitted, X, what=f"reducers/{name}"), fitted, name, params, X)
    return found


def device_of(device: str | None) -> str:
    from kdbench.training.precision import resolve_device

    return resolve_device(device)


def built_for(network: AnyNetwork, registry: Registry, samples: Samples, device: str) -> Built:
    n_classes = samples.data.n_classes if samples.data is not None else None
    if isinstance(network, Network) and isinstance(network.architecture, str):
        n_classes = None  # the weights say it
    return build(
        Network.of(network), registry, n_classes=n_classes, input_shape=samples.input_shape, device=device
    )


def chosen_taps(network: Built, taps: Sequence[str] | None) -> list[str]:
    """The taps asked for, in the network's order. Raises UsageError for one that it has not."""
    for tap in taps or ():
        if tap not in network.taps:
            hint = did_you_mean(tap, network.taps)
            if tap in dict(network.module.named_modules()):
                hint = f"name that module: Network(model, taps={{'mine': {tap!r}}})"
            raise UsageError(f"{network.name} has no tap {tap!r}", where="taps", hint=hint)
    return [t for t in network.taps if taps is None or t in taps]


def component_of(kind: str, given: str | Mapping[str, Any], registry: Registry) -> Component:
    """A component by name, checked."""
    from kdbench.suite.schema import Component, component_table

    component = Component.model_validate(
        component_table(dict(given) if isinstance(given, Mapping) else given)
    )
    registry.check(kind, component.name, component.params)
    return component


def reducer_of(given: Any, registry: Registry, device: str, seed: int) -> tuple[Any, str, dict[str, Any]]:
    """A function that makes the reducer anew, its name and its parameters."""
    from kdbench.api import available_cores
    from kdbench.stages.reducers import make_reducer
    from kdbench.suite.schema import Component

    if callable(getattr(given, "fit_transform", None)):
        import copy

        params = {k: v for k, v in vars(given).items() if isinstance(v, (bool, int, float, str, type(None)))}
        return partial(copy.deepcopy, given), type(given).__name__, params
    if not isinstance(given, (str, Mapping, Component)):
        raise UsageError(f"{type(given).__name__} has no fit_transform", where="reducer")
    component = given if isinstance(given, Component) else component_of("reducers", given, registry)
    workplace: Any = SimpleNamespace(registry=registry, device=device, threads=len(available_cores()))
    reference = {"name": component.name, "params": component.params}
    params = registry.check("reducers", component.name, component.params)
    return partial(make_reducer, workplace, reference, seed), component.name, params


def embedding_of(
    points: np.ndarray, fitted: Any, name: str, params: dict[str, Any], X: np.ndarray
) -> Embedding:
    from kdbench.api.data import Embedding

    return Embedding(
        points=points,
        reducer=name,
        params=params,
        n_features=int(X.shape[1]),
        loss_history=tuple(float(x) for x in getattr(fitted, "loss_history_", ())),
        diagnostics={k: float(v) for k, v in getattr(fitted, "diagnostics_", {}).items()},
    )


def store_in(folder: str) -> Store:
    from kdbench.store import Store

    return Store(Path(folder))


def features_of(
    store: Store,
    role: str,
    network: Built,
    samples: Samples,
    taps: Sequence[str],
    device: str,
    precision: str,
) -> Artifact:
    """Activations as a features stage keeps them: (n, d), one array a tap.

    Raises:
        UsageError: a tap's module was not run, or its output is no tensor.
        OverflowError: an activation is not finite.
    """
    from kdbench.training.evaluate import activations

    key = f"{role}-features"
    with store.write(key, {"identity": {"taps": list(taps)}, "inputs": {}}) as draft:
        paths = {tap: network.taps[tap] for tap in taps}
        source = samples.source(network, device)
        try:
            activations(network.module, source, paths, precision=precision, allocate=draft.open_array)
        except (KeyError, AttributeError) as error:
            raise UsageError(
                f"a tap of {network.name} is not run in its forward pass, or gives no tensor: {error}",
                where="taps",
                hint="name module paths: Network(model, taps={'last': 'layer4'})",
            ) from error
    return store.open(key)
