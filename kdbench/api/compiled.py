"""Functions compiled by numba, cached on disk where a cache folder is writable."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit` without the interpreter's lock, whose results are kept for the next process.

    numba caches them next to the source, in the user's cache or in $NUMBA_CACHE_DIR, and raises if it may write to
    none of them, as in a read-only container. There every process compiles for itself, some
    seconds, and one warning says so.

    Parameters
    ----------
    **options
        Of `numba.njit`.

    Returns
    -------
    Callable
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _warn_once()
            return numba.njit(nogil=True, **options)(function)

    return decorate


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "numba can't write to its cache folder, so every process compiles again: "
        "set NUMBA_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=4,
    )
