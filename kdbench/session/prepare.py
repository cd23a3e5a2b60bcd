"""What `run` and `plan` prepare alike: suite, data, plan and store, all checked before anything is executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import DataError, KdbenchError, SuiteError, UsageError

if TYPE_CHECKING:
    from kdbench.api.data import DataPlaces, ImageData
    from kdbench.plan import Plan, Stage
    from kdbench.registry import Registry
    from kdbench.store import Store
    from kdbench.suite.schema import Component, Suite


@dataclass(frozen=True)
class Session:
    """A suite, planned over its data."""

    registry: Registry
    places: DataPlaces
    plan: Plan
    store: Store
    device: str
    done: frozenset[str]
    outstanding: tuple[Stage, ...]
    problem: DataError | None = None
    overrides: tuple[str, ...] = ()
    source: str | Path = ""

    def unchanged(self) -> Suite | None:
        """The suite without overrides; None where only with them it holds together."""
        return unchanged(self.plan.suite, self.source, self.overrides, self.registry)


def unchanged(suite: Suite, source: str | Path, overrides: Sequence[str], registry: Registry) -> Suite | None:
    """`suite` as `source` has it without `overrides`; None where only with them it holds together."""
    from kdbench.suite import load_suite

    if not overrides:
        return suite
    try:
        return load_suite(source, scale=suite.scale or None, registry=registry)
    except KdbenchError:
        return None


def prepare(
    suite: str | Path,
    *,
    scale: str | None,
    overrides: Sequence[str],
    registry: Registry,
    workspace: Path,
    places: DataPlaces,
    seed: int,
    device: str | None,
    only_plan: bool = False,
) -> Session:
    """Load and check everything that a run of `suite` rests on.

    Args:
        suite: a registered suite, or the path of a TOML file. scale, overrides: see `kdbench.suite.load_suite`.
        workspace: made where it is not there. seed: that every other seed is derived from.
        device: "cpu", "cuda", ...; the GPU where there is one for None.
        only_plan: weights or source images that can't be had are kept as the session's `problem` instead of raised.

    Raises:
        UsageError, SuiteError, DataError, WorkspaceError, PluginError: whatever is wrong, before any work.
    """
    from kdbench.plan import make_plan
    from kdbench.store import Store
    from kdbench.suite import load_suite
    from kdbench.training.precision import resolve_precision

    loaded = load_suite(suite, scale=scale, overrides=overrides, registry=registry)
    store = Store(workspace)
    chosen = checked_device(device) if device else default_device()
    data = load_data(registry, loaded.data.dataset.name, loaded.data.dataset.params, places)
    loaded = with_taps(registry, loaded, data)
    source = None
    if loaded.teacher is not None and loaded.teacher.source is not None:
        reference = loaded.teacher.source.dataset
        source = load_data(registry, reference.name, reference.params, places)
    precision = resolve_precision("auto", chosen)
    plan = make_plan(loaded, registry, data, source=source, seed=seed, auto_precision=precision)
    done = frozenset(key for key in plan.stages if store.has(key))
    outstanding = tuple(plan.outstanding(done))
    problem = None
    try:
        check_networks(registry, plan, data, outstanding)
        if any(stage.kind == "student" for stage in outstanding):  # it imports torch
            from kdbench.stages.check import check_schemes

            check_schemes(outstanding, registry, data)
    except DataError as error:
        if not only_plan:
            raise
        problem = error
    if not only_plan:
        store.sweep()
    return Session(registry, places, plan, store, chosen, done, outstanding, problem, tuple(overrides), suite)


def default_device() -> str:
    """The GPU where torch sees one.

    Looking costs torch's import; without a driver's device file there is nothing to see.
    """
    if not (
        Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia").exists() or Path("/dev/dxg").exists()
    ):
        return "cpu"
    from kdbench.training.precision import default_device as look

    return look()


def checked_device(device: str) -> str:
    """`device`, which networks can be moved to.

    Raises:
        UsageError: torch knows no such device, or this machine has none.
    """
    if device == "cpu":
        return device
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{device!r} can't be used: {reason}", where="--device", hint="cpu, or cuda on a GPU"
        ) from error
    return device


def load_data(registry: Registry, name: str, params: dict, places: DataPlaces) -> ImageData:
    """The dataset; decoding it the first time may take a while."""
    data: ImageData = registry.create("datasets", name, params).load(places)
    if len(data.class_names) < 2:
        raise DataError(f"dataset {name!r} has {len(data.class_names)} class; at least 2 are needed")
    return data


def with_taps(registry: Registry, suite: Suite, data: ImageData) -> Suite:
    """The suite, with all of the student's taps where it names none and a metric looks at taps."""
    needs = [registry.spec("metrics", m.name).needs for m in suite.metrics]  # type: ignore[attr-defined]
    looks = {"embedding", "loss_history", "features", "neighbours", "teacher_features"}
    if suite.taps or not any(n & looks for n in needs):
        return suite
    architecture, model = built_network(registry, "student", suite.student.architecture, data)
    return suite.model_copy(update={"taps": tuple(architecture.taps(model))})


def built_network(registry: Registry, role: str, reference: Component, data: ImageData) -> tuple[Any, Any]:
    """(architecture, network with random or its own weights)

    Raises:
        DataError, SuiteError, PluginError: of the architecture.
    """
    import torch

    architecture = registry.create("architectures", reference.name, reference.params)
    with torch.random.fork_rng(devices=[]):
        try:
            return architecture, architecture.build(data.n_classes, data.input_shape)
        except (ValueError, RuntimeError) as error:
            raise SuiteError(str(error), where=f"{role}.architecture {reference.title}") from error


def check_networks(registry: Registry, plan: Plan, data: ImageData, outstanding: tuple[Stage, ...]) -> None:
    """Build every network that stages still have to train, and look at its taps and head.

    A weights file that does not fit, or weights that can't be had, are found here rather than hours later.

    Raises:
        DataError, SuiteError, PluginError: of the architecture.
    """
    kinds = {stage.kind for stage in outstanding}
    suite = plan.suite
    wanted = []
    if kinds & {"source", "backbone", "teacher"} and suite.teacher is not None:
        wanted.append(("teacher", suite.teacher.architecture))
    if kinds & {"student", "features"}:
        wanted += [("student", reference) for reference in suite.student_architectures()]
    if not wanted:
        return
    import torch

    looked_at: dict[str, tuple[str, ...]] = {"student": suite.taps}
    looked_at["teacher"] = tuple({s.tap for c in plan.cells if not c.student for s in c.scores if s.tap})
    if any("teacher_features" in stage.inputs for stage in plan.stages.values()):
        looked_at["teacher"] = suite.taps
    reads_head = any("head" in registry.spec("metrics", m.name).needs for m in suite.metrics)  # type: ignore[attr-defined]
    for role, reference in wanted:
        architecture, model = built_network(registry, role, reference, data)
        known = architecture.taps(model)
        for tap in looked_at[role]:
            if tap not in known:
                raise SuiteError(
                    f"{reference.title} has no tap {tap!r}",
                    where="taps",
                    hint="its taps: " + ", ".join(known),
                )
        if (role == "teacher" or reads_head) and not isinstance(
            model.get_submodule(architecture.head(model)), torch.nn.Linear
        ):
            raise SuiteError(
                f"the head of {reference.title} is not a linear layer", where=f"{role}.architecture"
            )


def duration(seconds: float) -> str:
    """As people say it: 3 s, 4 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
