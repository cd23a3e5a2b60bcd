"""Where stages are executed, and what executors (plugins) are given to do so."""

from kdbench.executors.context import Context, Workplace
from kdbench.executors.ready_queue import Backlog

__all__ = ["Backlog", "Context", "Workplace"]
