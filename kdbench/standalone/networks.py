"""Networks for `score` and `embed`: a module, an architecture by name, or a file of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api.data import Normalization
    from kdbench.registry import Registry

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Network:
    """A network to embed or to score.

    Attributes
    ----------
    model
        An `nn.Module`; the path of a file of weights (safetensors, or what `torch.save` made of a state dict) for
        `architecture`; or the name of an architecture of kdbench ("timm/resnet18.tv_in1k", "wide-resnet"; see
        `kdbench list architectures`).
    architecture
        Name of the architecture that a file of weights is for, or the module itself, into which they are loaded.
    params
        Parameters of the.
    architecture
        {"depth": 10}; for a network of timm with its pretrained weights {"weights": "timm"}.
    taps
        Tap name to module path. By default those of the architecture; of a plain module its direct children that hold
        weights, in the order they are registered, but for the last linear layer.
    normalization
        What uint8 images are normalised by; by default the architecture's own, or what timm says of a module. A plain
        module has none: name it, or hand over images that are normalised already.
    name
        How rows show it.
    """

    model: nn.Module | str | Path
    architecture: str | nn.Module | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    taps: Mapping[str, str] | None = None
    normalization: Normalization | None = None
    name: str = ""

    @classmethod
    def of(cls, given: Network | nn.Module | str | Path) -> Network:
        """`given` as a network: itself, or what it names."""
        return given if isinstance(given, Network) else cls(given)


@dataclass
class Built:
    """A network in evaluation mode on a device.

    `head` is the module path of its last linear layer, None without one; `upsampled`: it enlarges its input.
    """

    module: nn.Module
    taps: Mapping[str, str]
    head: str | None
    normalization: Normalization | None
    name: str
    upsampled: bool = False


def build(
    network: Network, registry: Registry, *, n_classes: int | None, input_shape: Sequence[int], device: str
) -> Built:
    """The network, ready to be looked at.

    Parameters
    ----------
    network
        The network.
    registry
        Registry to look architectures up in.
    n_classes
        Outputs of an architecture; read from the weights where they are a file's, for None 1000.
    input_shape
        (h, w, c) of the images.
    device
        Device to move it to.

    Returns
    -------
    Built
        The network in evaluation mode.

    Raises
    ------
    UsageError
        There is no such architecture, file or module.
    SuiteError
        a parameter is wrong.
    DataError
        Weights are missing, damaged or do not fit.
    """
    from torch import nn

    model, architecture = network.model, network.architecture
    if isinstance(model, nn.Module):
        if architecture is not None or network.params:
            raise UsageError("a module needs no architecture and no parameters", where="Network")
        return _plain(network, model, device)
    path = Path(model)
    if path.suffix in _WEIGHTS or isinstance(model, Path):
        if architecture is None:
            raise UsageError(
                f"{path.name} holds weights, not a network",
                where="Network",
                hint='say which: Network(path, architecture="wide-resnet", params={"depth": 10}), or a module',
            )
        state = read_state(path)
        name = network.name or path.stem
        if isinstance(architecture, nn.Module):
            whole = copy.deepcopy(architecture)
            _load(whole, state, path)
            return _plain(replace(network, architecture=None, name=name), whole, device)
        named = replace(network, model=architecture, architecture=None, name=name)
        return _named(named, registry, n_classes, input_shape, device, state, path)
    if architecture is not None:
        raise UsageError(
            f"{str(model)!r} is no file of weights",
            where="Network",
            hint="its name ends in .safetensors or .pt",
        )
    return _named(network, registry, n_classes, input_shape, device)


def _named(
    network: Network,
    registry: Registry,
    n_classes: int | None,
    input_shape: Sequence[int],
    device: str,
    state: Mapping[str, Any] | None = None,
    path: Path | None = None,
) -> Built:
    import torch

    name = str(network.model)
    architecture = registry.create("architectures", name, network.params)
    h, w, c = (int(x) for x in input_shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # that of a GPU stays as it is
        if state is not None and n_classes is None:
            n_classes = _outputs(architecture.build(2, (h, w, c)), architecture, state, path)
        try:
            module = architecture.build(n_classes or 1000, (h, w, c))
        except (ValueError, RuntimeError) as error:
            raise UsageError(str(error), where=f"architectures/{name}") from error
    if state is not None:
        assert path is not None
        _load(module, state, path)
    taps = network.taps if network.taps is not None else architecture.taps(module)
    return Built(
        _ready(module, device),
        checked_taps(module, taps),
        architecture.head(module),
        network.normalization or architecture.normalization,
        network.name or name,
        upsampled=bool(getattr(architecture, "upsample", None)),
    )


def _outputs(module: nn.Module, architecture: Any, state: Mapping[str, Any], path: Path | None) -> int:
    """How many classes the weights are for."""
    key = f"{architecture.head(module)}.weight"
    if key not in state:
        raise DataError(
            f"the weights have no {key!r}", where=str(path), hint="say how many classes: n_classes=..."
        )
    return int(state[key].shape[0])


def _plain(network: Network, module: nn.Module, device: str) -> Built:
    from torch import nn

    linear = [path for path, m in module.named_modules() if isinstance(m, nn.Linear)]
    head = linear[-1] if linear else None
    taps = network.taps
    if taps is None:
        taps = {
            path: path
            for path, child in module.named_children()
            if path != head and any(True for _ in child.parameters())
        }
    return Built(
        _ready(copy.deepcopy(module), device),  # the caller's own stays where and as it is
        checked_taps(module, taps),
        head,
        network.normalization or _of_timm(module),
        network.name or type(module).__name__,
    )


def _of_timm(module: nn.Module) -> Normalization | None:
    """What timm says a module of its own was trained with."""
    from kdbench.api.data import Normalization

    config = getattr(module, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or "mean" not in config or "std" not in config:
        return None
    return Normalization(tuple(config["mean"]), tuple(config["std"]))


def checked_taps(module: nn.Module, taps: Mapping[str, str]) -> dict[str, str]:
    """The taps, each of which is a module. Raises UsageError if one is not."""
    known = [path for path, _ in module.named_modules() if path]
    for tap, path in taps.items():
        if path not in known:
            raise UsageError(
                f"tap {tap!r}: there is no module {path!r}", where="taps", hint=did_you_mean(path, known)
            )
    return dict(taps)


def _ready(module: nn.Module, device: str) -> nn.Module:
    return module.to(device).eval().requires_grad_(False)


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a file of weights, by name; nothing but tensors is unpickled.

    A state dict may lie inside, as trainers keep it ("state_dict", "model"), and its names may all begin with
    "module." or "_orig_mod.", which wrappers leave.

    Raises DataError if the file is not there, or no file of weights.
    """
    import torch

    if not path.is_file():
        raise DataError("there is no such file of weights", where=str(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"not a file of weights: {first}",
            where=str(path),
            hint="save it with torch.save(model.state_dict(), path)",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(torch.is_tensor(v) for v in content.values())
    ):
        raise DataError(
            "it holds no state dict", where=str(path), hint="torch.save(model.state_dict(), path)"
        )
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): v for name, v in content.items()}
    return dict(content)


def _load(module: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    own = module.state_dict()
    missing = [k for k in own if k not in state]
    strange = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    for what, names in (("lack", missing), ("have", strange), ("have another shape of", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise DataError(
                f"the weights do not fit {type(module).__name__}: they {what} {', '.join(names[:3])}{more}",
                where=str(path),
                hint="is it this architecture, with these parameters and so many classes?",
            )
    module.load_state_dict(dict(state))
