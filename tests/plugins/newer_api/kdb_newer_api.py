"""A plugin that is written for an API version to come."""

from kdbench.api import ReducerSpec, hookimpl

kdbench_api = 7


@hookimpl
def kdbench_reducers():
    return [ReducerSpec(name="from-the-future", target="kdb_newer_api:Nothing", summary="never reached")]
