"""Executors: one stage at a time in this process, or several at once in worker processes."""

from __future__ import annotations

from kdbench.api import ExecutorSpec, hookimpl


@hookimpl
def kdbench_executors() -> list[ExecutorSpec]:
    return [
        ExecutorSpec(
            name="serial",
            target="kdbench_executors.serial:SerialExecutor",
            summary="One stage at a time, in the process of kdbench.",
        ),
        ExecutorSpec(
            name="processes",
            target="kdbench_executors.processes:ProcessExecutor",
            summary="Several stages at once, in worker processes that share the machine's cores, memory and GPU.",
        ),
    ]
