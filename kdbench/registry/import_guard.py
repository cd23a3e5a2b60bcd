"""Detect plugins that print or change global random states while they are imported.

What is printed would stand in the middle of `--json`; a generator that is seeded behind everybody's back makes
draws of others depend on which plugins are installed. Both are prevented and reported.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, TextIO

#: (what, "file:line" or "")
Note = Callable[[str, str], object]

#: What to do about it, for people.
IMPORT_HINT = "nothing but definitions belongs here; log with `logging`, draw from a generator of your own"


class _CapturedStdout:
    """Stands in for stdout: keeps what is printed and where that began; once closed, passes everything on."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self.text, self.place, self.done = "", "", False

    def write(self, text: str) -> int:
        if self.done:  # a handler made meanwhile has kept this object
            return self._stdout.write(text)
        if not self.place and text:
            frame = sys._getframe(1)
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        self.text += text
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextmanager
def guarded(doing: str, note: Note) -> Iterator[None]:
    """Hold a plugin to its manners. `doing`: when it was, for the sentence ("while it was imported")."""
    captured = _CapturedStdout(sys.stdout)
    before = _random_states()
    try:
        with redirect_stdout(captured):
            yield
    finally:
        captured.done = True
        if captured.text:
            first = captured.text.strip().partition("\n")[0]
            said = repr(first if len(first) <= 60 else first[:57] + "...")
            note(f"it printed {said} {doing}", captured.place)
        after = _random_states()
        for name, (state, restore) in before.items():
            if name in after and after[name][0] != state:
                restore()
                note(f"it moved the global random state of {name} {doing}; undone", "")


def _random_states() -> dict[str, tuple[Any, Callable[[], object]]]:
    """Global generators of what is imported by now: (state, to be compared; what restores it)."""
    python = random.getstate()
    states: dict[str, tuple[Any, Callable[[], object]]] = {
        "Python": (python, partial(random.setstate, python))
    }
    numpy: Any = sys.modules.get("numpy.random")
    torch: Any = sys.modules.get("torch")
    if hasattr(numpy, "get_state"):
        name, key, *rest = state = numpy.get_state()
        states["NumPy"] = ((name, key.tobytes(), *rest), partial(numpy.set_state, state))
    if hasattr(torch, "get_rng_state"):
        state = torch.get_rng_state()
        states["PyTorch"] = (state.numpy().tobytes(), partial(torch.set_rng_state, state))
    return states
