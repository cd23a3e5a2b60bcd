"""Plan the stages that measure networks: features, neighbours, embeddings and scores."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kdbench.api.draws import derive_seed
from kdbench.api.neighbours import requested_neighbours
from kdbench.api.specs import MetricSpec
from kdbench.errors import PluginError, SuiteError
from kdbench.plan.fields import EmbeddingFields, FeaturesFields, NeighboursFields, Rows, Runtime, ScoreFields
from kdbench.plan.model import Score, Stage
from kdbench.plan.placement import Measurable, exclusion, positions, without_loss_history
from kdbench.plan.teachers import TeacherChoice
from kdbench.plan.training_stages import TrainingStages, reference

if TYPE_CHECKING:
    from kdbench.suite.schema import Component


class MetricStages:
    """The stages of a suite that measure networks, each once.

    Parameters
    ----------
    training
        The stages that train the networks; these stages are added to them.

    Attributes
    ----------
    training
        The stages that train the networks; these stages are added to them.
    exclusions
        What is not measured, each with its reason.
    """

    def __init__(self, training: TrainingStages) -> None:
        self.training = training
        self.suite, self.registry, self.data = training.suite, training.registry, training.data
        self.exclusions: dict[str, None] = {}
        self._requests: dict[str, tuple[int, str] | None] = {}

    def scores(
        self, network: str, title: str, metrics: list[Component], budget: int, fold: int, *, is_teacher: bool
    ) -> tuple[list[Score], dict[str, str]]:
        """The scores of a network, and "<tap>/<reducer>" to key of the embeddings that they are of."""
        scores: list[Score] = []
        embeddings: dict[str, str] = {}
        measurable = self._measurable(is_teacher)
        reducers = {r.title: r for r in self.suite.reducers}
        for metric in metrics:
            spec = self.registry.spec("metrics", metric.name)
            if reason := exclusion(spec, measurable):
                self.exclude(f"metric {metric.title}{' of teachers' if is_teacher else ''}: {reason}")
                continue
            for skipped in without_loss_history(spec, measurable):
                self.exclude(f"metric {metric.title} of reducer {skipped}: it has no loss history")
            inputs = {"network": network, **self._teachers(metric, spec, budget, fold)}
            if spec.scope != "network":
                self._requested("metrics", metric)  # an impossible k is refused here
                inputs["features"] = self.features(network, title)
            for tap, label in positions(spec, measurable):
                if tap is None or label is None:
                    scores.append(self._score(metric, spec, inputs, title, tap, None, fold))
                    continue
                embedding = self._embedding(inputs["features"], tap, reducers[label], title, fold)
                embeddings[f"{tap}/{label}"] = embedding
                with_embedding = {**inputs, "embedding": embedding}
                scores.append(self._score(metric, spec, with_embedding, title, tap, reducers[label], fold))
        return scores, embeddings

    def _measurable(self, is_teacher: bool) -> Measurable:
        suite, data = self.suite, self.data
        return Measurable(
            superclasses=data.superclass_of is not None,
            masks=data.test.masks is not None,
            teacher=suite.teacher is not None,
            is_teacher=is_teacher,
            taps=suite.taps,
            reducers={r.title: self.registry.spec("reducers", r.name).loss_history for r in suite.reducers},
        )

    def _teachers(self, metric: Component, spec: MetricSpec, budget: int, fold: int) -> dict[str, str]:
        """Inputs of a metric that compares a student with teachers.

        The independent teacher is that of the fold before; of the first fold, that of the second. So a fold's
        results stay the same if folds are added.
        """
        if self.suite.teacher is None or not spec.requires_teacher:
            return {}
        teacher = TeacherChoice(self.suite.teacher)
        inputs = {"teacher": self.training.teacher(teacher, budget, fold)}
        if "teacher_features" in spec.needs:
            title = f"teacher · {budget} labels · fold {fold + 1}"
            inputs["teacher_features"] = self.features(inputs["teacher"], title)
        if "independent_teacher" in spec.needs:
            if self.suite.data.folds > 1:
                other = fold - 1 if fold else 1
                inputs["independent_teacher"] = self.training.teacher(teacher, budget, other)
            else:
                self.exclude(f"metric {metric.title} against an independent teacher: the suite has one fold")
        return inputs

    def exclude(self, reason: str) -> None:
        """Note what is not measured, once."""
        self.exclusions[reason] = None

    @property
    def n_embedded(self) -> int:
        """Number of embedded images."""
        size = self.suite.data.embedded
        return len(self.data.test.labels) if size == "all" else size

    def _embedded(self) -> Rows:
        return Rows(self.suite.data.embedded, self.training.seed)

    def features(self, network: str, title: str) -> str:
        """Key of a network's activations at the suite's taps, over the embedded test images."""
        architecture = self.training.architectures[network]
        stage = Stage(
            kind="features",
            component=f"architectures/{architecture.name}",
            fields=FeaturesFields(self.data.digest, self.suite.taps, self._embedded()),
            inputs={"network": network},
            title=f"features · {title}",
            runtime=self.training.runtime(network=self.training.network_reference(architecture)),
            work=self.n_embedded,
            unit="images",
        )
        return self.training.add(stage)

    # -- neighbours -----------------------------------------------------------------------------------------------

    def _neighbours(self, features: str, tap: str, kind: str, ref: Component, title: str) -> dict[str, str]:
        """The neighbours that a component requests, as cached inputs."""
        requested = self._requested(kind, ref)
        if requested is None:
            return {}
        metric = requested[1]
        stage = Stage(
            kind="neighbours",
            component="",
            fields=NeighboursFields(tap, metric, self._largest_k[metric]),
            inputs={"features": features},
            title=f"neighbours {metric} · {tap} · {title}",
            work=self.n_embedded**2,
            unit="pairs",
        )
        return {"neighbours": self.training.add(stage)}

    @cached_property
    def _largest_k(self) -> dict[str, int]:
        """The largest k that any reducer or metric of the suite requests, by distance metric."""
        largest: dict[str, int] = {}
        components = [("reducers", r) for r in self.suite.reducers]
        components += [("metrics", m) for m in self.suite.metrics]
        for kind, ref in components:
            if requested := self._requested(kind, ref):
                k, metric = requested
                largest[metric] = max(largest.get(metric, 0), k)
        return largest

    def _requested(self, kind: str, ref: Component) -> tuple[int, str] | None:
        """Number and metric of the neighbours that a component requests among the embedded images, if any."""
        name = f"{kind}/{ref.title}"
        if name not in self._requests:
            n, requested = self.n_embedded, self._ask(kind, ref)
            if requested and not 1 <= requested[0] < n:
                raise SuiteError(
                    f"{requested[0]} neighbours requested among {n} embedded images",
                    where=name,
                    hint="lower its k, or raise data.embedded",
                )
            self._requests[name] = requested
        return self._requests[name]

    def _ask(self, kind: str, ref: Component) -> tuple[int, str] | None:
        component = self.registry.create(kind, ref.name, ref.params)
        method = {"reducers": "fit_transform", "metrics": "__call__"}[kind]
        if not callable(getattr(component, method, None)):
            raise PluginError(
                f"{type(component).__name__} has no method {method}", where=f"{kind}/{ref.title}"
            )
        try:
            return requested_neighbours(component, self.n_embedded)
        except ValueError as error:
            raise SuiteError(str(error), where=f"{kind}/{ref.title}") from error

    # -- embeddings and scores ------------------------------------------------------------------------------------

    def _embedding_seed(self, fold: int) -> int:
        """It depends on the fold alone, so that schemes are paired."""
        return derive_seed(self.training.seed, "embedding", fold) % 2**31

    def _embedding(self, features: str, tap: str, reducer: Component, title: str, fold: int) -> str:
        stage = Stage(
            kind="embedding",
            component=f"reducers/{reducer.name}",
            fields=EmbeddingFields(
                tap, self.training.settings.component("reducers", reducer), self._embedding_seed(fold)
            ),
            inputs={"features": features},
            cached_inputs=self._neighbours(features, tap, "reducers", reducer, title),
            title=f"embedding {reducer.title} · {tap} · {title}",
            runtime=Runtime(reducer=reference(reducer)),
            work=self.n_embedded,
            unit="points",
        )
        return self.training.add(stage)

    def _score(
        self,
        metric: Component,
        spec: MetricSpec,
        inputs: dict[str, str],
        title: str,
        tap: str | None,
        reducer: Component | None,
        fold: int,
    ) -> Score:
        runs_reducers = (
            "reducers" in spec.needs
        )  # the keys of other metrics do not depend on the suite's reducers
        reducers = self.suite.reducers if runs_reducers else ()
        architecture = self.training.architectures[inputs["network"]]
        position = [part for part in (tap, reducer.title if reducer else None) if part]
        cached = {}
        if tap and "neighbours" in spec.needs:
            cached = self._neighbours(inputs["features"], tap, "metrics", metric, title)
        stage = Stage(
            kind="score",
            component=f"metrics/{metric.name}",
            fields=ScoreFields(
                dataset=self.data.digest,
                metric=self.training.settings.component("metrics", metric),
                tap=tap,
                test=self._embedded() if tap else self.training.test(),
                reducers=tuple(self.training.settings.reducers.items()) if runs_reducers else None,
                seed=self._embedding_seed(fold) if runs_reducers else None,
            ),
            inputs=inputs,
            cached_inputs=cached,
            title=f"score {metric.title} · {' · '.join([*position, title])}",
            runtime=self.training.runtime(
                metric=reference(metric),
                network=self.training.network_reference(architecture) if "head" in spec.needs else None,
                reducers=tuple((r.title, reference(r)) for r in reducers),
            ),
        )
        key = self.training.add(stage)
        return Score(key, metric.title, spec.primary, tap, reducer.title if reducer else None)
