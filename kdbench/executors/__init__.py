"""Context and queue for executor plugins."""

from kdbench.executors.context import Context, ProcessWorkplace
from kdbench.executors.ready_queue import ReadyQueue

__all__ = ["Context", "ProcessWorkplace", "ReadyQueue"]
