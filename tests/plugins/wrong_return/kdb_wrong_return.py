"""A plugin whose hooks return what they should not."""

from kdbench.api import DatasetSpec, MetricSpec, ReducerSpec, SchemeSpec, hookimpl


@hookimpl
def kdbench_reducers():
    return "oops"


@hookimpl
def kdbench_datasets():
    return None


@hookimpl
def kdbench_metrics():
    return [
        ReducerSpec(name="a-reducer", target="kdb_wrong_return:Nothing", summary="not a metric"),
        MetricSpec(name="right-metric", target="kdb_wrong_return:Nothing", summary="what it should be"),
        MetricSpec(
            name="needy-metric", target="kdb_wrong_return:Nothing", summary="", needs=frozenset({"logit"})
        ),
    ]


@hookimpl
def kdbench_schemes():
    yield SchemeSpec(name="Bad Name", target="kdb_wrong_return:Nothing", summary="")
    yield SchemeSpec(name="bad-target", target="kdb_wrong_return.Nothing", summary="")
    yield SchemeSpec(name="bad-version", target="kdb_wrong_return:Nothing", summary="", version="1")
    yield DatasetSpec
