"""Stages: one module a kind, each a function of inputs, component and seed to an artifact."""

from kdbench.stages.task import Outcome, Task, execute

__all__ = ["Outcome", "Task", "execute"]
