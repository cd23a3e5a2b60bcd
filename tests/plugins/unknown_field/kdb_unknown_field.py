"""A plugin that gives a spec a field it does not have."""

from kdbench.api import MetricSpec, ReducerSpec, hookimpl


@hookimpl
def kdbench_reducers():
    return [ReducerSpec(name="fielded", target="kdb_unknown_field:Nothing", summary="", requirs=("numpy",))]


@hookimpl
def kdbench_metrics():
    yield MetricSpec(name="before", target="kdb_unknown_field:Nothing", summary="yielded before the error")
    raise RuntimeError("halfway")
