"""Create a component from its spec: import the target, read and check its parameters, call it."""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdbench.api.specs import Spec
from kdbench.errors import KdbenchError, PluginError, SuiteError, did_you_mean
from kdbench.registry.plugins import error_place, file_module
from kdbench.registry.requirements import missing, pip_install

#: Constructor parameters that the engine sets for a run (seed, cores, device): no suite sets them and no key
#: contains them.
ENGINE_PARAMETERS = frozenset({"random_state", "n_jobs", "device"})

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: the annotation as a type, and the default (`REQUIRED` without one)."""

    annotation: Any = Any
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def type_name(self) -> str:
        """The type as people write it: "int", "'pn' | 'fast'", "tuple[int, ...]"."""
        return type_name(self.annotation)


@dataclass(frozen=True)
class RegisteredComponent:
    """A component whose target is imported.

    Attributes
    ----------
    spec
        What the plugin says of it; for a member of a family, `name` is the member's.
    factory
        Class or function behind `target`.
    parameters
        What a suite may set, in the constructor's order.
    engine
        Those of ENGINE_PARAMETERS that the constructor takes.
    bound
        Parameters fixed by the name: `model` of a family.
    origin
        Where it comes from, for people.
    """

    spec: Spec
    factory: Callable[..., Any]
    parameters: Mapping[str, Parameter]
    engine: Mapping[str, Parameter] = field(default_factory=dict)
    bound: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @property
    def id(self) -> str:
        return f"{self.spec.kind}/{self.spec.name}"

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` checked against the annotations and completed with the defaults.

        Ints become floats and lists become tuples where the annotation says so; no other conversion is made.

        Raises SuiteError if an unknown or missing parameter, or a value of a wrong type.
        """
        for name in params:
            if name in self.engine:
                hint = "--seed sets the seed of everything" if name == "random_state" else ""
                raise SuiteError(f"{name} is set by the run, not by a suite", where=self.id, hint=hint)
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters) if self.parameters else "it takes no parameters"
                raise SuiteError(f"there is no parameter {name!r}", where=self.id, hint=hint)
        values = {}
        for name, parameter in self.parameters.items():
            if name in params:
                values[name] = _checked(parameter.annotation, params[name], name, self.id)
            elif parameter.required:
                what = f"the parameter {name!r} ({parameter.type_name}) has no default and must be given"
                raise SuiteError(what, where=self.id)
            else:
                values[name] = parameter.default
        return values

    def build(self, values: Mapping[str, Any], engine: Mapping[str, Any] | None = None) -> Any:
        """Call the factory. `engine`: values for ENGINE_PARAMETERS; those it does not take are left out.

        Raises SuiteError if the constructor refuses a value (it raised ValueError), and PluginError if the
        constructor failed in another way, or a requirement is missing.
        """
        given = {k: v for k, v in (engine or {}).items() if k in self.engine}
        try:
            return self.factory(**values, **given, **self.bound)
        except KdbenchError:
            raise
        except ValueError as error:
            raise SuiteError(str(error), where=self.id) from error
        except ImportError as error:
            raise missing_requirement(self.spec, error) from error
        except Exception as error:
            what = f"its constructor raised {type(error).__name__}: {error}"
            raise PluginError(what, where=f"{self.id} ({error_place(error)})") from error


def import_target(spec: Spec, file_stem: str = "") -> Callable[..., Any]:
    """What `spec.target` names. `file_stem`: of the one-file plugin that returned the spec, "" for none.

    Raises PluginError if it can't be imported, does not exist, or can't be called.
    """
    id_ = f"{spec.kind}/{spec.name}"
    module_name, _, attribute = spec.target.partition(":")
    if file_stem and module_name == file_stem:
        module_name = file_module(file_stem)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise missing_requirement(spec, error) from error
    except Exception as error:
        what = f"{module_name} can't be imported: {type(error).__name__}: {error}"
        raise PluginError(what, where=f"{id_} ({error_place(error)})") from error
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            names = [n for n in dir(target) if not n.startswith("_")]
            what = f"{spec.target!r} does not exist: no {part!r} in {module_name}"
            raise PluginError(what, where=id_, hint=did_you_mean(part, names) if len(names) < 50 else "")
        target = getattr(target, part)
    if not callable(target):
        raise PluginError(f"{spec.target!r} can't be called: it is a {type(target).__name__}", where=id_)
    factory: Callable[..., Any] = target
    return factory


