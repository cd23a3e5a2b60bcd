"""How closely a student follows its teacher (Stanton et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._outputs import log_softmax, outputs

if TYPE_CHECKING:
    from kdbench.api import View


class Fidelity:
    """Agreement of a student with the suite's teacher on the test set, and with another teacher as the control.

    Stanton et al. (NeurIPS 2021), equations 2 and 3: two networks that are both accurate agree anyway, so a
    student is faithful to its teacher only by what it agrees more with it than with a teacher that it never saw:
    the one that was trained by the same recipe on another fold (a teacher of which only the head is trained
    shares its backbone with that one). An undistilled student is measured against the same teacher.

    Values:

    - ``agreement``: share of images where both have the same largest logit (the first of equal ones), 0..1;
    - ``kl``: mean of KL(teacher || student) at temperature 1, in nats, >= 0;
    - ``agreement_independent``, ``kl_independent``: the same against the independent teacher;
    - ``agreement_gain``: ``agreement`` less ``agreement_independent``, -1..1: the part that is fidelity.

    The last three are left out of a suite with one fold, which has no independent teacher.
    """

    invariances = ("order of images", "logits plus a constant")

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: logits are not finite, or of other images or classes than the teacher's.
        """
        student, labels = outputs(view)
        agreement, kl = agreement_and_kl(outputs(view.teacher)[0], student)
        values = {"agreement": agreement, "kl": kl}
        control = view.independent_teacher
        if control is not None:
            other, far = agreement_and_kl(outputs(control)[0], student)
            values |= {
                "agreement_independent": other,
                "kl_independent": far,
                "agreement_gain": agreement - other,
            }
        return MetricResult(values, setting=f"n={len(labels)}")


def agreement_and_kl(teacher: np.ndarray, student: np.ndarray) -> tuple[float, float]:
    """Top-1 agreement, and mean KL(teacher || student) in nats, of float64 logits (n, n_classes) of each."""
    if teacher.shape != student.shape:
        raise ValueError(f"the teacher's logits are {teacher.shape} and the student's {student.shape}")
    agreement = float(np.mean(teacher.argmax(axis=1) == student.argmax(axis=1)))
    log_t, log_s = log_softmax(teacher), log_softmax(student)
    kl = float(np.mean((np.exp(log_t) * (log_t - log_s)).sum(axis=1)))
    return agreement, max(kl, 0.0)  # equal outputs may round to just below
