"""What is written of published weights agrees with what is said of them elsewhere."""

import math

from vdm.evaluation.metrics.published import NETWORKS


def test_there_are_as_many_parameters_and_tensors() -> None:
    """23.9 million of TensorFlow's Inception-v3, 94 convolutions; of DINOv2 86.6 and 304.4 million.

    A published file of DINOv2 has one more tensor, the mask token: 343 in that of ViT-L/14.
    """
    millions = {
        name: round(sum(math.prod(shape) for shape in network.tensors.values()) / 1e6, 1)
        for name, network in NETWORKS.items()
    }
    assert millions == {"inception": 23.9, "dinov2_vitb14": 86.6, "dinov2_vitl14": 304.4}
    assert {name: len(network.tensors) for name, network in NETWORKS.items()} == {
        "inception": 94 * 5 + 2,
        "dinov2_vitb14": 6 + 12 * 14,
        "dinov2_vitl14": 6 + 24 * 14,
    }


def test_channels_of_inception_meet() -> None:
    """The blocks' outputs, side by side, are what the next block takes."""
    tensors = NETWORKS["inception"].tensors
    taken = {name: shape[1] for name, shape in tensors.items() if name.endswith("branch1x1.conv.weight")}
    assert list(taken.values()) == [192, 256, 288, 768, 768, 768, 768, 1280, 2048]
    ends = ("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool")
    for block, after in (("5b", "5c"), ("5c", "5d")):
        made = sum(tensors[f"Mixed_{block}.{end}.conv.weight"][0] for end in ends)
        assert made == taken[f"Mixed_{after}.branch1x1.conv.weight"]


def test_a_checksum_begins_as_the_files_name_ends() -> None:
    """As those of PyTorch Hub do, where a file has it in its name."""
    checksums = [checksum for network in NETWORKS.values() for checksum in network.checksums]
    assert len(checksums) == len(set(checksums))
    assert all(len(checksum) == 64 and set(checksum) <= set("0123456789abcdef") for checksum in checksums)
    (inception,) = NETWORKS["inception"].checksums
    assert NETWORKS["inception"].file.endswith(f"-{inception[:8]}.pth")
