"""A plugin whose observer asks for an argument that the hook does not have."""

from kdbench.api import hookimpl


@hookimpl
def kdbench_run_started(run, colour):
    pass
