"""Lossless compression of integer images with the T-step model of any denoiser, at the rate given by the bound.

    coded = codec.encode(images, denoise, gammas, levels=17)     # bytes: a file like those that `vdm compress` writes
    images = codec.decode(coded, denoise, gammas)

These functions are in `coding`. `container` is the file format, `chain` the model as a coder, `chunk` a set of images
on one stack; `normals` and `seeds` are its building blocks, and `streams` runs several coders at once.
"""

from vdm.codec.coding import Decoded, decode, decode_labelled, encode
from vdm.codec.container import Container, Header

__all__ = ["Container", "Decoded", "Header", "decode", "decode_labelled", "encode"]
