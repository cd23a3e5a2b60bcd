"""What components said of themselves, kept between processes: asking costs the import of their libraries.

A plan asks every component for its parameters and every reducer for the neighbours it wants, and a class that
subclasses scikit-learn's or torch's costs a second of imports before it answers. An answer holds as long as
the sources that gave it are the same: the spec, and size and time of every Python file beside a module that
the component, its base classes or the registry are defined in.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: Beyond this many answers the oldest are forgotten.
MOST = 2_000


class Memory:
    """Answers by question, in a JSON file that processes share.

    A file that can't be read or written costs time and nothing else: everything is asked again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, dict[str, Any]] | None = None

    def recall(self, question: str) -> tuple[Any, bool]:
        """(answer, whether there is one whose sources have not changed)"""
        if self._answers is None:
            self._answers = self._read()
        entry = self._answers.get(question)
        if entry is None or any(_state(f) != state for f, state in entry["sources"].items()):
            return None, False
        return entry["answer"], True

    def keep(self, question: str, answer: Any, factory: Callable[..., Any]) -> None:
        """Keep what `factory` answered, plain JSON data; not of a factory without files."""
        folders = source_folders(factory)
        if not folders:
            return
        # Read again: other processes have learned something meanwhile.
        answers = self._read()
        answers.pop(question, None)
        answers[question] = {"answer": answer, "sources": {f: _state(f) for f in folders}}
        self._answers = dict(list(answers.items())[-MOST:])
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._answers), encoding="utf-8")
            os.replace(temporary, self.path)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def question(about: Mapping[str, Any]) -> str:
    """The question as a key: equal for equal `about`, plain data and sets. Another Python is another question.

    Raises:
        TypeError: `about` holds something else.
    """
    data = {"python": platform.python_version(), **about}
    text = json.dumps(data, sort_keys=True, default=_listed)
    return hashlib.sha256(text.encode()).hexdigest()


def _listed(value: Any) -> list:
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def names_a_file(value: Any) -> bool:
    """Whether any text in `value` is the name of a file or folder: what that holds may change under an answer."""
    if isinstance(value, str):
        return value != "" and "\0" not in value and os.path.exists(os.path.expanduser(value))
    if isinstance(value, Mapping):
        return any(names_a_file(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(names_a_file(v) for v in value)
    return False


def source_folders(factory: Callable[..., Any]) -> list[str]:
    """Folders of the modules that define `factory`, its base classes and the registry; [] where one of its own
    has no file."""
    classes = factory.__mro__[:-1] if isinstance(factory, type) else (factory,)
    folders = {str(Path(__file__).parent), str(Path(__file__).parents[1] / "api")}
    for number, part in enumerate(classes):
        file = getattr(sys.modules.get(getattr(part, "__module__", "")), "__file__", None)
        if file is not None:
            folders.add(str(Path(file).parent))
        elif number == 0:
            return []
    return sorted(folders)


@functools.lru_cache(maxsize=256)
def _state(folder: str) -> str:
    """A digest of the names, sizes and times of the Python files in `folder`; "" where there is none."""
    try:
        with os.scandir(folder) as entries:
            files = sorted((e.name, e.stat()) for e in entries if e.name.endswith(".py"))
    except OSError:
        return ""
    text = ";".join(f"{name}:{about.st_size}:{about.st_mtime_ns}" for name, about in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
