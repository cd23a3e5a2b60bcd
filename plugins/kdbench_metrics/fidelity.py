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

    Stanton et al. (NeurIPS 2021), equations 2 and 3. Two accurate networks agree even without distillation, so
    fidelity is the agreement beyond that with an independent teacher: one trained by the same recipe on another
    fold (if only the heads of the teachers are trained, both share a backbone). An undistilled student is
    measured against the same teachers.

    Values:

    - ``agreement``: fraction of images where both predict the same class (ties: the first class), 0..1;
    - ``kl``: mean of KL(teacher || student) at temperature 1, in nats, >= 0;
    - ``agreement_independent``, ``kl_independent``: the same against the independent teacher;
    - ``agreement_gain``: ``agreement`` minus ``agreement_independent``, -1..1: the fidelity.

    The last three are absent in a suite with one fold, which has no independent teacher.
    """

    invariances = ("order of images", "logits plus a constant")

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            Logits are not finite, or do not match the teacher's in images or classes.
        """
        student, labels = outputs(view)
        agreement, kl = agreement_and_kl(outputs(view.teacher)[0], student)
        values = {"agreement": agreement, "kl": kl}
        control = view.independent_teacher
        if control is not None:
            agreement_control, kl_control = agreement_and_kl(outputs(control)[0], student)
            values |= {
                "agreement_independent": agreement_control,
                "kl_independent": kl_control,
                "agreement_gain": agreement - agreement_control,
            }
        return MetricResult(values, setting=f"n={len(labels)}")


def agreement_and_kl(teacher: np.ndarray, student: np.ndarray) -> tuple[float, float]:
    """Top-1 agreement, and mean KL(teacher || student) in nats, of float64 logits (n, n_classes) of each."""
    if teacher.shape != student.shape:
        raise ValueError(f"the teacher's logits are {teacher.shape} and the student's {student.shape}")
    agreement = float(np.mean(teacher.argmax(axis=1) == student.argmax(axis=1)))
    log_t, log_s = log_softmax(teacher), log_softmax(student)
    kl = float(np.mean((np.exp(log_t) * (log_t - log_s)).sum(axis=1)))
    return agreement, max(kl, 0.0)  # rounding may give a negative value for equal outputs
