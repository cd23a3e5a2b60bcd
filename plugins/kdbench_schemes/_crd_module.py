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
    """What is remembered of every image's embeddings, and the embeddings.

    All that changes is in buffers. An image gets the next free slot when it is first seen, so that the memory
    holds the images of the training and no others of the split.

    Args:
        images: slots.
        rows: of the training split.
        by_class: images whose label is known to be the same are no negatives.
        scaled: divide similarities by a constant that the first call fixes.
    """

    slot_of: Tensor  #: int64 (rows,), UNKNOWN where an image was not seen yet
    label_of: Tensor  #: int64 (images,), UNKNOWN where an image has none
    filled: Tensor  #: int64 (), slots in use
    student: Tensor  #: float32 (images, size), the student's embeddings
    teacher: Tensor  #: float32 (images, size)
    log_scales: (
        Tensor  #: float32 (2,), of the student's and the teacher's similarities; NaN before the first call
    )

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
        """The loss of both networks; the memories move.

        Args:
            student, teacher: (b, ...), activations.
            index: int64 (b,), rows of the training split.
            labels: int64 (at most b,), of the first images.
            n_negatives: drawn for each image.
        """
        own = self.slots(moved(index, self.slot_of.device))
        self.label_of[own[: len(labels)]] = labels
        counts = self.draw(own, n_negatives)
        with torch.autocast(student.device.type, enabled=False):
            v_s = F.normalize(self.embed_student(student.flatten(1).float()))
            v_t = F.normalize(self.embed_teacher(teacher.flatten(1).float()))
            to_student = v_t @ self.student.T / self.temperature
            to_teacher = v_s @ self.teacher.T / self.temperature
            if not self._fixed:  # looked up once, for to look waits for the device
                if bool(self.log_scales.isnan().any()):
                    scales = [_log_scale(s, own, counts) for s in (to_teacher, to_student)]
                    self.log_scales.copy_(torch.stack(scales))
                self._fixed = True
            s_scale, t_scale = self.log_scales.unbind()
            loss = contrastive_loss(to_teacher, own, counts, s_scale.clone())
            loss = loss + contrastive_loss(to_student, own, counts, t_scale.clone())
        # new tensors: the old ones are kept for the backward pass
        self.student = self._moved(self.student, own, v_s.detach())
        self.teacher = self._moved(self.teacher, own, v_t.detach())
        return loss

    def slots(self, index: Tensor) -> Tensor:
        """int64 (b,), where images are remembered; those that are new get slots."""
        # by whole columns: to look which are new would wait for the device in every step
        shown = torch.zeros_like(self.slot_of, dtype=torch.bool).index_fill_(0, index, True)
        new = shown & (self.slot_of == UNKNOWN)
        self.slot_of.copy_(torch.where(new, self.filled + new.cumsum(0) - 1, self.slot_of))
        self.filled += new.sum()
        if not index.is_cuda and int(self.filled) > len(self.student):  # a GPU fails at the slot itself
            raise RuntimeError(f"a memory of {len(self.student)} images was shown {int(self.filled)}")
        return self.slot_of[index]

    def draw(self, own: Tensor, n: int) -> Tensor:
        """float32 (b, images), how often each image is drawn as a negative in `n` even draws with replacement."""
        images = len(self.student)
        # sorted so that those that are no negatives of an image lie beside each other: one draws beyond them
        key = torch.arange(images, device=own.device)
        if self.by_class:
            key = torch.where(self.label_of == UNKNOWN, images + key, self.label_of)
        ordered, order = key.sort(stable=True)
        mine = key[own]
        start = torch.searchsorted(ordered, mine)
        end = torch.searchsorted(ordered, mine, right=True)
        draws = torch.randint(2**62, (len(own), n), device=own.device) % (images - end + start)[:, None]
        drawn = order[(end[:, None] + draws) % images]
        return torch.zeros(len(own), images, device=own.device).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float32)
        )

    def _moved(self, memory: Tensor, own: Tensor, seen: Tensor) -> Tensor:
        """The memory with the embeddings (b, size) of the images at `own` mixed in."""
        # an image that is twice in a batch is remembered as it came last, whatever the order of writing
        places = torch.arange(len(own), device=own.device)
        last = torch.where(own[:, None] == own, places, -1).amax(1)
        mixed = self.momentum * memory[own] + (1 - self.momentum) * seen[last]
        return memory.index_copy(0, own, F.normalize(mixed))


@torch.no_grad()
def _log_scale(similarities: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    """The logarithm of images * the mean of exp(similarity) over each image's own and its negatives."""
    counted = counts.scatter_add(1, own[:, None], torch.ones_like(own, dtype=counts.dtype)[:, None])
    mean = (similarities + counted.log()).flatten().logsumexp(0) - counted.sum().log()
    return mean + math.log(similarities.shape[1])
