"""kdbench: run, compare and rank explanations of why knowledge distillation works.

From Python: `load_suite` for whole experiments; `score` and `embed` for networks of one's own, with no suite;
`Network` says what such a network is. Each name is imported when it is first used.
"""

from importlib import import_module

__version__ = "0.2.0"

__all__ = ["LoadedSuite", "Network", "Results", "Scores", "__version__", "embed", "load_suite", "score"]

#: Public name -> its module. `__init__.pyi` says the same to type checkers.
_HOMES = {
    "LoadedSuite": "kdbench.facade.suites",
    "Results": "kdbench.facade.suites",
    "load_suite": "kdbench.facade.suites",
    "Network": "kdbench.facade.networks",
    "embed": "kdbench.facade.embedding",
    "score": "kdbench.facade.scoring",
    "Scores": "kdbench.facade.scoring",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
