"""Each check of metrics, datasets, architectures and executors finds those that it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.registry import Registry
from kdbench.testing import NotApplicable, Target, Violation, checks_for, run_checks

FILE = Path(__file__).with_name("kdb_broken_others.py")


@pytest.fixture(scope="module")
def broken():
    return Registry.discover(files=[FILE])


def the_check(kind, name):
    return next(c for c in checks_for(kind) if c.name == name)


@pytest.mark.parametrize(
    ("kind", "name"), [("metrics", "accuracy"), ("datasets", "patches"), ("architectures", "small")]
)
def test_a_sound_component_is_found_sound(broken, kind, name):
    (found,) = run_checks(Target(kind, f"broken-{name}", broken)).values()
    assert not [f for f in found if f.status not in ("passed", "not applicable")]
    assert len(found) == len(checks_for(kind))


@pytest.mark.parametrize(
    ("kind", "name", "check", "sentence"),
    [
        ("metrics", "anarray", "values-are-named-and-finite", "value is ndarray, no number"),
        ("metrics", "keepsobjects", "arrays-figures-setting", r"arrays\['names'\] is object"),
        ("metrics", "primary", "primary-is-there", "primary is 'r'; of a good network it returns value"),
        ("metrics", "percent", "primary-is-within-bounds", r"value is .*, outside 0.0 to 1.0"),
        ("metrics", "errors", "direction-on-the-controls", "higher is better, and a good network has 0.08"),
        ("metrics", "dependsonscale", "declared-invariances", "logits .* a constant changes value from"),
        (
            "metrics",
            "invarianttowhat",
            "declared-invariances",
            "invariances has 'everything'; known: order of",
        ),
        ("metrics", "notanumber", "constant-input", "constant input: value is nan"),
        ("metrics", "assumes", "constant-input", "images of one class: it ends in AssertionError"),
        ("metrics", "takesnan", "refuses-nan", "with NaN in all that it can read, value is"),
        ("metrics", "sorts", "view-unchanged", "it changed the view's labels"),
        ("metrics", "subsamples", "same-view-same-result", "value differs between two calls"),
        ("metrics", "subsamples", "leaves-global-state-alone", "random state of NumPy while it measured"),
        (
            "metrics",
            "readsfeatures",
            "reads-only-what-it-needs",
            'reads features, and its spec does not need "feat',
        ),
        ("metrics", "wantswithoutneed", "neighbours-wanted", 'its spec does not need "neighbours"'),
        ("datasets", "floats", "images", "train: images are float32 of shape"),
        ("datasets", "channelsfirst", "images", r"train: images have 8 channels \(the last axis\)"),
        ("datasets", "labelsfromone", "labels", "train: labels go from 1 to 4; there are 4 classes"),
        ("datasets", "lacksaclass", "labels", "test: no image of class 'c'"),
        ("datasets", "onenametwice", "class-names", "two classes are called 'b'"),
        ("datasets", "superclasstoomany", "superclasses", r"superclass_of has \[0, 1\], and there are 3"),
        ("datasets", "emptymasks", "masks", "train: 20 masks have no foreground"),
        ("datasets", "othereverytime", "digest-is-stable", "two loads have the digests"),
        (
            "datasets",
            "othereverytime",
            "leaves-global-state-alone",
            "random state of NumPy while it was loaded",
        ),
        ("datasets", "writable", "read-only", "train: images can be written to"),
        ("datasets", "notfound", "nothing-found", "the error has no hint: not found"),
        ("datasets", "embedded", "nothing-found", "says embedded, and it does not load without files"),
        ("datasets", "embedded", "images", "says embedded, and loading ends in"),
        ("architectures", "oneclassmore", "forward", r"for 1 images and 7 classes is \(1, 8\)"),
        ("architectures", "squeezesabatch", "forward", r"for 1 images and 7 classes is \(7,\)"),
        (
            "architectures",
            "alwaystraining",
            "images-do-not-see-each-other",
            "logits of an image alone differ",
        ),
        (
            "architectures",
            "tapsbackwards",
            "taps-are-ordered",
            "taps are B, A; the forward pass reaches them as A, B",
        ),
        ("architectures", "tapofnothing", "taps-are-ordered", "tap A: there is no module '9'"),
        ("architectures", "tapscount", "taps-are-stable", "other taps"),
        ("architectures", "headelsewhere", "head", "'1' has 8 outputs for 7 classes"),
        ("architectures", "nodeviation", "normalization", "deviations above 0"),
        ("architectures", "drawsfromnumpy", "same-seed-same-weights", "3.bias differs between two networks"),
        (
            "architectures",
            "drawsfromnumpy",
            "leaves-global-state-alone",
            "random state of NumPy while it was built",
        ),
        ("architectures", "hidesaweight", "state-dict-is-all-of-it", "another one's weights differ by up to"),
        ("architectures", "setsdeterminism", "leaves-global-state-alone", "torch's cudnn benchmark is"),
        ("architectures", "unusedlayer", "every-parameter-is-reached", "no gradient reaches 3.spare"),
        ("architectures", "halvesforinference", "for-inference-agrees", "changed 3.weight of the network"),
        ("architectures", "otheroutputs", "for-inference-agrees", "logits of the copy differ by up to 1"),
        ("executors", "swallows", "failed-stage-is-an-outcome", "error ends with: it failed"),
        ("executors", "leavesathread", "stops-without-work", "still there after stop: thread forgotten"),
    ],
)
def test_a_broken_promise_is_found(broken, kind, name, check, sentence):
    it = the_check(kind, check)
    with pytest.raises(Violation, match=sentence):
        it(Target(kind, f"broken-{name}", broken).fixture)


def test_a_dataset_that_writes_beside_its_files_is_found(broken, tmp_path):
    (tmp_path / "images.bin").write_bytes(b"0")
    target = Target("datasets", "broken-writesbesideitsfiles", broken, {}, {"folders": (tmp_path,)})
    with pytest.raises(Violation, match=r"decoded.npy was added"):
        the_check("datasets", "files-stay-as-they-are")(target.fixture)


def test_a_dataset_whose_files_are_not_here_is_not_judged_by_them(broken, tmp_path):
    fixture = Target("datasets", "cifar10", broken, {}, {"folders": (tmp_path,)}).fixture
    for check in ("images", "digest-is-stable", "files-stay-as-they-are", "leaves-global-state-alone"):
        with pytest.raises(NotApplicable, match="its files are not here: not found, and downloading is off"):
            the_check("datasets", check)(fixture)
    the_check("datasets", "nothing-found")(fixture)
