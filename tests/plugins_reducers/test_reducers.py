"""What every reducer of the plugin does, over the specs it registers."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier

from kdbench.api import Reducer, exact_neighbours
from kdbench.errors import UsageError
from kdbench_reducers import kdbench_reducers

SPECS = {spec.name: spec for spec in kdbench_reducers()}
#: Parameters that make each quick on 240 rows.
QUICK = {
    "pca": {},
    "random-projection": {},
    "tsne": {"perplexity": 10, "n_iter": 150, "early_exaggeration_iter": 100},
    "umap": {"n_epochs": 60},
    "ivis": {"k": 15, "epochs": 25},
    "ivis-torch": {"k": 15, "epochs": 25, "device": "cpu"},
}
# The package is fitted in its own file: each fit starts TensorFlow anew.
FAST = [
    pytest.param(name, marks=pytest.mark.slow) if name == "umap" else name  # numba compiles for half a minute
    for name in SPECS
    if name != "ivis"
]
ON_NEIGHBOURS = ["tsne", pytest.param("umap", marks=pytest.mark.slow), "ivis-torch"]


def build(name: str, **params):
    module, _, attribute = SPECS[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)(**{**QUICK[name], **params})


def blobs(n: int = 240, d: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 rows around five far centres, and which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    X = (2 * rng.standard_normal((5, d)))[labels] + rng.standard_normal((n, d))
    return X.astype(np.float32), labels


def neighbour_accuracy(points: np.ndarray, labels: np.ndarray) -> float:
    half = len(points) // 2
    return KNeighborsClassifier(5).fit(points[:half], labels[:half]).score(points[half:], labels[half:])


def test_every_reducer_is_registered_with_a_quick_setting():
    assert set(SPECS) == set(QUICK)
    assert SPECS["random-projection"].control == "negative"
    assert {name for name, spec in SPECS.items() if spec.loss_history} == {"ivis", "ivis-torch"}


def test_registering_imports_nothing_heavy():
    code = (
        "import sys, kdbench_reducers as p; p.kdbench_reducers();"
        "heavy = ('torch', 'sklearn', 'openTSNE', 'umap', 'tensorflow', 'numpy');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", list(SPECS))
def test_parameters_survive_clone_and_are_keyword_only(name):
    reducer = build(name, random_state=7)
    assert isinstance(reducer, Reducer)
    assert clone(reducer).get_params() == reducer.get_params()
    with pytest.raises(TypeError):
        type(reducer)(2)


@pytest.mark.parametrize("name", FAST)
def test_an_embedding_is_repeatable_finite_float32_and_leaves_its_input_and_all_generators_alone(name):
    X, _ = blobs()
    before = X.copy()
    X.setflags(write=False)  # as a memory-mapped layer is
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    reducer = build(name, random_state=3)
    first = reducer.fit_transform(X)
    assert first.shape == (240, 2)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(X, before)
    assert np.array_equal(reducer.embedding_, first)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == threads

    again = build(name, random_state=3).fit_transform(X)
    assert np.array_equal(first, again)
    assert np.array_equal(reducer.fit_transform(X), first)  # a refit starts anew
    other = build(name, random_state=4).fit_transform(X)
    assert np.array_equal(first, other) == (name == "pca")

    # the same values in another dtype and order
    strided = np.asfortranarray(np.repeat(X, 2, axis=1).astype(np.float64))[:, ::2]
    assert np.array_equal(build(name, random_state=3).fit_transform(strided), first)
    if hasattr(reducer, "loss_history_"):
        assert all(isinstance(v, float) for v in reducer.loss_history_)
    assert all(isinstance(v, float) for v in reducer.diagnostics_.values())


@pytest.mark.parametrize("name", [n for n in FAST if n != "random-projection"])
def test_a_reducer_separates_blobs_better_than_the_negative_control(name):
    X, labels = blobs(d=60)
    control = [
        neighbour_accuracy(build("random-projection", random_state=s).fit_transform(X), labels)
        for s in range(5)
    ]
    reached = neighbour_accuracy(build(name, random_state=0).fit_transform(X), labels)
    assert reached > max(0.85, np.mean(control) + 0.1)


@pytest.mark.parametrize("name", ON_NEIGHBOURS)
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_given_neighbours_give_what_computed_ones_give(name, metric):
    X, _ = blobs()
    quick = {"tsne": {"n_iter": 20}, "umap": {"n_epochs": 10}, "ivis-torch": {"epochs": 3}}[name]
    reducer = build(name, random_state=0, metric=metric, **quick)
    k, wanted = reducer.neighbours_wanted(len(X))
    assert wanted == metric
    more = exact_neighbours(X, k + 20, metric)
    assert np.array_equal(reducer.fit_transform(X, neighbours=more), reducer.fit_transform(X))


@pytest.mark.parametrize("name", ON_NEIGHBOURS)
def test_unfitting_neighbours_are_refused(name):
    X, _ = blobs()
    reducer = build(name)
    k, metric = reducer.neighbours_wanted(len(X))
    other = "angular" if metric == "euclidean" else "euclidean"
    with pytest.raises(ValueError, match=rf"{other}.*{metric}"):
        reducer.fit_transform(X, neighbours=exact_neighbours(X, k, other))
    with pytest.raises(ValueError, match=rf"{k - 1} .*{k}"):
        reducer.fit_transform(X, neighbours=exact_neighbours(X, k - 1, metric))
    with pytest.raises(ValueError, match=r"239 rows.*240"):
        reducer.fit_transform(X, neighbours=exact_neighbours(X[:-1], k, metric))


@pytest.mark.parametrize("name", ["pca", "random-projection", "ivis-torch"])
def test_transform_maps_the_fitted_rows_where_they_were_and_new_ones_beside_them(name):
    assert SPECS[name].parametric
    X, labels = blobs(n=400)
    reducer = build(name, random_state=0)
    points = reducer.fit_transform(X[:300])
    np.testing.assert_allclose(
        reducer.transform(X[:300]), points, rtol=1e-4, atol=1e-4 * np.abs(points).max()
    )
    if name != "random-projection":
        nearest = KNeighborsClassifier(5).fit(points, labels[:300])
        assert nearest.score(reducer.transform(X[300:]), labels[300:]) > 0.9
    with pytest.raises(ValueError, match=r"29 features.*30"):
        reducer.transform(X[:, :29])


def test_what_has_no_transform_says_so_in_its_spec():
    assert not SPECS["tsne"].parametric
    assert not SPECS["umap"].parametric
    assert not hasattr(build("tsne"), "transform")
    assert not hasattr(build("umap"), "transform")


@pytest.mark.parametrize("name", FAST)
def test_bad_input_is_refused(name):
    X, _ = blobs()
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        build(name).fit_transform(bad)
    with pytest.raises(ValueError, match="2D"):
        build(name).fit_transform(X[0])
    with pytest.raises(ValueError):
        build(name).fit_transform(X[:1])


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("pca", {"n_components": 0}),
        ("pca", {"solver": "magic"}),
        ("pca", {"random_state": -1}),
        ("pca", {"random_state": 1.5}),
        ("pca", {"n_jobs": 0}),
        ("random-projection", {"n_components": 2.0}),
        ("tsne", {"perplexity": 0}),
        ("tsne", {"perplexity": float("nan")}),
        ("tsne", {"metric": "cosine"}),
        ("tsne", {"learning_rate": -1}),
        ("tsne", {"initialization": "zeros"}),
        ("tsne", {"negative_gradient_method": "fitsne"}),
        ("tsne", {"n_components": 3}),
        ("umap", {"n_neighbors": 1}),
        ("umap", {"min_dist": 2.0}),
        ("umap", {"n_epochs": 0}),
        ("umap", {"init": "zeros"}),
        ("ivis", {"k": 1}),
        ("ivis", {"neighbours": "hnsw"}),
        ("ivis", {"distance": "cosine"}),
        ("ivis-torch", {"k": 1}),
        ("ivis-torch", {"k": True}),
        ("ivis-torch", {"model": "lenet"}),
        ("ivis-torch", {"compat": "3.0"}),
        ("ivis-torch", {"loss_variant": "max"}),
        ("ivis-torch", {"sampling": "per_epoch"}),
        ("ivis-torch", {"negative": "easy"}),
        ("ivis-torch", {"scaling": "robust"}),
        ("ivis-torch", {"precision": "float16"}),
        ("ivis-torch", {"device": "tpu"}),
        ("ivis-torch", {"epochs": 0}),
        ("ivis-torch", {"learning_rate": 0}),
        ("ivis-torch", {"margin": -1}),
    ],
)
def test_a_bad_parameter_is_named_with_its_value_and_what_is_allowed(name, params):
    ((parameter, value),) = params.items()
    with pytest.raises(ValueError) as caught:
        build(name, **params)
    assert f"{parameter}={value!r}: " in str(caught.value)
    reducer = build(name).set_params(**params)  # set_params does not pass the constructor
    with pytest.raises(ValueError, match=parameter):
        reducer.fit_transform(blobs()[0])


@pytest.mark.parametrize(
    ("name", "params", "n", "said"),
    [
        ("pca", {"n_components": 31}, 240, "at most 30"),
        ("tsne", {"perplexity": 80}, 240, "79.67"),
        ("umap", {"n_neighbors": 20}, 20, "at most 19"),
        ("ivis-torch", {"k": 150}, 150, "at most 149"),
        ("ivis-torch", {"k": 15}, 100, "batch_size can be at most 100"),
    ],
)
def test_too_few_rows_are_refused_with_what_would_do(name, params, n, said):
    reducer = build(name, **params)
    with pytest.raises(UsageError, match=said) as caught:
        reducer.fit_transform(blobs(n=n)[0])
    assert caught.value.where == f"reducers/{name}"


@pytest.mark.parametrize(
    "name", ["random-projection", "ivis-torch", pytest.param("umap", marks=pytest.mark.slow)]
)
def test_without_a_seed_two_fits_differ_and_numpy_s_generator_stays_where_it_was(name):
    X, _ = blobs()
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert not np.array_equal(build(name).fit_transform(X), build(name).fit_transform(X))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
