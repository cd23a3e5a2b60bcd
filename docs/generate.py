"""Write `hooks.md` and `suite.schema.json` from the code: `python docs/generate.py`. A test compares them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from importlib import import_module, metadata
from pathlib import Path

DOCS = Path(__file__).parent
#: Kind of component -> its guide.
PAGES = {
    "datasets": "dataset",
    "architectures": "architecture",
    "schemes": "scheme",
    "reducers": "reducer",
    "metrics": "metric",
    "executors": "executor",
    "suites": "suite",
}


def hooks() -> dict:
    """Name of each hook -> its function in `kdbench/api/hookspecs.py`, in that file's order."""
    from kdbench.api import hookspecs

    return {
        name: function
        for name, function in vars(hookspecs).items()
        if inspect.isfunction(function) and hasattr(function, "kdbench_spec")
    }


def users() -> dict[str, list[str]]:
    """Hook -> the plugins of kdbench's own distribution that implement it."""
    found: dict[str, list[str]] = {name: [] for name in hooks()}
    for entry in sorted(metadata.entry_points(group="kdbench"), key=lambda e: e.name):
        if entry.dist is None or entry.dist.name != "kdbench":
            continue
        module = import_module(entry.value)
        for hook, plugins in found.items():
            if hasattr(getattr(module, hook, None), "kdbench_impl"):
                plugins.append(entry.name)
    return found


def page_of(hook: str) -> str:
    """The guide with an example, below `docs/plugins/`."""
    return PAGES.get(hook.removeprefix("kdbench_"), "observer")


def hooks_page() -> str:
    """The text of `hooks.md`."""
    from kdbench.api.specs import SPEC_TYPES, Spec

    parts = [
        "# Hooks\n\nGenerated from [`kdbench/api/hookspecs.py`](../kdbench/api/hookspecs.py) by "
        "`python docs/generate.py`.\n\nA plugin is a module with some of these functions, each marked with "
        "`kdbench.api.hookimpl`. It is one file (`--plugin FILE.py`), or a distribution that names its module under "
        "the entry-point group `kdbench`. A plugin may import only `kdbench.api`, `kdbench.errors` and the public "
        "names of `kdbench.training`. A hook returns plain data: a class that it names is not imported before it is "
        "used.\n\n## Fields of every spec\n\n" + _fields(Spec, ())
    ]
    used = users()
    for name, function in hooks().items():
        signature = str(inspect.signature(function)).replace("'", "")
        kind = name.removeprefix("kdbench_")
        text = f"## `{name}`\n\n```text\n{name}{signature}\n```\n\n{inspect.getdoc(function)}\n\n"
        if kind in SPEC_TYPES:
            text += _fields(SPEC_TYPES[kind], tuple(f.name for f in dataclasses.fields(Spec)))
        page = page_of(name)
        plugins = ", ".join(f"[`{p}`](../plugins/{p}/__init__.py)" for p in used[name])
        text += f"Example: [{page}](plugins/{page}.md). Used by: {plugins}.\n"
        parts.append(text)
    return "\n".join(parts)


def _fields(spec: type, known: tuple[str, ...]) -> str:
    """The summary of a spec, and a table of its fields without those `known` already."""
    about, attributes = _sections(inspect.getdoc(spec) or "")
    lines = [f"`{spec.__name__}`: {about}\n"]
    table = [f for f in dataclasses.fields(spec) if f.name not in known]
    if table:
        lines.append("| field | type | default | description |\n|---|---|---|---|")
        for f in table:
            default = "required" if f.default is dataclasses.MISSING else _default(f.default)
            text = attributes.get(f.name, "").replace("|", r"\|")
            lines.append(f"| `{f.name}` | `{_type(f.type)}` | {default} | {text} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _sections(doc: str) -> tuple[str, dict[str, str]]:
    """A class's docstring as its text and its attributes, name to description."""
    about, *rest = re.split(r"^Attributes(?::|\n-+)\n", doc, maxsplit=1, flags=re.MULTILINE)
    body = textwrap.dedent(rest[0]) if rest else ""
    entries = re.findall(r"^(\w[\w, ]*)(?:: |\n {4})(.*(?:\n {4}.*)*)", body, re.MULTILINE)
    attributes = {
        name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")
    }
    return about.strip(), attributes


def _type(text: object) -> str:
    return str(text).replace("|", r"\|")


def _default(value: object) -> str:
    return f"`{sorted(value)!r}`" if isinstance(value, frozenset) else f"`{value!r}`"


def schema_text() -> str:
    """The text of `suite.schema.json`."""
    from kdbench.suite import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    (DOCS / "hooks.md").write_text(hooks_page(), encoding="utf-8")
    (DOCS / "suite.schema.json").write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
