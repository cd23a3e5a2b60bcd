"""Stages that train networks, each made once: what enters its key, what it needs, how much work it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdbench.api.data import ImageData
from kdbench.api.draws import derive_seed
from kdbench.api.specs import SchemeSpec
from kdbench.errors import SuiteError
from kdbench.plan.checks import check_whole_passes
from kdbench.plan.model import Stage
from kdbench.plan.settings import SuiteSettings
from kdbench.plan.teachers import TeacherChoice, own_teacher, teacher_of

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite, Teacher, Training

#: With more distinct views than this, a teacher is run beside its student instead of ahead of it.
VIEWS_AHEAD = 2


class Trainings:
    """The stages that train, and what all stages have in common."""

    def __init__(
        self,
        suite: Suite,
        registry: Registry,
        data: ImageData,
        seed: int,
        auto: str,
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
            precision=auto,
            n_train=len(data.train.labels),
        )
        self.stages: dict[str, Stage] = {}
        #: of the network that a teacher or student stage trains, by its key
        self.architectures: dict[str, Component] = {}
        self.exclusions: dict[str, None] = {}
        self._networks: dict[str, Any] = {}
        self.dataset_option = {"dataset": reference(suite.data.dataset)}

    def add(self, stage: Stage) -> str:
        """Its key; a stage that is there already is kept, so shared work is found once."""
        self.stages.setdefault(stage.key, stage)
        return stage.key

    def add_network(self, stage: Stage, architecture: Component) -> str:
        key = self.add(stage)
        self.architectures[key] = architecture
        return key

    # -- identities ---------------------------------------------------------------------------------------------

    def component(self, kind: str, ref: Component) -> dict[str, Any]:
        """Identity of a component: name, version and all parameters, files by their content."""
        settings = self.settings.component(kind, ref)
        code = {"version": settings.version} | ({"source": settings.source} if settings.source else {})
        return {"name": settings.name, **code, "params": dict(settings.params)}

    def recipe(self, training: Training) -> dict[str, Any]:
        return self.settings.recipe(training)

    def draw(self, budget: int, fold: int, *, unlabelled: bool) -> dict[str, Any]:
        d = self.suite.data
        draw: dict[str, Any] = {
            "budget": budget, "fold": fold, "seed": self.seed, "train": d.train, "validation": d.validation,
        }  # fmt: skip
        return draw | {"unlabelled": d.unlabelled} if unlabelled else draw

    def base(self) -> dict[str, Any]:
        return {"dataset": self.data.digest}

    def test(self) -> dict[str, Any]:
        return {"size": self.suite.data.test, "seed": self.seed}

    def options(self, **more: Any) -> dict[str, Any]:
        return {**self.dataset_option, **more}

    def network_option(self, ref: Component) -> dict[str, Any]:
        """How to build a network: its parameters as they were given, paths and all."""
        return {"name": ref.name, "params": self.registry.check("architectures", ref.name, ref.params)}

    # -- teacher ------------------------------------------------------------------------------------------------

    def source(self, teacher: Teacher) -> dict[str, str]:
        """The input `source` of a teacher that is pretrained on a task of its own; none of another."""
        if teacher.source is None:
            return {}
        stage = Stage(
            kind="source",
            component=f"architectures/{teacher.architecture.name}",
            identity={
                "data": self.source_digest,
                "network": self.component("architectures", teacher.architecture),
                "recipe": self.recipe(teacher.source),
                "seed": derive_seed(self.seed, "source"),
            },
            inputs={},
            title=f"source task · {teacher.architecture.title} on {teacher.source.dataset.title}",
            options={
                "dataset": reference(teacher.source.dataset),
                "network": self.network_option(teacher.architecture),
            },
            work=teacher.source.epochs,
            unit="epochs",
        )
        return {"source": self.add(stage)}

    def backbone(self, teacher: Teacher) -> dict[str, str]:
        """What a teacher rests on: its source network, and its frozen features where the head alone is trained."""
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
            identity=self.base()
            | {
                "network": self.component("architectures", teacher.architecture),
                "train": {"size": d.train, "seed": self.seed},
                "test": self.test(),
                "flip": teacher.flip,
                "precision": self.recipe(teacher)["precision"],
                # weights that are not trained on anything are drawn once
                "seed": derive_seed(self.seed, "backbone"),
            },
            inputs=source,
            title=f"backbone features · {teacher.architecture.title}",
            options=self.options(network=self.network_option(teacher.architecture)),
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
        # the suite's own teacher has the seed it always had
        which = ("member", member) if member else ()
        stage = Stage(
            kind="teacher",
            component=f"architectures/{teacher.architecture.name}",
            identity=self.base()
            | {
                "draw": self.draw(budget, fold, unlabelled=False),
                "network": self.component("architectures", teacher.architecture),
                "mode": teacher.mode,
                "recipe": self.recipe(teacher),
                "test": self.test(),
                "seed": derive_seed(self.seed, "teacher", fold, *which),
            },
            inputs=inputs,
            title=f"{choice.title} · {budget} labels · fold {fold + 1}",
            options=self.options(network=self.network_option(teacher.architecture)),
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
            identity=self.trained_by(scheme, choice.teacher, budget, fold, pool=True)
            | {"seed": derive_seed(self.seed, "pretraining", fold)},
            inputs={},
            title=f"pretraining {choice.teacher.architecture.title} by {scheme.name} · fold {fold + 1}",
            options=self.options(
                network=self.network_option(choice.teacher.architecture), scheme=reference(scheme)
            ),
            work=choice.teacher.epochs * self.unlabelled(budget),
            unit="images",
        )
        return self.add(stage)

    def targets(self, key: str, choice: TeacherChoice, student: Student, budget: int, fold: int) -> str:
        """Key of what the network `key` tells of every view that the student's augmentation makes: ahead for
        few views, as they come up for many."""
        teacher = choice.teacher
        lazily = n_views(student) > VIEWS_AHEAD
        identity = self.base() | {
            "draw": self.draw(budget, fold, unlabelled=True),
            "flip": student.flip,
            "precision": self.recipe(teacher)["precision"],
        }
        if lazily:
            identity |= {"shift": student.shift, "shift_fill": student.shift_fill}
        ahead = n_views(student) * self.unlabelled(budget) * (0.001 if teacher.mode == "head" else 1)
        stage = Stage(
            kind="targets",
            component=f"architectures/{teacher.architecture.name}",
            identity=identity,
            inputs={"teacher": key, **self.backbone(teacher)},
            title=f"targets of {choice.title} · {budget} labels · fold {fold + 1}",
            options=self.options(teacher_network=self.network_option(teacher.architecture)),
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
        """Key of a student; of a `generation` (from 1) where there are several, taught by the one before."""
        student, spec = self.suite.student_of(scheme), self.scheme_spec(scheme)
        pool = bool(spec.needs & {"unlabelled", "unlabelled_if_any"}) and self.unlabelled(budget) > 0
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
        options: dict[str, Any] = {
            "network": self.network_option(student.architecture),
            "scheme": reference(scheme),
        }
        if spec.uses_teacher:
            choices = self.choices(scheme)
            if previous is not None:
                own = replace(own_teacher(student), label=f"generation {generation - 1} of {scheme.title}")
                teachers = [(previous, own)]
            else:
                teachers = [(self.teacher(choice, budget, fold), choice) for choice in choices]
            options["teacher_network"] = self.network_option(teachers[0][1].teacher.architecture)
            if "teacher_features" in spec.needs:
                inputs = {"teacher": teachers[0][0], **self.backbone(teachers[0][1].teacher)}
            if "teacher_features" not in spec.needs or "several_teachers" in spec.needs:
                told = [self.targets(key, choice, student, budget, fold) for key, choice in teachers]
                several = "several_teachers" in spec.needs
                inputs |= {f"targets{i}" if several else "targets": key for i, key in enumerate(told)}
        stage = Stage(
            kind="student",
            component=f"schemes/{scheme.name}",
            identity=self.trained_by(scheme, student, budget, fold, pool=pool)
            # the fold alone: every scheme of a fold starts from the same weights; a later generation anew
            | {"seed": derive_seed(self.seed, "student", fold, *([generation] if generation > 1 else []))},
            inputs=inputs,
            title=f"student {scheme.title} · {budget} labels · fold {fold + 1}"
            + (f" · generation {generation}" if generation else ""),
            options=self.options(**options),
            work=self.training_work(student, budget + (self.unlabelled(budget) if pool else 0)),
            unit="images",
            # they look at the same batches in the same order, so one look of the teacher's does for all
            together=inputs.get("teacher", ""),
        )
        return self.add_network(stage, student.architecture)

    def trained_by(
        self, scheme: Component, training: Student | Teacher, budget: int, fold: int, *, pool: bool
    ) -> dict[str, Any]:
        """Identity of a network that a scheme trains, without its seed."""
        return self.base() | {
            "draw": self.draw(budget, fold, unlabelled=pool),
            "network": self.component("architectures", training.architecture),
            "scheme": self.component("schemes", scheme),
            "recipe": self.recipe(training),
            "test": self.test(),
        }

    def training_work(self, training: Training, images_an_epoch: int) -> float:
        if training.steps:
            return training.steps * training.batch_size
        return training.epochs * images_an_epoch

    def scheme_spec(self, scheme: Component) -> SchemeSpec:
        spec = self.registry.spec("schemes", scheme.name)
        assert isinstance(spec, SchemeSpec)
        return spec

    def scheme_parameter(self, scheme: Component, name: str, default: Any) -> Any:
        """A parameter of a scheme that the plan goes by."""
        return self.registry.check("schemes", scheme.name, scheme.params).get(name, default)

    def choices(self, scheme: Component) -> list[TeacherChoice]:
        """The teachers that a scheme learns from. Raises SuiteError if the suite has none."""
        spec = self.scheme_spec(scheme)
        choice = teacher_of(self.suite, spec, scheme)
        count = self.scheme_parameter(scheme, "teachers", 1) if "several_teachers" in spec.needs else 1
        return [replace(choice, member=i) for i in range(count)]


def reference(component: Component) -> dict[str, Any]:
    return {"name": component.name, "params": dict(component.params)}


def n_views(training: Training) -> int:
    return (2 if training.flip else 1) * (2 * training.shift + 1) ** 2
