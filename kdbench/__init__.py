"""kdbench: run, compare and rank explanations of why knowledge distillation works.

From Python: `load_suite` for whole experiments; `score` and `embed` for networks of one's own, with no suite;
`Network` says what such a network is. Each name is imported when it is first used.
"""

from importlib import import_module

__version__ = "0.2.0"

__all__ = ["LoadedSuite", "Network", "Results", "Scores", "__version__", "embed", "load_suite", "score"]

#: Public name -> its module. `__init__.pyi` says the same to type checkers.
_HOMES = {
    "LoadedSuite": "kdbench.session.suites",
    "Results": "kdbench.session.suites",
    "load_suite": "kdbench.session.suites",
    "Network": "kdbench.standalone.networks",
    "embed": "kdbench.standalone.embed",
    "score": "kdbench.standalone.score",
    "Scores": "kdbench.standalone.score",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
