"""Merge a scale into a suite file, and apply `--set` overrides; plain tables in, plain tables out.

Tables merge; lists and plain values replace. A component with another name replaces the old one with all its
parameters.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from kdbench.errors import SuiteError, did_you_mean
from kdbench.suite.schema import Component, Model, component_table

# A name, a path, or a title like tsne[perplexity=5].
_BARE = re.compile(r"(?:/|(?:\.\.?/)+)?[A-Za-z][\w./:+-]*(\[.*\])?")
# The path may contain spaces, because labels may: schemes.fixmatch (reduced).threshold.
_OVERRIDE = re.compile(r"\s*((?=\S)(?:[^=\[]|\[[^\]]*\])+?)\s*([+-]?)=\s*(.*?)\s*", re.DOTALL)
_FIXED = {
    "name": "results are recorded under the name",
    "scale": "use --scale",
    "scales": "use --scale",
    "default_scale": "use --scale",
}


def unwrapped(annotation: Any) -> Any:
    """Return the type inside `Annotated[...]` and `... | None`."""
    while True:
        args = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = args[0]
        elif type(None) in args and len(args) == 2:
            annotation = next(a for a in args if a is not type(None))
        else:
            return annotation


def fields_of(annotation: Any) -> Mapping[str, FieldInfo]:
    """Return the fields of a table of the schema; none for a component, whose keys are its parameters."""
    kind = unwrapped(annotation)
    is_table = isinstance(kind, type) and issubclass(kind, Model) and kind is not Component
    return kind.model_fields if is_table else {}


def merge(base: Any, overlay: Any, annotation: Any) -> Any:
    """Merge an overlay into a base; neither is modified.

    Parameters
    ----------
    base
        Value in the file; None if there is none.
    overlay
        Value that has precedence.
    annotation
        Type of both in the schema.

    Returns
    -------
    Any
        The merged value.
    """
    if base is None:
        return overlay
    if unwrapped(annotation) is Component:
        return _merge_component(base, overlay)
    if not isinstance(base, Mapping) or not isinstance(overlay, Mapping):
        return overlay
    fields = fields_of(annotation)
    merged = dict(base)
    for key, value in overlay.items():
        merged[key] = merge(base.get(key), value, fields[key].annotation if key in fields else Any)
    return merged


def _merge_component(base: Any, overlay: Any) -> Any:
    if not isinstance(overlay, Mapping) or not isinstance(base, (str, Mapping)):
        return overlay
    old = component_table(base)
    name = old.get("name")
    if overlay.get("name", name) != name:
        return overlay
    new = component_table({**overlay, "name": name})
    return {**old, **new, "params": {**old.get("params", {}), **new.get("params", {})}}


@dataclass(frozen=True)
class Override:
    """One `--set`: `PATH=VALUE` replaces, `PATH+=VALUE` appends to a list, `PATH-=VALUE` removes from it.

    Attributes
    ----------
    text
        The override as written.
    path
        Keys joined by dots.
    operator
        "=", "+=" or "-=".
    value
        The parsed value.
    """

    text: str
    path: str
    operator: str
    value: Any

    @property
    def where(self) -> str:
        """The override as written, for error messages."""
        return f"--set {self.text}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("."))

    def error(self, what: str, hint: str = "") -> SuiteError:
        """Make an error about this override."""
        return SuiteError(what, where=self.where, hint=hint)


def parse_override(text: str) -> Override:
    """Parse one override.

    Parameters
    ----------
    text
        `PATH=VALUE`, `PATH+=VALUE` or `PATH-=VALUE`. The value is TOML; a bare word is a string.

    Returns
    -------
    Override
        The parsed override.

    Raises
    ------
    SuiteError
        There is no `=` or no path, or the value is not valid.
    """
    found = _OVERRIDE.fullmatch(text)
    if not found:
        raise SuiteError("not of the form PATH=VALUE", where=f"--set {text}", hint="--set student.epochs=3")
    path, sign, raw = found.groups()
    try:
        table = tomllib.loads(f"v = {raw}")
        if set(table) != {"v"}:
            raise SuiteError("one value is expected", where=f"--set {text}")
        value = table["v"]
    except tomllib.TOMLDecodeError as error:
        if not _BARE.fullmatch(raw):
            hint = "a string of several words is quoted twice: --set 'PATH=\"VALUE\"'"
            if "[" in raw:
                hint = 'strings inside a list are quoted: --set \'reducers=["pca", "umap"]\''
            raise SuiteError(f"{raw!r} is not a TOML value", where=f"--set {text}", hint=hint) from error
        value = raw
    return Override(text, path, f"{sign}=", value)


def apply_override(document: Mapping[str, Any], override: Override, annotation: Any) -> dict[str, Any]:
    """Apply one override.

    Parameters
    ----------
    document
        The suite as plain tables; not modified.
    override
        The override.
    annotation
        Type of the document in the schema.

    Returns
    -------
    dict
        The changed document.

    Raises
    ------
    SuiteError
        The path does not exist, or the operator does not apply to its value.
    """
    if override.keys[0] in _FIXED:
        raise override.error(f"{override.keys[0]} can't be set", _FIXED[override.keys[0]])
    return _set(document, annotation, override.path, override, "")


def _set(current: Any, annotation: Any, rest: str, override: Override, at: str) -> Any:
    """Return `current`, which is at path `at`, with the value at `rest` below it changed."""
    if not rest:
        return _changed(current, override)
    kind = unwrapped(annotation)
    if kind is Component:
        return _set_component(current, rest, override, at)
    if fields := fields_of(kind):
        key, _, below = rest.partition(".")
        if key not in fields:
            what = f"there is no key {key!r}" + (f" in {at}" if at else "")
            raise override.error(what, did_you_mean(key, [k for k in fields if k not in _FIXED]))
        table = dict(current or {})
        value = table[key] if key in table else _default(fields[key])
        table[key] = _set(value, fields[key].annotation, below, override, f"{at}.{key}".lstrip("."))
        return table
    if typing.get_origin(kind) is tuple:
        return _set_item(list(current or []), kind, rest, override, at)
    if typing.get_origin(kind) is dict:
        return {**(current or {}), rest: _changed((current or {}).get(rest), override)}
    raise override.error(f"{at} is a plain value and has no keys")


def _default(field: FieldInfo) -> Any:
    """Return the default of a list, so that it can be appended to; other missing keys stay missing."""
    return list(field.default) if isinstance(field.default, tuple) else None


def _set_component(current: Any, rest: str, override: Override, at: str) -> dict[str, Any]:
    if current is None:
        raise override.error(f"{at} is not set", f"--set {at}=NAME comes first")
    if override.operator != "=":
        raise override.error("parameters of a component can only be replaced: use =")
    table = component_table(current)
    if rest == "name":
        return {"name": override.value}
    if rest == "label":
        return {**table, "label": override.value}
    rest = rest.removeprefix("params.")
    return {**table, "params": {**table.get("params", {}), rest: override.value}}


def _set_item(items: list[Any], kind: Any, rest: str, override: Override, at: str) -> list[Any]:
    """Set a parameter of one component in a list: `reducers.ivis-torch.k=15`."""
    item = typing.get_args(kind)[0]
    if unwrapped(item) is not Component:
        raise override.error(f"{at} is a list: replace it, or use += and -=")
    hits = [(i, n) for i, c in enumerate(items) for n in _names(c) if rest.startswith(f"{n}.")]
    if not hits:
        known = [n for c in items for n in _names(c)]
        raise override.error(f"nothing in {at} matches {rest!r}", did_you_mean(rest.split(".")[0], known))
    if len({i for i, _ in hits}) > 1:
        labels = ", ".join(_names(items[i])[0] for i, _ in hits)
        raise override.error(f"several in {at} match {rest!r}: {labels}", "give each a label")
    index, name = max(hits, key=lambda hit: len(hit[1]))
    items[index] = _set(items[index], item, rest[len(name) + 1 :], override, f"{at}.{name}")
    return items


def _names(item: Any) -> list[str]:
    """Return the names by which a component in a list can be selected: its title and its name."""
    component = Component.model_validate(component_table(item))
    return list(dict.fromkeys((component.title, component.name)))


def _changed(current: Any, override: Override) -> Any:
    if override.operator == "=":
        return override.value
    if not isinstance(current, (list, tuple)):
        raise override.error(f"{override.path} is not a list", f"--set {override.path}=VALUE")
    wanted = override.value if isinstance(override.value, list) else [override.value]
    if override.operator == "+=":
        return [*current, *wanted]
    kept = list(current)
    for one in wanted:
        hit = [c for c in kept if c == one or _is_named(c, one)]
        if not hit:
            known = [_names(c)[0] if _is_component(c) else str(c) for c in kept]
            raise override.error(f"{one!r} is not in {override.path}", did_you_mean(str(one), known))
        kept = [c for c in kept if c not in hit]
    return kept


def _is_component(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, Mapping) and "name" in item)


def _is_named(item: Any, name: Any) -> bool:
    """Whether an item of a list has this name: a component's name or label, a claim's id."""
    if isinstance(item, Mapping) and "id" in item:
        return item["id"] == name
    return isinstance(name, str) and _is_component(item) and name in _names(item)
