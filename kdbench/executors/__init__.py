"""Where stages are executed, and what executors (plugins) are given to do so."""

from kdbench.executors.backlog import Backlog
from kdbench.executors.context import Context, Workplace

__all__ = ["Backlog", "Context", "Workplace"]
