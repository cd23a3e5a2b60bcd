"""Derive the settings of experiments from a suite.

The plan describes its cells with them, and a leaderboard compares records with what the suite says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api.settings import (
    FILE_DIGEST,
    UNKNOWN,
    ComponentSettings,
    DatasetSettings,
    DataSettings,
    MetricSettings,
    NetworkSettings,
    Settings,
    SourceSettings,
    Unknown,
    Value,
)
from kdbench.plan.teachers import teacher_of

if TYPE_CHECKING:
    from kdbench.plan.teachers import TeacherChoice
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite, Teacher, Training


@dataclass(frozen=True)
class Scope:
    """Where a suite measures a metric: what a claim is about that does not name a budget, scheme, tap or reducer.

    Each field holds labels; (None,) if the metric has none of the kind; None if the suite does not decide it.
    """

    budget: tuple[int, ...] | None
    scheme: tuple[str, ...] | None
    tap: tuple[str | None, ...] | None
    reducer: tuple[str | None, ...] | None


@dataclass(frozen=True)
class SuiteSettings:
    """A suite with the registry that its components come from.

    Attributes
    ----------
    suite
        The suite as it runs.
    registry
        Gives defaults and versions of components.
    base
        The suite without overrides, None if it is invalid without them. Claims and reported overrides refer to it.
    digest
        Of the loaded dataset, and of the teacher's source task.
    source_digest
        Of the loaded dataset, and of the teacher's source task.
    precision
        What precision "auto" is on the device that networks run on.
    n_train
        Number of training images of the loaded dataset.
    """

    suite: Suite
    registry: Registry = field(repr=False)
    base: Suite | None = None
    digest: str | Unknown = UNKNOWN
    source_digest: str | Unknown = UNKNOWN
    precision: str | Unknown = UNKNOWN
    n_train: int | Unknown = UNKNOWN

    @cached_property
    def written(self) -> SuiteSettings:
        """The settings of the suite without overrides; of the suite itself if it is invalid without them."""
        return self if self.base in (None, self.suite) else SuiteSettings(self.base, self.registry)

    # -- settings

    def of(self, scheme: str, budget: int | None = None) -> Settings:
        """Settings of a scheme's students, or of the suite's teachers.

        Parameters
        ----------
        scheme
            Label of a scheme, or "teacher". A scheme that the suite does not have gets the suite's own student and
            teacher.
        budget
            Number of labelled images; without it the number of unlabelled ones is unknown.

        Returns
        -------
        Settings
            With all reducers and metrics of the suite, whether or not this scheme is measured with them.
        """
        known = self._settings.get((scheme, budget))
        if known is None:
            known = self._settings[scheme, budget] = self._of(scheme, budget)
        return known

    @cached_property
    def _settings(self) -> dict[tuple[str, int | None], Settings]:
        return {}

    def _of(self, scheme: str, budget: int | None) -> Settings:
        suite = self.suite
        component = next((c for c in suite.schemes if c.title == scheme), None)
        teacher = None if suite.teacher is None else self.network(suite.teacher)
        own_teacher = False
        unlabelled: int | Unknown | None = UNKNOWN
        if scheme == "teacher":
            unlabelled = None
        elif component is not None:
            spec = self.registry.spec("schemes", component.name)
            unlabelled = self.unlabelled(budget) if spec.uses_unlabelled else None
            choice = teacher_of(suite, spec, component) if spec.uses_teacher else None
            own_teacher = choice is not None and not choice.is_of(suite)
            teacher = None if choice is None else self.network(choice.teacher, choice)
        return Settings(
            data=self.data(unlabelled),
            student=None if scheme == "teacher" else self.network(self.student(scheme)),
            scheme=None if component is None else self.component("schemes", component),
            teacher=teacher,
            own_teacher=own_teacher,
            reducers=self.reducers,
            metrics={m.title: self.metric(m) for m in suite.metrics},
        )

    def student(self, scheme: str) -> Student:
        """The student of a scheme (a label); the suite's own student for a scheme that it does not have."""
        suite = self.suite
        return next((suite.student_of(c) for c in suite.schemes if c.title == scheme), suite.student)

    def data(self, unlabelled: int | Unknown | None) -> DataSettings:
        """Which images are used, with so many unlabelled ones."""
        d = self.suite.data
        dataset = self.dataset(d.dataset, self.digest)
        return DataSettings(dataset, d.train, d.test, d.embedded, d.validation, unlabelled)

    def unlabelled(self, budget: int | None, drawn: DataSettings | None = None) -> int | Unknown:
        """Number of unlabelled images that a budget leaves of the suite's training images, or of those of `drawn`."""
        d = self.suite.data
        if d.unlabelled != "rest":
            return d.unlabelled
        train, validation = (d.train, d.validation) if drawn is None else (drawn.train, drawn.validation)
        n_train = self.n_train if train == "all" else train
        if budget is None or not isinstance(n_train, int):
            return UNKNOWN
        return n_train - validation - budget

    def network(self, training: Teacher | Student, choice: TeacherChoice | None = None) -> NetworkSettings:
        """A network with its recipe.

        Parameters
        ----------
        training
            The table of the suite.
        choice
            Of a teacher: how it comes about.

        Returns
        -------
        NetworkSettings
            With the source task and the pretraining of a teacher.
        """
        source = getattr(training, "source", None)
        pretraining = choice.pretraining if choice is not None else ""
        return NetworkSettings(
            self.component("architectures", training.architecture),
            self.recipe(training),
            getattr(training, "mode", ""),
            None
            if source is None
            else SourceSettings(self.dataset(source.dataset, self.source_digest), self.recipe(source)),
            self._component("schemes", pretraining, {}) if pretraining else None,
        )

    def recipe(self, training: Training) -> dict[str, Value]:
        """Fields of a training recipe, precision "auto" resolved."""
        from kdbench.suite.schema import Training as Base

        fields: dict[str, Value] = {name: getattr(training, name) for name in Base.model_fields}
        if training.precision == "auto":
            fields["precision"] = self.precision
        return fields

    def dataset(self, ref: Component, digest: str | Unknown) -> DatasetSettings:
        """A dataset; parameters that name files are left to its digest."""
        params = self.registry.check("datasets", ref.name, ref.params)
        kept = {k: v for k, v in params.items() if not (isinstance(v, str) and ("/" in v or "\\" in v))}
        return DatasetSettings(ref.title, kept, digest)

    def component(self, kind: str, ref: Component) -> ComponentSettings:
        """A component with all its parameters, files by their content."""
        return self._component(kind, ref.name, ref.params)

    def _component(self, kind: str, name: str, given: dict[str, Value]) -> ComponentSettings:
        params = self.registry.check(kind, name, given)
        return ComponentSettings(
            name, {k: self._content(v) for k, v in params.items()}, **self.registry.code(kind, name)
        )

    def _content(self, value: Value) -> Value:
        """The digest of a file in place of its name."""
        if isinstance(value, str) and ("/" in value or "." in value):
            path = Path(value).expanduser()
            if path.is_file():
                if value not in self._files:
                    with path.open("rb") as f:
                        self._files[value] = hashlib.file_digest(f, "sha256").hexdigest()
                return f"{FILE_DIGEST}{self._files[value]}"
        return value

    @cached_property
    def _files(self) -> dict[str, str]:
        return {}

    @cached_property
    def reducers(self) -> dict[str, ComponentSettings]:
        """The reducers by label."""
        return {r.title: self.component("reducers", r) for r in self.suite.reducers}

    def metric(self, metric: Component) -> MetricSettings:
        """A metric of the suite with what else its values depend on."""
        spec = self.registry.spec("metrics", metric.name)
        teacher = self.suite.teacher if spec.requires_teacher else None
        return MetricSettings(
            self.component("metrics", metric),
            None if teacher is None else self.network(teacher),
            self.reducers if "reducers" in spec.needs else {},
        )

    # -- where metrics are computed

    def scope(self, metric: str) -> Scope | None:
        """Where the suite measures a metric (a label); None if it does not have it."""
        suite = self.suite
        component = next((m for m in suite.metrics if m.title == metric), None)
        if component is None:
            return None
        spec = self.registry.spec("metrics", component.name)
        taps: tuple[str | None, ...] | None = (None,)
        reducers: tuple[str | None, ...] = (None,)
        if spec.scope != "network":
            taps = suite.taps[-1:] if spec.last_tap_only else suite.taps or None
        if spec.scope == "embedding":
            reducers = tuple(
                r.title
                for r in suite.reducers
                if "loss_history" not in spec.needs
                or getattr(self.registry.spec("reducers", r.name), "loss_history", False)
            )
        schemes = [c.title for c in suite.schemes]
        if suite.teacher is not None and not spec.requires_teacher:
            schemes += ["teacher"] * bool({component.name, component.title} & set(suite.teacher_metrics))
        return Scope(suite.data.budgets, tuple(schemes) or None, taps, reducers)
