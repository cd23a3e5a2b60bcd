"""Plan the stages that train networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdbench.api.data import ImageData
from kdbench.api.draws import derive_seed
from kdbench.api.settings import ComponentSettings
from kdbench.errors import SuiteError
from kdbench.plan.checks import check_whole_passes
from kdbench.plan.fields import (
    BackboneFields,
    Draw,
    Reference,
    Rows,
    Runtime,
    SourceFields,
    StudentFields,
    TargetsFields,
    TeacherFields,
)
from kdbench.plan.model import Stage
from kdbench.plan.settings import SuiteSettings
from kdbench.plan.teachers import TeacherChoice, own_teacher, teacher_of

if TYPE_CHECKING:
    from kdbench.api.specs import SchemeSpec
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite, Teacher, Training

#: With more distinct augmented views than this, a teacher runs during its student's training instead of before it.
VIEWS_AHEAD = 2


class TrainingStages:
    """The stages of a suite that train networks, each once.

    Parameters
    ----------
    suite
        The suite.
    registry
        Registry that it was loaded with.
    data
        The loaded dataset.
    seed
        Seed of the run.
    auto_precision
        What precision "auto" is.
    source
        The loaded dataset of the teacher's source task, if it has one.

    Attributes
    ----------
    stages
        Key to stage.
    architectures
        Key of a teacher or student stage to the architecture of its network.
    settings
        Settings of the suite's experiments.
    """

    def __init__(
        self,
        suite: Suite,
        registry: Registry,
        data: ImageData,
        seed: int,
        auto_precision: str,
        source: ImageData | None,
    ) -> None:
        if suite.teacher is not None and suite.teacher.source is not None and source is None:
            raise ValueError("the suite's teacher has a source task; its dataset must be given")
        self.source_digest = source.digest if source is not None else ""
        self.suite, self.registry, self.data, self.seed = suite, registry, data, seed
        self.settings = SuiteSettings(
            suite,
            registry,
            digest=data.digest,
            source_digest=self.source_digest,
            precision=auto_precision,
            n_train=len(data.train.labels),
        )
        self.stages: dict[str, Stage] = {}
        self.architectures: dict[str, Component] = {}

    def add(self, stage: Stage) -> str:
        """Key of a stage; one that is there already is kept, so that shared work is done once."""
        self.stages.setdefault(stage.key, stage)
        return stage.key

    def add_network(self, stage: Stage, architecture: Component) -> str:
        """Key of a stage that trains a network."""
        key = self.add(stage)
        self.architectures[key] = architecture
        return key

    # -- fields ---------------------------------------------------------------------------------------------------

    def draw(self, budget: int, fold: int, *, unlabelled: bool) -> Draw:
        d = self.suite.data
        return Draw(budget, fold, self.seed, d.train, d.validation, d.unlabelled if unlabelled else None)

    def test(self) -> Rows:
        return Rows(self.suite.data.test, self.seed)

    def network(self, ref: Component) -> ComponentSettings:
        return self.settings.component("architectures", ref)

    def runtime(self, **references: Any) -> Runtime:
        return Runtime(dataset=reference(self.suite.data.dataset), **references)

    def network_reference(self, ref: Component) -> Reference:
        """How to build a network: all parameters, files by their paths."""
        return Reference(ref.name, self.registry.check("architectures", ref.name, ref.params))

    # -- teacher --------------------------------------------------------------------------------------------------

    def source(self, teacher: Teacher) -> dict[str, str]:
        """The input `source` of a teacher that is pretrained on a task of its own; none of another."""
        if teacher.source is None:
            return {}
        stage = Stage(
            kind="source",
            component=f"architectures/{teacher.architecture.name}",
            fields=SourceFields(
                data=self.source_digest,
                network=self.network(teacher.architecture),
                recipe=self.settings.recipe(teacher.source),
                seed=derive_seed(self.seed, "source"),
            ),
            inputs={},
            title=f"source task · {teacher.architecture.title} on {teacher.source.dataset.title}",
            runtime=Runtime(
                dataset=reference(teacher.source.dataset),
                network=self.network_reference(teacher.architecture),
            ),
            work=teacher.source.epochs,
            unit="epochs",
        )
        return {"source": self.add(stage)}

    def backbone(self, teacher: Teacher) -> dict[str, str]:
        """Inputs of a teacher: its source network, and its frozen features if only the head is trained."""
        source = self.source(teacher)
        if teacher.mode != "head":
            return source
        d = self.suite.data
        views = n_views(teacher)
        n_train = len(self.data.train.labels) if d.train == "all" else d.train
        n_test = len(self.data.test.labels) if d.test == "all" else d.test
        stage = Stage(
            kind="backbone",
            component=f"architectures/{teacher.architecture.name}",
            fields=BackboneFields(
                dataset=self.data.digest,
                network=self.network(teacher.architecture),
                train=Rows(d.train, self.seed),
                test=self.test(),
                flip=teacher.flip,
                precision=self.settings.recipe(teacher)["precision"],
                # weights that are not trained on anything are drawn once
                seed=derive_seed(self.seed, "backbone"),
            ),
            inputs=source,
            title=f"backbone features · {teacher.architecture.title}",
            runtime=self.runtime(network=self.network_reference(teacher.architecture)),
            work=views * n_train + n_test,
            unit="images",
        )
        return {**source, "backbone": self.add(stage)}

    def teacher(self, choice: TeacherChoice, budget: int, fold: int) -> str:
        """Key of a teacher; the same for all schemes of a budget and fold that learn from it."""
        teacher, member = choice.teacher, choice.member
        inputs = self.backbone(teacher)
        if choice.pretraining:
            inputs = {"source": self.pretraining(choice, budget, fold)}
        which = ("member", member) if member else ()
        stage = Stage(
            kind="teacher",
            component=f"architectures/{teacher.architecture.name}",
            fields=TeacherFields(
                dataset=self.data.digest,
                draw=self.draw(budget, fold, unlabelled=False),
                network=self.network(teacher.architecture),
                mode=teacher.mode,
                recipe=self.settings.recipe(teacher),
                test=self.test(),
                seed=derive_seed(self.seed, "teacher", fold, *which),
            ),
            inputs=inputs,
            title=f"{choice.title} · {budget} labels · fold {fold + 1}",
            runtime=self.runtime(network=self.network_reference(teacher.architecture)),
            work=teacher.epochs * budget * (0.001 if teacher.mode == "head" else 1),
            unit="images",
        )
        return self.add_network(stage, teacher.architecture)

    def pretraining(self, choice: TeacherChoice, budget: int, fold: int) -> str:
        """Key of the teacher's network as a self-supervised scheme leaves it."""
        from kdbench.suite.schema import Component

        scheme = Component(name=choice.pretraining)
        stage = Stage(
            kind="student",
            component=f"schemes/{scheme.name}",
            fields=self.trained_by(
                scheme,
                choice.teacher,
                budget,
                fold,
                pool=True,
                seed=derive_seed(self.seed, "pretraining", fold),
            ),
            inputs={},
            title=f"pretraining {choice.teacher.architecture.title} by {scheme.name} · fold {fold + 1}",
            runtime=self.runtime(
                network=self.network_reference(choice.teacher.architecture), scheme=reference(scheme)
            ),
            work=choice.teacher.epochs * self.unlabelled(budget),
            unit="images",
        )
        return self.add(stage)

    def targets(self, key: str, choice: TeacherChoice, student: Student, budget: int, fold: int) -> str:
        """Key of the outputs of the network `key` for every augmented view of a student: computed ahead if there are
        few views, otherwise as students ask for them."""
        teacher = choice.teacher
        lazily = n_views(student) > VIEWS_AHEAD
        ahead = n_views(student) * self.unlabelled(budget) * (0.001 if teacher.mode == "head" else 1)
        stage = Stage(
            kind="targets",
            component=f"architectures/{teacher.architecture.name}",
            fields=TargetsFields(
                dataset=self.data.digest,
                draw=self.draw(budget, fold, unlabelled=True),
                flip=student.flip,
                precision=self.settings.recipe(teacher)["precision"],
                shift=student.shift if lazily else None,
                shift_fill=student.shift_fill if lazily else None,
            ),
            inputs={"teacher": key, **self.backbone(teacher)},
            title=f"targets of {choice.title} · {budget} labels · fold {fold + 1}",
            runtime=self.runtime(teacher_network=self.network_reference(teacher.architecture)),
            work=500 if lazily else ahead,
            unit="images",
        )
        return self.add(stage)

    def unlabelled(self, budget: int) -> int:
        n = self.settings.unlabelled(budget)
        assert isinstance(n, int)  # the data are loaded
        return n

    # -- student ------------------------------------------------------------------------------------------------

    def student(self, scheme: Component, budget: int, fold: int) -> str:
        """Key of a student. Raises SuiteError without a teacher or unlabelled images that its scheme needs."""
        key = None
        generations = self.scheme_parameter(scheme, "generations", 1)
        for generation in range(1, generations + 1):
            key = self.one_student(scheme, budget, fold, generation if generations > 1 else 0, key)
        assert key is not None
        return key

    def one_student(
        self, scheme: Component, budget: int, fold: int, generation: int, previous: str | None
    ) -> str:
        """Key of a student; if there are several generations, each is taught by the one before."""
        student, spec = self.suite.student_of(scheme), self.scheme_spec(scheme)
        pool = spec.uses_unlabelled and self.unlabelled(budget) > 0
        if "unlabelled" in spec.needs and not pool:
            raise SuiteError(
                f"budget {budget} leaves scheme {scheme.title!r} no unlabelled images",
                where="data.budgets",
            )
        if pool and spec.whole_passes:
            parameter, value = spec.whole_passes
            whole = self.scheme_parameter(scheme, parameter, None) == value
            rest = self.unlabelled(budget)
            check_whole_passes(scheme, student, budget, rest, whole=whole, parameter=parameter)
        inputs: dict[str, str] = {}
        runtime = self.runtime(network=self.network_reference(student.architecture), scheme=reference(scheme))
        if spec.uses_teacher:
            choices = self.choices(scheme)
            if previous is not None:
                own = replace(own_teacher(student), label=f"generation {generation - 1} of {scheme.title}")
                teachers = [(previous, own)]
            else:
                teachers = [(self.teacher(choice, budget, fold), choice) for choice in choices]
            architecture = teachers[0][1].teacher.architecture
            runtime = replace(runtime, teacher_network=self.network_reference(architecture))
            if "teacher_features" in spec.needs:
                inputs = {"teacher": teachers[0][0], **self.backbone(teachers[0][1].teacher)}
            if "teacher_features" not in spec.needs or "several_teachers" in spec.needs:
                targets = [self.targets(key, choice, student, budget, fold) for key, choice in teachers]
                several = "several_teachers" in spec.needs
                inputs |= {f"targets{i}" if several else "targets": key for i, key in enumerate(targets)}
        # every scheme of a fold starts from the same weights, a later generation from others
        seed = derive_seed(self.seed, "student", fold, *([generation] if generation > 1 else []))
        stage = Stage(
            kind="student",
            component=f"schemes/{scheme.name}",
            fields=self.trained_by(scheme, student, budget, fold, pool=pool, seed=seed),
            inputs=inputs,
            title=f"student {scheme.title} · {budget} labels · fold {fold + 1}"
            + (f" · generation {generation}" if generation else ""),
            runtime=runtime,
            work=self.training_work(student, budget + (self.unlabelled(budget) if pool else 0)),
            unit="images",
            # these students see the same batches in the same order, so one pass of the teacher serves all
            coschedule=inputs.get("teacher", ""),
        )
        return self.add_network(stage, student.architecture)

    def trained_by(
        self, scheme: Component, training: Student | Teacher, budget: int, fold: int, *, pool: bool, seed: int
    ) -> StudentFields:
        """Fields of a network that a scheme trains."""
        return StudentFields(
            dataset=self.data.digest,
            draw=self.draw(budget, fold, unlabelled=pool),
            network=self.network(training.architecture),
            scheme=self.settings.component("schemes", scheme),
            recipe=self.settings.recipe(training),
            test=self.test(),
            seed=seed,
        )

    def training_work(self, training: Training, images_an_epoch: int) -> float:
        if training.steps:
            return training.steps * training.batch_size
        return training.epochs * images_an_epoch

    def scheme_spec(self, scheme: Component) -> SchemeSpec:
        return self.registry.spec("schemes", scheme.name)

    def scheme_parameter(self, scheme: Component, name: str, default: Any) -> Any:
        """A parameter of a scheme that the plan depends on."""
        return self.registry.check("schemes", scheme.name, scheme.params).get(name, default)

    def choices(self, scheme: Component) -> list[TeacherChoice]:
        """The teachers that a scheme learns from. Raises SuiteError if the suite has none."""
        spec = self.scheme_spec(scheme)
        choice = teacher_of(self.suite, spec, scheme)
        count = self.scheme_parameter(scheme, "teachers", 1) if "several_teachers" in spec.needs else 1
        return [replace(choice, member=i) for i in range(count)]


def reference(component: Component) -> Reference:
    return Reference(component.name, dict(component.params))


def n_views(training: Training) -> int:
    return (2 if training.flip else 1) * (2 * training.shift + 1) ** 2
