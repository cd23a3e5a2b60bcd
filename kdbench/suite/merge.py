"""Lay a scale over a suite, then `--set` overrides over both: plain tables in, plain tables out.

Tables merge; lists and plain values replace. A component that names another one replaces the whole, so that
parameters of the old one never reach the new one.
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

# A name, a path, a title like tsne[perplexity=5].
_BARE = re.compile(r"(?:/|(?:\.\.?/)+)?[A-Za-z][\w./:+-]*(\[.*\])?")
# There may be blanks in the path, for a label may have some: schemes.fixmatch (reduced).threshold.
_OVERRIDE = re.compile(r"\s*((?=\S)(?:[^=\[]|\[[^\]]*\])+?)\s*([+-]?)=\s*(.*?)\s*", re.DOTALL)
_FIXED = {
    "name": "the name says whose results these are",
    "scale": "use --scale",
    "scales": "use --scale",
    "default_scale": "use --scale",
}


def unwrapped(annotation: Any) -> Any:
    """The type inside `Annotated[...]` and `... | None`."""
    while True:
        args = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = args[0]
        elif type(None) in args and len(args) == 2:
            annotation = next(a for a in args if a is not type(None))
        else:
            return annotation


def fields_of(annotation: Any) -> Mapping[str, FieldInfo]:
    """The keys of a table of the schema; none for a component, whose keys are its own parameters."""
    kind = unwrapped(annotation)
    is_table = isinstance(kind, type) and issubclass(kind, Model) and kind is not Component
    return kind.model_fields if is_table else {}


def merge(base: Any, overlay: Any, annotation: Any) -> Any:
    """`overlay` laid over `base`, both as `annotation` has them in a file. Neither is changed."""
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
    """One `--set`: `PATH=VALUE` replaces, `PATH+=VALUE` appends to a list, `PATH-=VALUE` removes from one."""

    text: str
    path: str
    operator: str
    value: Any

    @property
    def where(self) -> str:
        return f"--set {self.text}"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.path.split("."))

    def error(self, what: str, hint: str = "") -> SuiteError:
        return SuiteError(what, where=self.where, hint=hint)


def parse_override(text: str) -> Override:
    """Read one override. The value is TOML; a bare word that TOML does not know is a string.

    Raises:
        SuiteError: no `=`, an empty path, or a value that is neither.
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
    """`document` with one override applied.

    Raises:
        SuiteError: the path does not exist, or the operator does not fit what is there.
    """
    if override.keys[0] in _FIXED:
        raise override.error(f"{override.keys[0]} can't be set", _FIXED[override.keys[0]])
    return _set(document, annotation, override.path, override, "")


def _set(current: Any, annotation: Any, rest: str, override: Override, at: str) -> Any:
    """`current`, whose path is `at`, with what lies `rest` below it changed."""
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
    raise override.error(f"{at} is a plain value: nothing lies below it")


def _default(field: FieldInfo) -> Any:
    """The default of a list, so that one can append to it; for the rest a missing key stays missing."""
    return list(field.default) if isinstance(field.default, tuple) else None


def _set_component(current: Any, rest: str, override: Override, at: str) -> dict[str, Any]:
    if current is None:
        raise override.error(f"{at} names no component yet", f"--set {at}=NAME comes first")
    if override.operator != "=":
        raise override.error("parameters of a component are replaced: use =")
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
        raise override.error(f"{at} is a list: set it whole, or use += and -=")
    hits = [(i, n) for i, c in enumerate(items) for n in _names(c) if rest.startswith(f"{n}.")]
    if not hits:
        known = [n for c in items for n in _names(c)]
        raise override.error(f"nothing in {at} fits {rest!r}", did_you_mean(rest.split(".")[0], known))
    if len({i for i, _ in hits}) > 1:
        labels = ", ".join(_names(items[i])[0] for i, _ in hits)
        raise override.error(f"several in {at} fit {rest!r}: {labels}", "give each a label")
    index, name = max(hits, key=lambda hit: len(hit[1]))
    items[index] = _set(items[index], item, rest[len(name) + 1 :], override, f"{at}.{name}")
    return items


def _names(item: Any) -> list[str]:
    """What a component in a list answers to: its title and its name, without repetition."""
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
        hit = [c for c in kept if c == one or _answers(c, one)]
        if not hit:
            known = [_names(c)[0] if _is_component(c) else str(c) for c in kept]
            raise override.error(f"{one!r} is not in {override.path}", did_you_mean(str(one), known))
        kept = [c for c in kept if c not in hit]
    return kept


def _is_component(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, Mapping) and "name" in item)


def _answers(item: Any, wanted: Any) -> bool:
    """Whether a list's item is called `wanted`: a component's name or label, a claim's id."""
    if isinstance(item, Mapping) and "id" in item:
        return item["id"] == wanted
    return isinstance(wanted, str) and _is_component(item) and wanted in _names(item)
