"""Where stages are executed."""

from kdbench.executors.context import Context
from kdbench.executors.processes import ProcessExecutor
from kdbench.executors.serial import SerialExecutor

__all__ = ["Context", "ProcessExecutor", "SerialExecutor"]
