"""Stages of a suite, each made once: what enters its key, what it needs, how much work it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.api.data import ImageData
from kdbench.api.draws import derive_seed
from kdbench.api.specs import MetricSpec, ReducerSpec, SchemeSpec
from kdbench.errors import PluginError, SuiteError
from kdbench.plan.model import Score, Stage

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite, Teacher, Training

#: With more distinct views than this, a teacher is run beside its student instead of ahead of it.
VIEWS_AHEAD = 2


class Builder:
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
        self.suite, self.registry, self.data, self.seed, self.auto_precision = (
            suite,
            registry,
            data,
            seed,
            auto,
        )
        self.stages: dict[str, Stage] = {}
        self.exclusions: dict[str, None] = {}
        self._files: dict[str, str] = {}
        self._networks: dict[str, Any] = {}
        self.dataset_option = {"dataset": reference(suite.data.dataset)}

    def add(self, stage: Stage) -> str:
        """Its key; a stage that is there already is kept, so shared work is found once."""
        self.stages.setdefault(stage.key, stage)
        return stage.key

    # -- identities ---------------------------------------------------------------------------------------------

    def component(self, kind: str, ref: Component) -> dict[str, Any]:
        """Identity of a component: name, version and all parameters, files by their content."""
        params = self.registry.check(kind, ref.name, ref.params)
        spec = self.registry.spec(kind, ref.name)
        source = self.registry.source_digest(kind, ref.name)
        return {
            "name": ref.name,
            "version": spec.version,
            # a file that is being worked on has no version that anybody raises
            **({"source": source} if source else {}),
            "params": {k: self._content(v) for k, v in params.items()},
        }

    def _content(self, value: Any) -> Any:
        if isinstance(value, str) and ("/" in value or "." in value):  # what may be the name of a file
            path = Path(value).expanduser()
            if path.is_file():
                if value not in self._files:
                    with path.open("rb") as f:
                        self._files[value] = hashlib.file_digest(f, "sha256").hexdigest()
                return f"sha256:{self._files[value]}"
        return value

    def recipe(self, training: Training) -> dict[str, Any]:
        from kdbench.suite.schema import Training as Base

        fields = {name: getattr(training, name) for name in Base.model_fields}
        if training.precision == "auto":
            fields["precision"] = self.auto_precision
        return fields

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

    def teacher(self, teacher: Teacher, budget: int, fold: int) -> str:
        """Key of a teacher; the same for all schemes of a budget and fold."""
        recipe = self.recipe(teacher)
        inputs = self.backbone(teacher)
        stage = Stage(
            kind="teacher",
            component=f"architectures/{teacher.architecture.name}",
            identity=self.base()
            | {
                "draw": self.draw(budget, fold, unlabelled=False),
                "network": self.component("architectures", teacher.architecture),
                "mode": teacher.mode,
                "recipe": recipe,
                "test": self.test(),
                "seed": derive_seed(self.seed, "teacher", fold),
            },
            inputs=inputs,
            title=f"teacher {teacher.architecture.title} · {budget} labels · fold {fold + 1}",
            options=self.options(network=self.network_option(teacher.architecture)),
            work=teacher.epochs * budget * (0.001 if teacher.mode == "head" else 1),
            unit="images",
        )
        return self.add(stage)

    def targets(self, teacher: Teacher, student: Student, budget: int, fold: int) -> str:
        """Key of a teacher's outputs for every view that the student's augmentation makes."""
        key = self.teacher(teacher, budget, fold)
        inputs = {"teacher": key, **self.backbone(teacher)}
        stage = Stage(
            kind="targets",
            component=f"architectures/{teacher.architecture.name}",
            identity=self.base()
            | {
                "draw": self.draw(budget, fold, unlabelled=True),
                "flip": student.flip,
                "precision": self.recipe(teacher)["precision"],
            },
            inputs=inputs,
            title=f"targets {teacher.architecture.title} · {budget} labels · fold {fold + 1}",
            options=self.options(network=self.network_option(teacher.architecture)),
            work=n_views(student) * self.unlabelled(budget) * (0.001 if teacher.mode == "head" else 1),
            unit="images",
        )
        return self.add(stage)

    def unlabelled(self, budget: int) -> int:
        d = self.suite.data
        n = len(self.data.train.labels) if d.train == "all" else d.train
        return n - d.validation - budget if d.unlabelled == "rest" else d.unlabelled

    # -- student ------------------------------------------------------------------------------------------------

    def student(self, scheme: Component, budget: int, fold: int) -> str:
        """Key of a student. Raises SuiteError without a teacher or unlabelled images that its scheme needs."""
        suite, student = self.suite, self.suite.student
        spec = self.registry.spec("schemes", scheme.name)
        assert isinstance(spec, SchemeSpec)
        inputs: dict[str, str] = {}
        if "teacher_logits" in spec.needs:
            if suite.teacher is None:
                raise SuiteError(
                    f"scheme {scheme.title!r} needs a teacher, and the suite has none",
                    where=f"suite {suite.name}",
                    hint="add a [teacher] table",
                )
            if n_views(student) <= VIEWS_AHEAD:
                inputs["targets"] = self.targets(suite.teacher, student, budget, fold)
            else:
                inputs["teacher"] = self.teacher(suite.teacher, budget, fold)
                inputs |= self.backbone(suite.teacher)
        pool = "unlabelled" in spec.needs
        seen = budget + (self.unlabelled(budget) if pool else 0)
        if pool and seen == budget:
            raise SuiteError(
                f"budget {budget} leaves scheme {scheme.title!r} no unlabelled images",
                where="data.budgets",
            )
        options: dict[str, Any] = {
            "network": self.network_option(student.architecture),
            "scheme": reference(scheme),
        }
        if suite.teacher is not None and "teacher" in inputs:
            options["teacher_network"] = self.network_option(suite.teacher.architecture)
        stage = Stage(
            kind="student",
            component=f"schemes/{scheme.name}",
            identity=self.base()
            | {
                "draw": self.draw(budget, fold, unlabelled=pool),
                "network": self.component("architectures", student.architecture),
                "scheme": self.component("schemes", scheme),
                "recipe": self.recipe(student),
                "test": self.test(),
                # the fold alone: every scheme of a fold starts from the same weights
                "seed": derive_seed(self.seed, "student", fold),
            },
            inputs=inputs,
            title=f"student {scheme.title} · {budget} labels · fold {fold + 1}",
            options=self.options(**options),
            work=student.epochs * seen,
            unit="images",
        )
        return self.add(stage)

    # -- what is measured ---------------------------------------------------------------------------------------

    def scores(
        self, network: str, role: str, title: str, metrics: list[Component], fold: int
    ) -> tuple[list[Score], dict[str, str]]:
        scores: list[Score] = []
        embeddings: dict[str, str] = {}
        features = ""
        for metric in metrics:
            spec = self.registry.spec("metrics", metric.name)
            assert isinstance(spec, MetricSpec)
            if "superclasses" in spec.needs and self.data.superclass_of is None:
                self.exclude(f"metric {metric.title}: {self.suite.data.dataset.title} has no superclasses")
                continue
            if "masks" in spec.needs and self.data.test.masks is None:
                self.exclude(f"metric {metric.title}: {self.suite.data.dataset.title} has no masks")
                continue
            per_embedding = spec.needs & {"embedding", "loss_history"}
            per_tap = spec.needs & {"features", "neighbours"}
            if "reducers" in spec.needs and not self.suite.reducers:
                self.exclude(f"metric {metric.title}: the suite has no reducers")
                continue
            if not (per_embedding or per_tap):
                scores.append(self.score(metric, spec, {"network": network}, title, None, None, fold))
                continue
            if not features:
                features = self.features(network, role, title)
            if per_embedding and not self.suite.reducers:
                self.exclude(f"metric {metric.title}: the suite has no reducers")
                continue
            for tap in self.suite.taps:
                inputs = {"network": network, "features": features}
                if not per_embedding:
                    scores.append(self.score(metric, spec, inputs, title, tap, None, fold))
                    continue
                for reducer in self.suite.reducers:
                    reducer_spec = self.registry.spec("reducers", reducer.name)
                    assert isinstance(reducer_spec, ReducerSpec)
                    if "loss_history" in spec.needs and not reducer_spec.loss_history:
                        self.exclude(
                            f"metric {metric.title} of reducer {reducer.title}: it has no loss history"
                        )
                        continue
                    embedding = self.embedding(features, tap, reducer, title, fold)
                    embeddings[f"{tap}/{reducer.title}"] = embedding
                    with_embedding = {**inputs, "embedding": embedding}
                    scores.append(self.score(metric, spec, with_embedding, title, tap, reducer, fold))
        return scores, embeddings

    def exclude(self, reason: str) -> None:
        self.exclusions[reason] = None

    def n_embedded(self) -> int:
        size = self.suite.data.embedded
        return len(self.data.test.labels) if size == "all" else size

    def features(self, network: str, role: str, title: str) -> str:
        """Key of a network's activations at the suite's taps, over the embedded test images."""
        architecture = (
            self.suite.teacher if role == "teacher" and self.suite.teacher else self.suite.student
        ).architecture
        stage = Stage(
            kind="features",
            component=f"architectures/{architecture.name}",
            identity=self.base()
            | {"taps": list(self.suite.taps), "test": {"size": self.suite.data.embedded, "seed": self.seed}},
            inputs={"network": network},
            title=f"features · {title}",
            options=self.options(network=self.network_option(architecture)),
            work=self.n_embedded(),
            unit="images",
        )
        return self.add(stage)

    def neighbours(
        self, features: str, tap: str, wanted: tuple[int, str] | None, title: str
    ) -> dict[str, str]:
        if wanted is None:
            return {}
        metric = wanted[1]
        k = max(self._neighbour_wishes()[metric], wanted[0])
        stage = Stage(
            kind="neighbours",
            component="",
            identity={"tap": tap, "metric": metric, "k": k},
            inputs={"features": features},
            title=f"neighbours {metric} · {tap} · {title}",
            work=self.n_embedded() ** 2 / 1e6,
            unit="million pairs",
        )
        return {"neighbours": self.add(stage)}

    def _neighbour_wishes(self) -> dict[str, int]:
        """The largest k that any reducer or metric of the suite wants, by distance metric."""
        if not hasattr(self, "_wishes"):
            self._wishes: dict[str, int] = {}
            refs = [("reducers", r) for r in self.suite.reducers] + [
                ("metrics", m) for m in self.suite.metrics
            ]
            for kind, ref in refs:
                wanted = self.wish(kind, ref)
                if wanted:
                    self._wishes[wanted[1]] = max(self._wishes.get(wanted[1], 0), wanted[0])
        return self._wishes

    def wish(self, kind: str, ref: Component) -> tuple[int, str] | None:
        """How many neighbours a component wants among the embedded images, checked before anything runs."""
        name = f"{kind}:{ref.title}"
        if name not in self._networks:
            component = self.registry.create(kind, ref.name, ref.params)
            method = {"reducers": "fit_transform", "metrics": "__call__"}[kind]
            if not callable(getattr(component, method, None)):
                raise PluginError(
                    f"{type(component).__name__} has no method {method}", where=f"{kind}/{ref.title}"
                )
            ask = getattr(component, "neighbours_wanted", None)
            try:
                wanted = ask(self.n_embedded()) if ask else None
            except ValueError as error:
                raise SuiteError(str(error), where=f"{kind}/{ref.title}") from error
            if wanted and not 1 <= wanted[0] < self.n_embedded():
                raise SuiteError(
                    f"{wanted[0]} neighbours asked for among {self.n_embedded()} embedded images",
                    where=f"{kind}/{ref.title}",
                    hint="lower its k, or raise data.embedded",
                )
            self._networks[name] = wanted
        return self._networks[name]

    def embedding(self, features: str, tap: str, reducer: Component, title: str, fold: int) -> str:
        """Key of a tap's embedding; its seed depends on the fold alone, so that schemes are paired."""
        stage = Stage(
            kind="embedding",
            component=f"reducers/{reducer.name}",
            identity={
                "tap": tap,
                "reducer": self.component("reducers", reducer),
                "seed": derive_seed(self.seed, "embedding", fold) % 2**31,
            },
            inputs={"features": features},
            aids=self.neighbours(features, tap, self.wish("reducers", reducer), title),
            title=f"embedding {reducer.title} · {tap} · {title}",
            options={"reducer": reference(reducer)},
            work=self.n_embedded(),
            unit="points",
        )
        return self.add(stage)

    def score(
        self, metric: Component, spec: MetricSpec, inputs: dict[str, str], title: str, tap: str | None,
        reducer: Component | None, fold: int,
    ) -> Score:  # fmt: skip
        rows = self.suite.data.embedded if tap else self.suite.data.test
        aids = {}
        if tap and "neighbours" in spec.needs:
            aids = self.neighbours(inputs["features"], tap, self.wish("metrics", metric), title)
        own: dict[str, Any] = {}
        options = self.options(metric=reference(metric))
        if "reducers" in spec.needs:  # other metrics' keys do not depend on the suite's reducers
            reducers = self.suite.reducers
            own = {
                "reducers": [[r.title, self.component("reducers", r)] for r in reducers],
                "seed": derive_seed(self.seed, "embedding", fold) % 2**31,
            }
            options["reducers"] = [[r.title, reference(r)] for r in reducers]
        place = " · ".join([p for p in (tap, reducer.title if reducer else None) if p] + [title])
        stage = Stage(
            kind="score",
            component=f"metrics/{metric.name}",
            identity=self.base()
            | {
                "metric": self.component("metrics", metric),
                "tap": tap,
                "test": {"size": rows, "seed": self.seed},
            }
            | own,
            inputs=inputs,
            aids=aids,
            title=f"score {metric.title} · {place}",
            options=options,
        )
        key = self.add(stage)
        return Score(key, metric.title, spec.primary, tap, reducer.title if reducer else None)


def reference(component: Component) -> dict[str, Any]:
    return {"name": component.name, "params": dict(component.params)}


def n_views(training: Training) -> int:
    return (2 if training.flip else 1) * (2 * training.shift + 1) ** 2
