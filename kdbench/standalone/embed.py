"""Embed a network without a suite; shared by `score`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.api.cores import available_cores
from kdbench.errors import UsageError, did_you_mean
from kdbench.evaluation.embeddings import describe, make_reducer, reduce
from kdbench.locations import data_places, discover
from kdbench.plan.fields import Reference
from kdbench.standalone.images import Samples, read
from kdbench.standalone.networks import Built, Network, build

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api.data import Embedding
    from kdbench.registry import Registry
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
    """Embed the features of a network at its taps.

    Parameters
    ----------
    network
        A module, the name of an architecture, a file of weights, or a `kdbench.Network`.
    images
        Images, see `kdbench.standalone.images.read`; labels are not needed.
    taps
        Taps of the network, all by default.
    reducer
        A name ("tsne"), a name with parameters (`{"name": "tsne", "perplexity": 5}`), the import path of a
        scikit-learn-compatible class, or an object with `fit_transform`.
    size
        Number of images, a balanced draw if there are labels.
    seed
        Seed of the draw and of the reducer; the same for every tap.
    device
        "cpu", "cuda", ...; by default a GPU if there is one.
    precision
        "float32" or "bfloat16", of the network.
    plugins
        One-file plugins.
    data_dir
        Where a named dataset is looked for first.

    Returns
    -------
    dict
        Tap to embedding; its `points` are float32 (n, d), in the order of the images.

    Raises
    ------
    UsageError
        A name does not exist, or does not fit.
    DataError
        Weights or data are missing or damaged.
    PluginError, SuiteError
        The reducer is broken, or a parameter is wrong.
    """
    registry = discover([Path(p) for p in plugins])
    at = device_of(device, precision)
    make, name, params = reducer_of(reducer, registry, at, seed)
    samples = read(images, registry, data_places(data_dir), size=size, seed=seed)
    built = built_for(network, registry, samples, at)
    features = features_of(built, samples, chosen_taps(built, taps), at, precision)
    embeddings = {}
    for tap, activations in features.items():
        X, fitted = np.asarray(activations, dtype=np.float32), make()
        points = reduce(fitted, X, name=f"reducers/{name}")
        embeddings[tap] = describe(points, fitted, name, params, X.shape[1])
    return embeddings


def device_of(device: str | None, precision: str) -> str:
    """The device to compute on. Raises UsageError for an unknown device or precision."""
    from kdbench.training.precision import resolve_device

    if precision not in ("float32", "bfloat16"):
        raise UsageError(
            f"there is no precision {precision!r}", where="precision", hint='write "float32" or "bfloat16"'
        )
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


def reducer_of(
    given: Any, registry: Registry, device: str, seed: int
) -> tuple[Callable[[], Any], str, dict[str, Any]]:
    """A function that creates the reducer, its name and its parameters."""
    if callable(getattr(given, "fit_transform", None)):
        params = {k: v for k, v in vars(given).items() if isinstance(v, (bool, int, float, str, type(None)))}
        return partial(copy.deepcopy, given), type(given).__name__, params
    if not isinstance(given, (str, Mapping)):
        raise UsageError(f"{type(given).__name__} has no fit_transform", where="reducer")
    component = component_of("reducers", given, registry)
    reference = Reference(component.name, component.params)
    make = partial(
        make_reducer, registry, reference, seed=seed, threads=len(available_cores()), device=device
    )
    return make, component.name, registry.check("reducers", component.name, component.params)


def features_of(
    network: Built, samples: Samples, taps: Sequence[str], device: str, precision: str
) -> dict[str, np.ndarray]:
    """Features (n, d) of a network by tap, as a features stage computes them.

    Parameters
    ----------
    network
        The network.
    samples
        The images.
    taps
        Taps of the network.
    device
        Where and how the network runs.
    precision
        Where and how the network runs.

    Returns
    -------
    dict
        Tap to features, float16 if that holds them, else float32.

    Raises
    ------
    UsageError
        The module of a tap does not run, or its output is not a tensor.
    OverflowError
        A value is not finite.
    """
    from kdbench.training.evaluate import activations

    features: dict[str, np.ndarray] = {}

    def allocate(tap: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        features[tap] = np.empty(shape, dtype)
        return features[tap]

    paths = {tap: network.taps[tap] for tap in taps}
    try:
        activations(
            network.module, samples.source(network, device), paths, precision=precision, allocate=allocate
        )
    except (KeyError, AttributeError) as error:
        raise UsageError(
            f"a tap of {network.name} does not run in its forward pass, or gives no tensor: {error}",
            where="taps",
            hint="name module paths: Network(model, taps={'last': 'layer4'})",
        ) from error
    return {tap: features[tap] for tap in taps}
