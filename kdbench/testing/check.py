"""A conformance check: a name, a function, and what to change if it fails."""

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

    It is called with a fixture: the component, and what it is tried on. It returns where all is well, raises
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

    def __call__(self, fixture: Any) -> None:
        self.function(fixture)

    def finding(self, fixture: Any) -> Finding:
        """Run the check. An exception of the component is a failure too, with the text of the exception."""
        try:
            self.function(fixture)
        except NotApplicable as reason:
            return Finding(self.name, "not applicable", str(reason))
        except Violation as wrong:
            return Finding(self.name, "failed", str(wrong), self.change)
        except KdbenchError as error:
            return Finding(self.name, "failed", f"{error.where}: {error.what}".removeprefix(": "), error.hint)
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            return Finding(self.name, "failed", f"{type(error).__name__}: {error}", self.change)
        return Finding(self.name, "passed")


def check(kind: str, change: str) -> Callable[[Callable[[Any], None]], Check]:
    """Makes a function a `Check`: its name and docstring say the rest.

    @check("reducers", "draw from a generator of your own")
    def same_seed_same_result(fixture): ...
    """

    def make(function: Callable[[Any], None]) -> Check:
        name = function.__name__.removeprefix("check_").replace("_", "-")
        return Check(name, kind, " ".join((inspect.getdoc(function) or "").split()), change, function)

    return make
