"""A check: one promise of a contract, by name, with what to change where it is broken."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.testing.outcome import Finding, NotApplicable, Violation


@dataclass(frozen=True)
class Check:
    """One thing that must hold of every component of a kind.

    It is called with a bench: the component, and what it is tried on. It returns where all is well, raises
    `Violation` with a sentence that says what is wrong, and `NotApplicable` where there is nothing to check. What
    the component raises itself comes through.

    Attributes
    ----------
    name
        Lower-case words joined by "-".
    kind
        Of components, "reducers".
    holds
        What it holds a component to, a sentence or two.
    change
        What to change in one that does not keep it.
    function
        The check itself.
    """

    name: str
    kind: str
    holds: str
    change: str
    function: Callable[[Any], None]

    def __call__(self, bench: Any) -> None:
        self.function(bench)

    def finding(self, bench: Any) -> Finding:
        """What it finds. What a component raises is a broken contract too, in the error's own words."""
        try:
            self.function(bench)
        except NotApplicable as reason:
            return Finding(self.name, "not applicable", str(reason))
        except Violation as wrong:
            return Finding(self.name, "broken", str(wrong), self.change)
        except KdbenchError as error:
            return Finding(self.name, "broken", f"{error.where}: {error.what}".removeprefix(": "), error.hint)
        except Exception as error:  # of a stranger's plugin, of whatever kind
            return Finding(self.name, "broken", f"{type(error).__name__}: {error}", self.change)
        return Finding(self.name, "kept")


def check(kind: str, change: str) -> Callable[[Callable[[Any], None]], Check]:
    """Makes a function a `Check`: its name and docstring say the rest.

    @check("reducers", "draw from a generator of your own")
    def same_seed_same_result(bench): ...
    """

    def make(function: Callable[[Any], None]) -> Check:
        name = function.__name__.removeprefix("check_").replace("_", "-")
        return Check(name, kind, " ".join((inspect.getdoc(function) or "").split()), change, function)

    return make
