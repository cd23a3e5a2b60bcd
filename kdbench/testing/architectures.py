"""Conformance checks of architectures."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from kdbench.api.data import Normalization
from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.architectures import N_CLASSES, ArchitectureFixture
from kdbench.testing.import_guard import global_seeds, left_alone
from kdbench.testing.outcome import NotApplicable, Violation

#: Largest difference that rounding may make, as a share of the largest value.
_ROUNDING = 1e-3


@check("architectures", "return float logits (b, n_classes) for any b, a single image too")
def forward(fixture: ArchitectureFixture) -> None:
    """In evaluation mode one image and two give finite logits (b, n_classes)."""
    for b in (1, 2):
        with torch.no_grad():
            logits = fixture.model(fixture.images(b))
        if not isinstance(logits, torch.Tensor) or logits.shape != (b, N_CLASSES):
            shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
            raise Violation(f"the output for {b} images and {N_CLASSES} classes is {shape}")
        if not logits.is_floating_point() or not bool(logits.isfinite().all()):
            raise Violation(f"logits for {b} images are {logits.dtype}, or not finite")


@check("architectures", "normalise by running statistics in evaluation mode, not by those of the batch")
def images_do_not_see_each_other(fixture: ArchitectureFixture) -> None:
    """In evaluation mode an image has the same logits alone and in a batch."""
    images = fixture.images(2)
    with torch.no_grad():
        alone, together = fixture.model(images[:1]), fixture.model(images)[:1]
    _same("logits of an image alone", alone, together)


@check(
    "architectures", "list taps from input to output, each the path of a module that forward calls, by name"
)
def taps_are_ordered(fixture: ArchitectureFixture) -> None:
    """Taps are modules whose outputs have a row an image, listed in the order of the forward pass."""
    taps = fixture.taps(fixture.model)
    if not taps:
        raise Violation("there is no tap")
    _, made = fixture.at_taps(fixture.model, fixture.images(2))
    if absent := [tap for tap in taps if tap not in made]:
        raise Violation(f"tap {absent[0]}: the forward pass does not call {taps[absent[0]]!r}")
    if list(made) != list(taps):
        raise Violation(f"taps are {', '.join(taps)}; the forward pass reaches them as {', '.join(made)}")
    for tap, output in made.items():
        if output.ndim < 2 or len(output) != 2 or not output[0].numel():
            raise Violation(f"tap {tap}: shape {tuple(output.shape)} for two images")
        if not bool(output.isfinite().all()):
            raise Violation(f"tap {tap}: activations are not finite")


@check("architectures", "let taps depend on the parameters and the network's structure alone")
def taps_are_stable(fixture: ArchitectureFixture) -> None:
    """A second network has the same taps, and a forward pass does not change them."""
    other = fixture.build(1)
    if fixture.taps(other) != fixture.taps(fixture.model):
        raise Violation("a second network of the same parameters has other taps")
    before = fixture.taps(other)
    with torch.no_grad():
        other.eval()(fixture.images(1))
    if fixture.taps(other) != before:
        raise Violation("a forward pass changes the taps")


@check("architectures", "return from head the path of the last nn.Linear, with n_classes outputs")
def head(fixture: ArchitectureFixture) -> None:
    """`head` is the path of a linear layer with an output a class, whose output is the logits."""
    path = fixture.architecture.head(fixture.model)
    try:
        layer = fixture.model.get_submodule(path)
    except AttributeError as error:
        raise Violation(f"there is no module {path!r}") from error
    if not isinstance(layer, nn.Linear):
        raise Violation(f"{path!r} is {type(layer).__name__}, no nn.Linear")
    if layer.out_features != N_CLASSES:
        raise Violation(f"{path!r} has {layer.out_features} outputs for {N_CLASSES} classes")
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output))
    try:
        with torch.no_grad():
            logits = fixture.model(fixture.images(1))
    finally:
        handle.remove()
    if not seen or not torch.allclose(seen[-1].reshape(-1), logits.reshape(-1)):
        raise Violation(f"the output of {path!r} is not the network's")


@check(
    "architectures", "return None, or a Normalization with a mean and a positive deviation for every channel"
)
def normalization(fixture: ArchitectureFixture) -> None:
    """`normalization` is None, for the dataset's statistics, or has a mean and a deviation > 0 a channel."""
    found = fixture.architecture.normalization
    if found is None:
        return
    if not isinstance(found, Normalization):
        raise Violation(f"it is {type(found).__name__}; a kdbench.api.Normalization or None is expected")
    if len(found.mean) != len(found.std) or len(found.std) not in (1, 3) or min(found.std) <= 0:
        raise Violation(f"mean {found.mean} and std {found.std}: one or three of each, deviations above 0")
    if not np.isfinite([*found.mean, *found.std]).all():
        raise Violation(f"mean {found.mean} and std {found.std} are not finite")


