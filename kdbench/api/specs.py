"""Specs of components, returned by a plugin's hooks. Plain data; the component is imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Control = Literal["positive", "negative"]
MetricScope = Literal["network", "tap", "embedding"]

#: What the engine must prepare for a scheme. `unlabelled`: images without labels, at least one;
#: `unlabelled_if_any`: those that the budget leaves, perhaps none; `teacher_logits`: a teacher's logits for the
#: views of a batch; `teacher_features`: its activations at taps too, live; `several_teachers`: logits of as many
#: teachers as the scheme's parameter `teachers` says; `ema`: a moving average of the student's weights.
SCHEME_NEEDS = frozenset(
    {"unlabelled", "unlabelled_if_any", "teacher_logits", "teacher_features", "several_teachers", "ema"}
)
#: Which teacher a scheme learns from. `trained`: the suite's; `own`: a network of the student's architecture,
#: trained by the student's recipe on the labelled images alone; `untrained`: the suite's before any training.
SchemeTeacher = Literal["trained", "own", "untrained"]
#: What a metric looks at. It decides how often it is called: `embedding` once a tap and reducer, `features`
#: or `neighbours` once a tap, otherwise once a network. A metric that needs `reducers` runs them itself, all of
#: the suite's, on data of its own. A metric that needs what a dataset lacks (`superclasses`, `masks`) is left
#: out of the plan with that reason.
#: Four look beyond the network that is measured. `teacher`: the suite's teacher of the same budget and fold on
#: the same images, for every student, undistilled ones too; `teacher_features`: with its activations, once a tap
#: of the student; `independent_teacher`: the suite's teacher of another fold beside it, as a control. A teacher's
#: own row and a suite without a teacher are left out with that reason. `head`: the last linear layer; with
#: `features` or `neighbours` such a metric looks at the suite's last tap alone.
METRIC_NEEDS = frozenset(
    {
        "logits",
        "history",
        "features",
        "neighbours",
        "embedding",
        "loss_history",
        "superclasses",
        "masks",
        "reducers",
        "teacher",
        "teacher_features",
        "independent_teacher",
        "head",
    }
)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a component asks of a machine; executors pack stages by it.

    Attributes
    ----------
    gpu
        It runs on the run's device. Other stages run on cores, in parallel with those on the GPU.
    threads
        It uses several cores well. Otherwise it gets one core, and other stages run in parallel.
    memory_gib
        Memory that it needs in addition to its input, in GiB.
    warm_up
        Seconds that its first use in a process takes longer than later ones (compilation, imports). Its stages are
        sent to processes that have used it.
    """

    gpu: bool = False
    threads: bool = True
    memory_gib: float = 1.0
    warm_up: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One component.

    Attributes
    ----------
    name
        Lower-case words joined by "-". A name that ends in "/*" is a family: `timm/*` includes `timm/resnet34`, and
        its target gets the rest as the keyword `model`.
    target
        "module:attribute" of a class (or factory) whose keyword-only annotated parameters are the hyper-parameters.
    version
        Raised whenever results may change; part of every key.
    summary
        One line.
    reference
        The source: paper, section, equation.
    requires
        Pip requirements beyond kdbench's own, for the error when one is missing.
    extra
        The extra of the distribution that brings them, "" for none.
    control
        a "positive" or "negative" control, or None.
    """

    kind: ClassVar[str] = ""

    name: str
    target: str
    version: int | str = 1
    summary: str
    reference: str = ""
    requires: tuple[str, ...] = ()
    extra: str = ""
    resources: Resources = Resources()
    control: Control | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A dataset; its target follows `kdbench.api.Dataset`. `embedded`: needs no file and no download."""

    kind: ClassVar[str] = "datasets"
    embedded: bool = False


@dataclass(frozen=True, kw_only=True)
class ArchitectureSpec(Spec):
    """A network; its target follows `kdbench.api.Architecture`."""

    kind: ClassVar[str] = "architectures"


@dataclass(frozen=True, kw_only=True)
class SchemeSpec(Spec):
    """A way to train a student; its target follows `kdbench.api.Scheme`.

    Attributes
    ----------
    needs
        From SCHEME_NEEDS.
    teacher
        Which teacher it learns from, where it needs one.
    pretraining
        Name of a scheme that trains the teacher's network on the unlabelled images before it is fine-tuned on the
        labelled ones; "" for none.
    variants
        What its parameter `variant` can be, the default first, where published definitions differ.
    whole_passes
        a parameter and the value of it with which an epoch passes over all labelled images and then over all
        unlabelled ones, with others it takes turns by batches; a recipe whose `steps` leave an epoch less than both
        passes, or than one batch of each, is refused.
    """

    kind: ClassVar[str] = "schemes"
    needs: frozenset[str] = frozenset()
    teacher: SchemeTeacher = "trained"
    pretraining: str = ""
    variants: tuple[str, ...] = ()
    whole_passes: tuple[str, Any] | None = None

    @property
    def uses_teacher(self) -> bool:
        """Whether a student learns from a teacher."""
        return bool(self.needs & {"teacher_logits", "teacher_features", "several_teachers"})

    @property
    def uses_unlabelled(self) -> bool:
        """Whether a student sees unlabelled images, where the budget leaves any."""
        return bool(self.needs & {"unlabelled", "unlabelled_if_any"})


@dataclass(frozen=True, kw_only=True)
class ReducerSpec(Spec):
    """A dimensionality reducer with scikit-learn's habits (`kdbench.api.Reducer`).

    `loss_history`: after fitting it has `loss_history_`. `parametric`: it has a real `transform`.
    """

    kind: ClassVar[str] = "reducers"
    loss_history: bool = False
    parametric: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric; its target follows `kdbench.api.Metric`.

    Attributes
    ----------
    needs
        What it reads, of METRIC_NEEDS; the metric guide (docs/plugins/metric.md) lists what each offers.
    primary
        The value a leaderboard ranks by, one of those the metric returns.
    higher_is_better
        None where neither direction is.
    bounds
        Closed interval of the primary value, None for an open end.
    """

    kind: ClassVar[str] = "metrics"
    needs: frozenset[str] = frozenset()
    primary: str = "value"
    higher_is_better: bool | None = None
    bounds: tuple[float | None, float | None] = (None, None)

    @property
    def scope(self) -> MetricScope:
        """Where the metric is computed: once a network, once a tap, or once a tap and reducer."""
        if self.needs & {"embedding", "loss_history"}:
            return "embedding"
        if self.needs & {"features", "neighbours", "teacher_features"}:
            return "tap"
        return "network"

    @property
    def last_tap_only(self) -> bool:
        """Whether the metric is computed at the last tap alone, because it reads the classifier on top of it."""
        return self.scope != "network" and "head" in self.needs

    @property
    def requires_teacher(self) -> bool:
        """Whether the metric compares a student with a teacher."""
        return bool(self.needs & {"teacher", "teacher_features", "independent_teacher"})


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(Spec):
    """How stages are executed; its target follows `kdbench.api.Executor`."""

    kind: ClassVar[str] = "executors"


@dataclass(frozen=True, kw_only=True)
class SuiteSpec(Spec):
    """A suite file that a plugin ships: `target` is "package:path/inside/it.toml"."""

    kind: ClassVar[str] = "suites"


SPEC_TYPES: dict[str, type[Spec]] = {
    t.kind: t
    for t in (DatasetSpec, ArchitectureSpec, SchemeSpec, ReducerSpec, MetricSpec, ExecutorSpec, SuiteSpec)
}
