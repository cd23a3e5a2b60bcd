"""The schema of a suite file with a scale merged in; unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Model(BaseModel):
    """Base of all tables: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(Model):
    """A component by name with its parameters: `"pca"`, or `{ name = "ivis-torch", k = 15 }`.

    `label` is its name in tables; by default the name, followed by the parameters in brackets if there are any.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    label: str = ""
    student: dict[str, Any] = Field(
        default_factory=dict,
        description="of a scheme: its overrides of the student table",
    )

    @property
    def title(self) -> str:
        """The label, or else the name with the parameters."""
        if self.label:
            return self.label
        inside = ", ".join(f"{k}={v}" for k, v in sorted(self.params.items()))
        return f"{self.name}[{inside}]" if inside else self.name


def component_table(value: Any) -> Any:
    """Expand the short forms of a component ("pca", or inline parameters) to a table of name, params and label."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" in value and "params" not in value:
        own = ("name", "label", "student")
        rest = {k: v for k, v in value.items() if k not in own}
        return {**{k: v for k, v in value.items() if k in own}, "params": rest}
    return value


ComponentRef = Annotated[Component, BeforeValidator(component_table)]


class Training(Model):
    """Recipe of one training: SGD with step decay (LW section 4.2; A1, A2, A13 where the paper is silent)."""

    epochs: PositiveInt = 200
    steps: PositiveInt | None = Field(
        None,
        description="total number of optimiser steps, spread evenly over the epochs, to compare schemes at equal "
        "steps; by default the scheme determines the steps of an epoch",
    )
    batch_size: PositiveInt = 64
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="adam: momentum is its first beta")
    learning_rate: PositiveFloat = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    weight_decay_on: Literal["all", "kernels"] = Field(
        "all", description="kernels: not biases and batch normalisation"
    )
    schedule: Literal["step", "cosine", "cosine-7-16", "constant"] = "step"
    decay_every: PositiveInt = 60
    decay_factor: PositiveFloat = 0.2
    flip: bool = True
    shift: NonNegativeInt = 0
    shift_fill: Literal["zero", "reflect"] = "zero"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = Field(
        False,
        description="train with torch.compile (with CUDA graphs on a GPU): faster after half a minute of "
        "compilation, so useful for thousands of steps",
    )
    eval_every: NonNegativeInt = Field(
        1, description="number of epochs between measurements of test accuracy; 0: only at the end"
    )

    @model_validator(mode="after")
    def _a_step_an_epoch(self) -> Self:
        if self.steps is not None and self.steps < self.epochs:
            raise ValueError(
                f"{self.steps} steps leave some of {self.epochs} epochs without one: use fewer epochs"
            )
        return self


class Source(Training):
    """A task that a teacher is pretrained on before it is trained on the labelled images."""

    dataset: ComponentRef


class Teacher(Training):
    """Network and recipe of the teacher; `mode` "head" trains the last layer only."""

    architecture: ComponentRef
    mode: Literal["all", "head"] = "all"
    source: Source | None = None


class Student(Training):
    """Network and recipe of the students."""

    architecture: ComponentRef


class Data(Model):
    """Dataset, budgets and folds, and which images are used for what."""

    dataset: ComponentRef
    budgets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    folds: PositiveInt = 5
    train: Literal["all"] | PositiveInt = Field(
        "all", description="training images that folds are drawn from"
    )
    unlabelled: Literal["rest"] | PositiveInt = Field(
        "rest", description="the rest, or this many of it, drawn for each fold"
    )
    validation: NonNegativeInt = Field(0, description="training images held out to select the best epoch")
    test: Literal["all"] | PositiveInt = Field("all", description="test images that accuracy is measured on")
    embedded: Literal["all"] | PositiveInt = Field(
        "all", description="number of test images whose activations are embedded, from a fixed draw"
    )


class Published(Model):
    """A number of the paper, shown next to ours and marked as quoted. Percentages are fractions of 1.

    `student` and `steps` are the network and the optimiser steps it was obtained with, if they differ from the rest
    of the paper; it is shown next to rows of that network only.
    """

    where: str
    budget: int | None = None
    scheme: str | None = None
    tap: str | None = None
    reducer: str | None = None
    metric: str
    value_name: str
    value: float
    spread: float | None = None
    spread_kind: str = ""
    student: str | None = None
    steps: int | None = None

    @property
    def source(self) -> str:
        """Location in the paper, and what the number was obtained with."""
        steps = f"{self.steps:,} steps" if self.steps else None
        return "; ".join(part for part in (self.where, self.student, steps) if part)


class Claim(Model):
    """A sentence of the paper as a comparison of records, paired by fold: `left` minus `right`.

    `left` and `right` select results by scheme, budget, tap and reducer (a value or a list of values; a list of
    budgets or taps makes one comparison each). A key that neither has stands for all values in the suite. `expect`:
    "greater", "less" or "equal" (the interval of the difference is within +-`margin`).
    """

    id: str
    text: str
    where: str
    metric: str
    value_name: str
    left: dict[str, Any]
    right: dict[str, Any]
    expect: Literal["greater", "less", "equal"]
    margin: Annotated[float, Field(ge=0)] = 0.0


class Suite(Model):
    """A suite with its scale merged in."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: str
    summary: str = ""
    reference: str = ""
    scale: str = ""
    data: Data
    teacher: Teacher | None = None
    student: Student
    schemes: tuple[ComponentRef, ...] = ()
    taps: tuple[str, ...] = Field((), description="taps to embed; by default all of the student's")
    reducers: tuple[ComponentRef, ...] = ()
    metrics: tuple[ComponentRef, ...] = ()
    teacher_metrics: tuple[str, ...] = Field(
        ("accuracy",), description="metrics that are also computed for teachers"
    )
    published: tuple[Published, ...] = ()
    published_dataset: str = Field(
        "", description="title of the dataset of the published numbers; rows of other datasets show none"
    )
    claim: tuple[Claim, ...] = ()
    assumptions: dict[str, str] = Field(default_factory=dict)

    def students(self) -> list[Student]:
        """List the distinct students of all schemes, the suite's student first."""
        students = [self.student]
        for scheme in self.schemes:
            student = self.student_of(scheme)
            if student not in students:
                students.append(student)
        return students

    def student_architectures(self) -> list[Component]:
        """List the distinct architectures of all students."""
        architectures = [student.architecture for student in self.students()]
        return [a for i, a in enumerate(architectures) if a not in architectures[:i]]

    def student_of(self, scheme: Component) -> Student:
        """Return the student that a scheme trains: the suite's, with the scheme's overrides.

        Parameters
        ----------
        scheme
            One of the suite's schemes.

        Returns
        -------
        Student
            Network and recipe.

        Raises
        ------
        pydantic.ValidationError
            The overrides don't make a valid student.
        """
        if not scheme.student:
            return self.student
        fields = {name: getattr(self.student, name) for name in self.student.model_fields_set}
        return Student.model_validate(fields | scheme.student)
