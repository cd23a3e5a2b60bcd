"""A plugin whose observer raises."""

from kdbench.api import hookimpl


@hookimpl
def kdbench_run_finished(run):
    raise RuntimeError("no disk")
