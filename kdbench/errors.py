"""Exceptions of kdbench: each has a message, a place, a hint and an exit code.

Exit codes of the command line: 0 done, 1 some cells failed, 2 usage, suite, data or workspace, 3 plugin,
4 verification.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KdbenchError(Exception):
    """An error a person can act on.

    Parameters
    ----------
    what
        One sentence that says what is wrong, with the offending value.
    where
        The file, key, option or component it is about ("" when `what` says it).
    hint
        What to do about it ("" when nothing better than the sentence can be said).
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self):  # survives the way back from a worker process
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[KdbenchError], what: str, where: str, hint: str) -> KdbenchError:
    return kind(what, where=where, hint=hint)


class UsageError(KdbenchError):
    """An option, a name or a value on the command line or in a call is wrong."""


class SuiteError(KdbenchError):
    """A suite file, a scale or an override is wrong."""


class DataError(KdbenchError):
    """A dataset or a weights file is missing, damaged or does not fit."""


class WorkspaceError(KdbenchError):
    """The workspace or the tracking store can't be used."""


class CellsFailed(KdbenchError):
    """Some cells of a run failed; all that does not hang on what failed is recorded."""

    exit_code = 1


class PluginError(KdbenchError):
    """A plugin, or what it returned, is broken."""

    exit_code = 3


class VerificationError(KdbenchError):
    """A claim was contradicted, or a record does not match its checksum."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names most like `name`, best first; empty when none is near."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint: the names near `name`, or all the known ones when none is near."""
    known = sorted(known)
    close = nearest(name, known)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(known) if known else "none is known"
