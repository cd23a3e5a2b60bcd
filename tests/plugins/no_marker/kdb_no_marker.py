"""A plugin that forgot a marker, misspelt a hook, and wraps another."""

from kdbench.api import ReducerSpec, hookimpl


def kdbench_reducers():
    return [ReducerSpec(name="unmarked", target="kdb_no_marker:Nothing", summary="never seen")]


@hookimpl
def kdbench_reducer():
    return [ReducerSpec(name="misspelt", target="kdb_no_marker:Nothing", summary="never seen")]


@hookimpl(wrapper=True)
def kdbench_suites():
    return (yield)
