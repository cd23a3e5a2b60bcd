"""The modules of `crd`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.api import moved
from kdbench_schemes._adapters import Paired
from kdbench_schemes._pairs import Pair
from kdbench_schemes.crd import contrastive_loss

UNKNOWN = -1


class Memory(Paired):
    """The embeddings of both networks, and the memory banks of every image's embeddings.

    All state is in buffers. An image gets the next free slot when it is first seen, so that the banks contain only
    the images of the training, not the full split.

    Parameters
    ----------
    pair
        The pair of layers.
    images
        Number of slots.
    rows
        Number of rows of the training split.
    size
        Dimension of the embeddings.
    temperature
        Temperature of the similarities.
    momentum
        Momentum of the memory banks.
    by_class
        Exclude images with the same known label from the negatives.
    scaled
        Divide exponentials of similarities by a constant estimated in the first call.

    Attributes
    ----------
    slot_of
        Slot of each row of the training split, int64 (rows,); UNKNOWN if not seen yet.
    label_of
        Label of each slot, int64 (images,); UNKNOWN if unlabelled.
    filled
        Number of slots in use, int64 ().
    student
        The student's embeddings, float32 (images, size).
    teacher
        The teacher's embeddings, float32 (images, size).
    log_scales
        Log-scales of the student's and the teacher's similarities, float32 (2,); NaN before the first call.
    """

    slot_of: Tensor
    label_of: Tensor
    filled: Tensor
    student: Tensor
    teacher: Tensor
    log_scales: Tensor

    def __init__(
        self,
        pair: Pair,
        *,
        images: int,
        rows: int,
        size: int,
        temperature: float,
        momentum: float,
        by_class: bool,
        scaled: bool,
    ) -> None:
        super().__init__([pair])
        self.temperature, self.momentum, self.by_class = temperature, momentum, by_class
        self._fixed = False
        self.embed_student = nn.Linear(math.prod(pair.student_shape), size)
        self.embed_teacher = nn.Linear(math.prod(pair.teacher_shape), size)
        bound = math.sqrt(3 / size)  # of norm 1 on average
        self.register_buffer("student", torch.empty(images, size).uniform_(-bound, bound))
        self.register_buffer("teacher", torch.empty(images, size).uniform_(-bound, bound))
        self.register_buffer("slot_of", torch.full((rows,), UNKNOWN))
        self.register_buffer("label_of", torch.full((images,), UNKNOWN))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_scales", torch.full((2,), math.nan if scaled else 0.0))

    def forward(
        self, student: Tensor, teacher: Tensor, index: Tensor, labels: Tensor, n_negatives: int
    ) -> Tensor:
        """Compute the loss of both networks and update the memory banks.

        Parameters
        ----------
        student
            The student's activations (b, ...).
        teacher
            The teacher's activations (b, ...).
        index
            Rows of the training split, int64 (b,).
        labels
            Labels of the first images of the batch, int64, at most b.
        n_negatives
            Number of negatives per image.

        Returns
        -------
        Tensor
            A scalar > 0.
        """
        slots = self.find_slots(moved(index, self.slot_of.device))
        self.label_of[slots[: len(labels)]] = labels
        counts = self.draw(slots, n_negatives)
        with torch.autocast(student.device.type, enabled=False):
            v_s = F.normalize(self.embed_student(student.flatten(1).float()))
            v_t = F.normalize(self.embed_teacher(teacher.flatten(1).float()))
            to_student = v_t @ self.student.T / self.temperature
            to_teacher = v_s @ self.teacher.T / self.temperature
            if not self._fixed:  # read once, because reading waits for the device
                if bool(self.log_scales.isnan().any()):
                    scales = [_log_scale(s, slots, counts) for s in (to_teacher, to_student)]
                    self.log_scales.copy_(torch.stack(scales))
                self._fixed = True
            s_scale, t_scale = self.log_scales.unbind()
            loss = contrastive_loss(to_teacher, slots, counts, s_scale.clone())
            loss = loss + contrastive_loss(to_student, slots, counts, t_scale.clone())
        # new tensors, because the backward pass needs the old ones
        self.student = self._updated(self.student, slots, v_s.detach())
        self.teacher = self._updated(self.teacher, slots, v_t.detach())
        return loss

    def find_slots(self, index: Tensor) -> Tensor:
        """Slots of the images at rows `index`, int64 (b,); new images get free slots."""
        # dense operations, because selecting the new images would wait for the device in every step
        shown = torch.zeros_like(self.slot_of, dtype=torch.bool).index_fill_(0, index, True)
        new = shown & (self.slot_of == UNKNOWN)
        self.slot_of.copy_(torch.where(new, self.filled + new.cumsum(0) - 1, self.slot_of))
        self.filled += new.sum()
        if not index.is_cuda and int(self.filled) > len(self.student):  # on a GPU, indexing the slot fails
            raise RuntimeError(
                f"the memory bank has {len(self.student)} slots but got {int(self.filled)} images"
            )
        return self.slot_of[index]

    def draw(self, slots: Tensor, n: int) -> Tensor:
        """Draw `n` negatives per image uniformly with replacement; counts float32 (b, images)."""
        images = len(self.student)
        # sorted by label, so that the excluded images of each row are contiguous and draws can skip them
        key = torch.arange(images, device=slots.device)
        if self.by_class:
            key = torch.where(self.label_of == UNKNOWN, images + key, self.label_of)
        ordered, order = key.sort(stable=True)
        label = key[slots]
        start = torch.searchsorted(ordered, label)
        end = torch.searchsorted(ordered, label, right=True)
        draws = torch.randint(2**62, (len(slots), n), device=slots.device) % (images - end + start)[:, None]
        drawn = order[(end[:, None] + draws) % images]
        return torch.zeros(len(slots), images, device=slots.device).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float32)
        )

    def _updated(self, memory: Tensor, slots: Tensor, embeddings: Tensor) -> Tensor:
        """The memory bank (images, size) with the moving averages at `slots` updated by `embeddings` (b, size)."""
        # of an image that occurs twice in a batch, the last embedding counts, in any order of writing
        positions = torch.arange(len(slots), device=slots.device)
        last = torch.where(slots[:, None] == slots, positions, -1).amax(1)
        mixed = self.momentum * memory[slots] + (1 - self.momentum) * embeddings[last]
        return memory.index_copy(0, slots, F.normalize(mixed))


@torch.no_grad()
def _log_scale(similarities: Tensor, slots: Tensor, counts: Tensor) -> Tensor:
    """Logarithm of the number of images times the mean of exp(similarity) over positives and negatives."""
    counted = counts.scatter_add(1, slots[:, None], torch.ones_like(slots, dtype=counts.dtype)[:, None])
    mean = (similarities + counted.log()).flatten().logsumexp(0) - counted.sum().log()
    return mean + math.log(similarities.shape[1])
