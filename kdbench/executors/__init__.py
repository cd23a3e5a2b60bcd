"""Where stages are executed, and what executors (plugins) are given to do so."""

from kdbench.executors.context import Context, ProcessWorkplace
from kdbench.executors.ready_queue import ReadyQueue

__all__ = ["Context", "ProcessWorkplace", "ReadyQueue"]
