"""A plugin that claims the name of a component of the good plugin."""

from kdbench.api import ReducerSpec, hookimpl


@hookimpl
def kdbench_reducers():
    return [
        ReducerSpec(name="good-reducer", target="kdb_same_id:Reducer", summary="the same id"),
        ReducerSpec(name="own-reducer", target="kdb_same_id:Reducer", summary="an id of its own"),
    ]


class Reducer:
    """Nothing."""
