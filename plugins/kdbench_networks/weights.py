"""Weights files: read without executing pickled code, and checked tensor by tensor before loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Keys under which training scripts keep a state dict inside a checkpoint.
_CONTAINERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")
_MAX_LISTED = 5
_SAVE_HINT = "save the weights alone: torch.save(model.state_dict(), 'weights.pt'), or as .safetensors"


@dataclass(frozen=True)
class Loaded:
    """Result of `load_weights`.

    Attributes
    ----------
    tensors
        Number of tensors loaded.
    head
        Whether the classifier was loaded.
    """

    tensors: int
    head: bool


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file onto the CPU.

    Formats: `.safetensors`, and `torch.save` files (`.pt`, `.pth`, `.bin`, `.ckpt`, `.tar`), read with
    `weights_only=True`. The state dict may be inside a checkpoint as `state_dict` or `model`. The prefix
    `module.` of data-parallel training is removed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict[str, Tensor]
        Tensors by name.

    Raises
    ------
    DataError
        The file does not exist, is not a weights file, contains pickled code, or holds other objects than
        tensors.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a folder, not a weights file" if file.is_dir() else "there is no such weights file"
        raise DataError(
            what, where=str(file), hint="weights takes a path to a .safetensors, .pt or .pth file"
        )
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        state: Any = _read_safetensors(file)
    elif suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        state = _read_torch(file)
    else:
        raise DataError(
            f"{suffix or 'a file without a suffix'} is not a kind of weights file",
            where=str(file),
            hint="weights takes .safetensors, or .pt, .pth, .bin, .ckpt or .tar as torch.save writes them",
        )
    return _tensors(state, file)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"not a readable safetensors file: {error}", where=str(file), hint=_SAVE_HINT
        ) from error


def _read_torch(file: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            "contains pickled code or objects other than tensors, or is not a weights file; it was not loaded",
            where=str(file),
            hint=_SAVE_HINT,
        ) from error
    # The exception that torch raises depends on where a damaged file ends.
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"damaged, or not a weights file: {reason}", where=str(file), hint=_SAVE_HINT
        ) from error


def _tensors(state: Any, file: Path) -> dict[str, Tensor]:
    from torch import Tensor

    for key in _CONTAINERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping):
        raise DataError(f"holds a {type(state).__name__}, not a state dict", where=str(file), hint=_SAVE_HINT)
    others = [f"{k!r}: {type(v).__name__}" for k, v in state.items() if not isinstance(v, Tensor)]
    if others or not state:
        content = ", ".join(others[:_MAX_LISTED]) or "nothing"
        raise DataError(f"not a state dict of tensors: it holds {content}", where=str(file), hint=_SAVE_HINT)
    names = [str(name) for name in state]
    prefix = "module." if all(name.startswith("module.") for name in names) else ""
    return {str(name).removeprefix(prefix): tensor for name, tensor in state.items()}


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    head: str,
    where: str,
    ignored: Sequence[str] = (),
) -> Loaded:
    """Load `state` into `model` in place. Every tensor must be present and fit, except the classifier.

    Parameters
    ----------
    model
        The network, with its number of classes.
    state
        Tensors by the model's names.
    head
        Module path of the classifier. If the file has no classifier or one for another number of classes, the
        model's initial one stays.
    where
        The file, for the error message.
    ignored
        Prefixes of names in `state` to skip.

    Returns
    -------
    Loaded
        What was loaded.

    Raises
    ------
    DataError
        Names are missing or unknown, shapes or types differ, or values are not finite; the message lists the
        first few.
    """
    import torch

    wanted = model.state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(ignored))}
    head_names = [f"{head}.{leaf}" for leaf in ("weight", "bias") if f"{head}.{leaf}" in wanted]
    keeps_head = _head_fits(wanted, state, head_names)
    if not keeps_head:
        state = {name: tensor for name, tensor in state.items() if name not in head_names}
    optional = set() if keeps_head else set(head_names)
    # Files older than PyTorch 0.4.1 lack the counters of batch normalisation, which are not used here.
    missing = [
        n for n in wanted if n not in state and n not in optional and not n.endswith("num_batches_tracked")
    ]
    unknown = [n for n in state if n not in wanted]
    shapes = [
        f"{n} is {_shape(state[n])}, the network's is {_shape(wanted[n])}"
        for n in wanted
        if n in state and state[n].shape != wanted[n].shape
    ]
    kinds = [
        f"{n} holds {state[n].dtype}, the network's holds {wanted[n].dtype}"
        for n in wanted
        if n in state and state[n].is_floating_point() != wanted[n].is_floating_point()
    ]
    problems = [
        f"{len(names)} {title}: {'; '.join(names[:_MAX_LISTED])}{'; ...' if len(names) > _MAX_LISTED else ''}"
        for title, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
            ("of another type", kinds),
        )
        if names
    ]
    if problems:
        raise DataError(
            f"the weights do not fit the network ({len(wanted)} tensors): " + " | ".join(problems),
            where=where,
            hint="use a file of the same architecture; only the number of classes may differ",
        )
    bad = [n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise DataError(
            f"{len(bad)} tensors hold values that are not finite: {', '.join(bad[:_MAX_LISTED])}",
            where=where,
            hint="the training that wrote the file diverged; use another checkpoint",
        )
    complete = model.state_dict()  # includes module versions, which plain files do not have
    complete.update(state)
    model.load_state_dict(complete)
    return Loaded(len(state), keeps_head)


def _head_fits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], head_names: Sequence[str]) -> bool:
    """Whether to load the file's classifier: False if it is absent or differs only in the number of classes."""
    if not any(name in state for name in head_names):
        return False
    for name in head_names:
        if name not in state or state[name].ndim != wanted[name].ndim:
            return True  # an incomplete or different classifier is a mismatch to report
        if state[name].shape[1:] != wanted[name].shape[1:]:
            return True
    return all(state[name].shape == wanted[name].shape for name in head_names)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
