"""Lossless compression at the bound: integer images as bits and back, by the T-step model of any denoiser.

    coded = codec.encode(images, denoise, gammas, levels=17)     # bytes: a file as `vdm compress` writes
    images = codec.decode(coded, denoise, gammas)

`coding` is these, `container` the file, `chain` the model as a coder, `chunk` a set of images on one stack, `normals`
and `seeds` what they are made of, `streams` several coders at once.
"""

from vdm.codec.coding import Decoded, decode, decode_labelled, encode
from vdm.codec.container import Container, Header

__all__ = ["Container", "Decoded", "Header", "decode", "decode_labelled", "encode"]
