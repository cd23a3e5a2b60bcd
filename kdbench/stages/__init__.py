"""One file a kind of stage. Each is a function of its inputs, its component and its seed to an artifact."""

from kdbench.stages.task import Outcome, Task, execute

__all__ = ["Outcome", "Task", "execute"]
