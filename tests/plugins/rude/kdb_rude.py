"""A plugin without manners: it prints, seeds global generators, and its reducer changes what it is given."""

import random

import numpy as np

from kdbench.api import ReducerSpec, hookimpl

print("rude plugin loaded")
random.seed(0)


@hookimpl
def kdbench_reducers():
    print("asked for reducers")
    np.random.seed(0)
    return [ReducerSpec(name="rude", target="kdb_rude:Rude", summary="changes its input")]


class Rude:
    """The first two columns, doubled in place."""

    def fit_transform(self, X):
        print("reducing")
        np.random.seed(1)
        X *= 2
        return X[:, :2] + np.random.normal(size=(len(X), 2))