@check("architectures", "draw initial weights from torch's generator alone, which the engine seeds")
def same_seed_same_weights(fixture: ArchitectureFixture) -> None:
    """Two networks of one seed have the same weights, whatever NumPy's and Python's generators are set to."""
    states = []
    for elsewhere in (1, 2):
        with global_seeds(elsewhere):
            states.append(fixture.build(5).state_dict())
    if list(states[0]) != list(states[1]):
        raise Violation("two networks of one seed have other tensors")
    for name, tensor in states[0].items():
        if not torch.equal(tensor, states[1][name]):
            raise Violation(f"{name} differs between two networks of one seed")


@check("architectures", "keep everything that the outputs depend on as parameters or buffers of the module")
def state_dict_is_all_of_it(fixture: ArchitectureFixture) -> None:
    """A network with the weights of another one has its outputs: that is what a checkpoint brings back."""
    other = fixture.build(1).eval()
    other.load_state_dict(fixture.model.state_dict())
    images = fixture.images(2)
    with torch.no_grad():
        _same("logits of a network with another one's weights", other(images), fixture.model(images))


@check(
    "architectures", "set dtypes, threads, gradient modes and random states nowhere but on the network itself"
)
def leaves_global_state_alone(fixture: ArchitectureFixture) -> None:
    """Building and running a network changes none of PyTorch's settings, moves no global random state and prints
    nothing. Weights are drawn from torch's generator, which the engine seeds before and puts back afterwards."""

    def settings() -> dict[str, object]:
        return {
            "default dtype": torch.get_default_dtype(),
            "threads": torch.get_num_threads(),
            "gradient mode": torch.is_grad_enabled(),
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn benchmark": torch.backends.cudnn.benchmark,
        }

    before = settings()
    with left_alone("while it was built"):
        model = fixture.build(3).eval()
        with torch.no_grad():
            model(fixture.images(1))
    if changed := [name for name, value in settings().items() if value != before[name]]:
        raise Violation(f"torch's {changed[0]} is {settings()[changed[0]]}, and was {before[changed[0]]}")


@check("architectures", "use every parameter in forward, or freeze it with requires_grad_(False)")
def every_parameter_is_reached(fixture: ArchitectureFixture) -> None:
    """In training mode a loss has a finite gradient with respect to every parameter that asks for one."""
    model = fixture.build(0).train()
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not wanted:
        raise Violation("no parameter can be trained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = nn.functional.cross_entropy(model(fixture.images(4)), torch.arange(4))
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    for name, gradient in zip(wanted, found, strict=True):
        if gradient is None:
            raise Violation(f"no gradient reaches {name}")
        if not bool(gradient.isfinite().all()):
            raise Violation(f"the gradient of {name} is not finite")


@check("architectures", "return from for_inference a frozen copy with the same taps; or leave the method out")
def for_inference_agrees(fixture: ArchitectureFixture) -> None:
    """The copy that `for_inference` makes has the same logits and activations at the taps, within rounding; nothing
    in it asks for a gradient, and the network that it is made from stays as it is."""
    make = getattr(fixture.architecture, "for_inference", None)
    if make is None:
        raise NotApplicable("it has no for_inference")
    model = fixture.build(0)
    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
    ):  # statistics that are not 0 and 1 tell a folding apart
        torch.manual_seed(0)
        model.train()(fixture.images(8))
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copy = make(model)
    if any(p.requires_grad for p in copy.parameters()):
        raise Violation("a parameter of the copy asks for a gradient")
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, before[name]):
            raise Violation(f"making the copy changed {name} of the network")
    images = fixture.images(2)
    logits, made = fixture.at_taps(model, images)
    fast, made_fast = fixture.at_taps(copy, images)
    _same("logits of the copy", fast, logits)
    for tap, output in made.items():
        if tap not in made_fast:
            raise Violation(f"the copy's forward pass does not reach tap {tap}")
        _same(f"the copy's activations at tap {tap}", made_fast[tap], output)


def _same(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises Violation where they differ by more than rounding."""
    if found.shape != expected.shape:
        raise Violation(f"{what} have shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    away = float((found - expected).abs().max())
    if not away <= _ROUNDING * max(float(expected.abs().max()), 1e-6):
        raise Violation(
            f"{what} differ by up to {away:.3g}, of values up to {float(expected.abs().max()):.3g}"
        )


CHECKS: tuple[Check, ...] = (
    forward,
    images_do_not_see_each_other,
    taps_are_ordered,
    taps_are_stable,
    head,
    normalization,
    same_seed_same_weights,
    state_dict_is_all_of_it,
    leaves_global_state_alone,
    every_parameter_is_reached,
    for_inference_agrees,
)