def missing_requirement(spec: Spec, error: ImportError | None = None) -> PluginError:
    """The error for a component that can't be imported, with the command that installs what it lacks."""
    unmet = missing_requirements(spec)
    reason = f": {error}" if error is not None else ""
    if unmet:
        what = f"needs {', '.join(unmet)}, not installed here{reason}"
        hint = pip_install([f"kdbench[{spec.extra}]"] if spec.extra else unmet)
    else:
        what = f"its target {spec.target} can't be imported{reason}"
        place = error_place(error) if error is not None else ""
        hint = f"the import fails in {place}" if place else ""
        lacks = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
        if lacks.partition(".")[0] != spec.target.partition(":")[0].partition(".")[0]:
            hint += f"; install what provides {lacks!r}" if lacks else ""
    return PluginError(what, where=f"{spec.kind}/{spec.name}", hint=hint)


def missing_requirements(spec: Spec) -> list[str]:
    """Return the unmet entries of `spec.requires`. Nothing is imported."""
    return missing(spec.requires)


def read_parameters(factory: Callable[..., Any], id_: str, *, foreign: bool = False) -> dict[str, Parameter]:
    """The parameters of a constructor, in its order.

    A component of a plugin has keyword-only annotated parameters. `foreign` classes (scikit-learn's) have
    plain ones, which are taken as they are, of any type.

    Raises PluginError if an annotation can't be resolved, or a parameter is positional or not annotated.
    """
    signature = inspect.signature(factory)
    target = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        if not foreign:
            what = f"an annotation of its constructor can't be resolved: {error}"
            hint = "import the name outside of TYPE_CHECKING, or use a plain type"
            raise PluginError(what, where=id_, hint=hint) from error
        hints = {}
    parameters = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not foreign and (parameter.kind is not parameter.KEYWORD_ONLY or name not in hints):
            what = f"the constructor's parameter {name!r} is not keyword-only and annotated"
            raise PluginError(what, where=id_, hint="write `def __init__(self, *, name: type = default)`")
        parameters[name] = Parameter(Any if foreign else hints[name], parameter.default)
    return parameters


def plain(values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """`values` as JSON has them. A default of a foreign class that JSON can't hold is left out."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    result = {}
    for name, value in values.items():
        try:
            data = to_jsonable_python(value)
            json.dumps(data, allow_nan=False)
        except (PydanticSerializationError, ValueError):
            if value is parameters[name].default:
                continue
            raise
        result[name] = data
    return result


def _checked(annotation: Any, value: Any, name: str, id_: str) -> Any:
    if annotation is Any:
        return value
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
    from pydantic_core import PydanticSerializationError, to_json

    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as first:
        try:  # a model or dataclass brings its own configuration
            adapter = TypeAdapter(annotation)
        except PydanticUserError:
            what = f"the annotation of {name!r} can't be checked: {annotation!r}"
            raise PluginError(what, where=id_) from first
    try:
        # JSON's strict mode is the wanted one: 3 is a float, a list is a tuple, but "3" and true are no int.
        return adapter.validate_json(to_json(value, inf_nan_mode="constants"), strict=True)
    except PydanticSerializationError as error:
        raise SuiteError(f"{name}={value!r} is not plain data", where=id_) from error
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in error.errors())
        what = f"{name}={value!r}: {' or '.join(reasons)}"
        raise SuiteError(what, where=id_, hint=f"{name} is {type_name(annotation)}") from error


def type_name(annotation: Any) -> str:
    """An annotation as people write it."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(repr(a) for a in args)
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " | ".join(type_name(a) for a in args)
    if origin is not None and args:
        inside = ", ".join("..." if a is Ellipsis else type_name(a) for a in args)
        return f"{getattr(origin, '__name__', origin)}[{inside}]"
    if annotation is type(None):
        return "None"
    if annotation is Any:
        return "any"
    return getattr(annotation, "__name__", str(annotation))
