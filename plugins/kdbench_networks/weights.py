"""Weights files: read without running code in them, checked name by name before they are loaded."""

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
_SHOWN = 5
_SAVE_HINT = "save the weights alone: torch.save(model.state_dict(), 'weights.pt'), or as .safetensors"


@dataclass(frozen=True)
class Loaded:
    """What `load_weights` did: how many tensors it loaded, and whether the classifier was among them."""

    tensors: int
    head: bool


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name, on the CPU.

    `.safetensors`, or what `torch.save` wrote (`.pt`, `.pth`, `.bin`, `.ckpt`, `.tar`), read with
    `weights_only=True`; a state dict may lie inside a checkpoint as `state_dict` or `model`. A prefix
    `module.` that data-parallel training leaves is taken off.

    Raises:
        DataError: no such file, not a weights file, a pickle that would run code, or nothing but tensors
            expected and something else found.
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
            "holds pickled code or objects besides tensors, or is no weights file at all; it was not loaded",
            where=str(file),
            hint=_SAVE_HINT,
        ) from error
    # What torch raises depends on where in a damaged file the reader stops.
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
        found = ", ".join(others[:_SHOWN]) or "nothing"
        raise DataError(f"not a state dict of tensors: it holds {found}", where=str(file), hint=_SAVE_HINT)
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
    """Load `state` into `model`, in place. Everything must be there and fit, except the classifier.

    Args:
        model: the network, with its own class count.
        state: tensors by the model's own names.
        head: module path of the classifier. When the file's has another number of classes, or the file has
            none, it is left as it was drawn.
        where: the file, for the error.
        ignored: prefixes of names in `state` that the network leaves out on purpose.

    Raises:
        DataError: names missing or unknown, shapes or kinds of numbers that differ, values that are not
            finite; the first few are listed.
    """
    import torch

    wanted = model.state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(ignored))}
    own = [f"{head}.{leaf}" for leaf in ("weight", "bias") if f"{head}.{leaf}" in wanted]
    keeps_head = _head_fits(wanted, state, own)
    if not keeps_head:
        state = {name: tensor for name, tensor in state.items() if name not in own}
    optional = set() if keeps_head else set(own)
    # Files older than PyTorch 0.4.1 lack the counters of batch normalisation; nothing here reads them.
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
        f"{len(found)} {title}: {'; '.join(found[:_SHOWN])}{'; ...' if len(found) > _SHOWN else ''}"
        for title, found in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
            ("of another type", kinds),
        )
        if found
    ]
    if problems:
        raise DataError(
            f"the weights do not fit the network ({len(wanted)} tensors): " + " | ".join(problems),
            where=where,
            hint="give a file of this very architecture; only the number of classes may differ",
        )
    bad = [n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise DataError(
            f"{len(bad)} tensors hold values that are not finite: {', '.join(bad[:_SHOWN])}",
            where=where,
            hint="the training that wrote the file diverged; give another checkpoint",
        )
    whole = model.state_dict()  # with its own versions of modules, which plain files do not carry
    whole.update(state)
    model.load_state_dict(whole)
    return Loaded(len(state), keeps_head)


def _head_fits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], own: Sequence[str]) -> bool:
    """Whether the file's classifier is to be loaded: False if it is absent or differs in its class count
    alone."""
    if not any(name in state for name in own):
        return False
    for name in own:
        if name not in state or state[name].ndim != wanted[name].ndim:
            return True  # half a classifier, or a strange one: a mismatch that must be reported
        if state[name].shape[1:] != wanted[name].shape[1:]:
            return True
    return all(state[name].shape == wanted[name].shape for name in own)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
