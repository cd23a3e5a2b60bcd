"""Check that a component leaves global state alone: random generators and stdout."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from kdbench.registry.import_guard import guarded
from kdbench.testing.outcome import Violation


@contextmanager
def global_seeds(seed: int) -> Iterator[None]:
    """Within it, the global generators of Python, NumPy and PyTorch start from `seed`; afterwards they are what
    they were. A result that differs between two seeds was drawn from one of them."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


@contextmanager
def left_alone(doing: str) -> Iterator[None]:
    """Raises Violation where a global random state is not what it was before, or something was printed.

    Parameters
    ----------
    doing
        When, for the sentence: "while it was fitted".
    """
    import numpy as np  # noqa: F401 - only generators of what is imported are looked at
    import torch  # noqa: F401

    notes: list[str] = []
    with guarded(doing, lambda what, where: notes.append(f"{what} ({where})" if where else what)):
        yield
    if notes:
        raise Violation("; ".join(notes))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it, PyTorch, OpenMP and BLAS use so many threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(limits=count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def refusal(error: BaseException) -> bool:
    """Whether an error is one by which a component says that it can't: ValueError, or kdbench's own."""
    from kdbench.errors import KdbenchError

    return isinstance(error, (ValueError, KdbenchError))


def brief(error: BaseException) -> str:
    """One line of an error."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__
