"""Tensors on their way to a device."""

import pytest
import torch

from kdbench.api import moved


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_what_is_there_already_is_not_copied(device):
    tensor = torch.arange(3)
    assert moved(tensor, device) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_what_goes_to_a_gpu_arrives_whole_even_if_it_was_expanded():
    tensor = torch.arange(4).expand(3, 4)
    there = moved(tensor, "cuda")
    assert there.is_cuda
    assert torch.equal(there.cpu(), tensor)
