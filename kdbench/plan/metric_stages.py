"""Stages of a suite that measure what was trained, on top of those that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.api.draws import derive_seed
from kdbench.api.specs import MetricSpec
from kdbench.errors import PluginError, SuiteError
from kdbench.plan.model import Score, Stage
from kdbench.plan.teachers import TeacherChoice
from kdbench.plan.training_stages import Trainings, reference

if TYPE_CHECKING:
    from kdbench.suite.schema import Component

#: Needs of metrics that look at the suite's teacher beside a student.
BESIDE_TEACHER = frozenset({"teacher", "teacher_features", "independent_teacher"})


class Builder(Trainings):
    """All stages of a suite."""

    def scores(
        self, network: str, role: str, title: str, metrics: list[Component], budget: int, fold: int
    ) -> tuple[list[Score], dict[str, str]]:
        scores: list[Score] = []
        embeddings: dict[str, str] = {}
        features = ""
        for metric in metrics:
            spec = self.registry.spec("metrics", metric.name)
            if "superclasses" in spec.needs and self.data.superclass_of is None:
                self.exclude(f"metric {metric.title}: {self.suite.data.dataset.title} has no superclasses")
                continue
            if "masks" in spec.needs and self.data.test.masks is None:
                self.exclude(f"metric {metric.title}: {self.suite.data.dataset.title} has no masks")
                continue
            if spec.needs & BESIDE_TEACHER and (role == "teacher" or self.suite.teacher is None):
                why = "it compares with them" if role == "teacher" else "the suite has no teacher"
                self.exclude(f"metric {metric.title}{' of teachers' if role == 'teacher' else ''}: {why}")
                continue
            per_embedding = spec.needs & {"embedding", "loss_history"}
            per_tap = spec.needs & {"features", "neighbours", "teacher_features"}
            if "reducers" in spec.needs and not self.suite.reducers:
                self.exclude(f"metric {metric.title}: the suite has no reducers")
                continue
            measured = {"network": network, **self.beside(metric, spec, budget, fold)}
            if not (per_embedding or per_tap):
                scores.append(self.score(metric, spec, measured, title, None, None, fold))
                continue
            self.wish("metrics", metric)  # a k that there are no neighbours for is refused here
            if not features:
                features = self.features(network, title)
            if per_embedding and not self.suite.reducers:
                self.exclude(f"metric {metric.title}: the suite has no reducers")
                continue
            for tap in self.suite.taps[-1:] if "head" in spec.needs else self.suite.taps:
                inputs = {**measured, "features": features}
                if not per_embedding:
                    scores.append(self.score(metric, spec, inputs, title, tap, None, fold))
                    continue
                for reducer in self.suite.reducers:
                    reducer_spec = self.registry.spec("reducers", reducer.name)
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

    def beside(self, metric: Component, spec: MetricSpec, budget: int, fold: int) -> dict[str, str]:
        """Inputs of a metric that looks at teachers beside the student that it measures.

        The independent teacher is of the fold before, for the first fold of the second: with more folds a fold's
        results stay what they were.
        """
        teacher = self.suite.teacher
        if teacher is None or not spec.needs & BESIDE_TEACHER:
            return {}
        inputs = {"teacher": self.teacher(TeacherChoice(teacher), budget, fold)}
        if "teacher_features" in spec.needs:
            title = f"teacher · {budget} labels · fold {fold + 1}"
            inputs["teacher_features"] = self.features(inputs["teacher"], title)
        if "independent_teacher" in spec.needs:
            if self.suite.data.folds > 1:
                inputs["independent_teacher"] = self.teacher(
                    TeacherChoice(teacher), budget, fold - 1 if fold else 1
                )
            else:
                self.exclude(f"metric {metric.title} against an independent teacher: the suite has one fold")
        return inputs

    def exclude(self, reason: str) -> None:
        self.exclusions[reason] = None

    def n_embedded(self) -> int:
        size = self.suite.data.embedded
        return len(self.data.test.labels) if size == "all" else size

    def features(self, network: str, title: str) -> str:
        """Key of a network's activations at the suite's taps, over the embedded test images."""
        architecture = self.architectures[network]
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
            work=self.n_embedded() ** 2,
            unit="pairs",
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
            n = self.n_embedded()
            wanted = self._wanted(kind, ref)
            if wanted and not 1 <= wanted[0] < n:
                raise SuiteError(
                    f"{wanted[0]} neighbours asked for among {n} embedded images",
                    where=f"{kind}/{ref.title}",
                    hint="lower its k, or raise data.embedded",
                )
            self._networks[name] = (wanted[0], wanted[1]) if wanted else None
        return self._networks[name]

    def _wanted(self, kind: str, ref: Component) -> list | None:
        """[k, metric] of the neighbours that a component asks for, None for none."""
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
        return [int(wanted[0]), str(wanted[1])] if wanted else None

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
        self, metric: Component, spec: MetricSpec, inputs: dict[str, str], title: str,
        tap: str | None, reducer: Component | None, fold: int,
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
        if "head" in spec.needs:
            options["network"] = self.network_option(self.architectures[inputs["network"]])
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
