"""One picture: what is kept as it is, turned or refused, by how files say it."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vdm.data import pictures
from vdm.errors import InputError

COLOURS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


def refusal(path, *words: str) -> None:
    with pytest.raises(InputError) as error:
        pictures.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def png(values: np.ndarray, depth: int, colour: int, **chunks: bytes) -> bytes:
    """A PNG of big-endian values (H, W, C), written by hand: Pillow writes no deep colours."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    others = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + others
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_eight_bits(tmp_path, mode):
    """What one cannot see through, opaque alpha too, is grey or RGB; values are kept."""
    image = Image.fromarray(COLOURS).convert(mode)
    image.save(tmp_path / "a.png")
    wanted = np.asarray(image.convert("L" if mode in ("1", "L", "LA") else "RGB")).reshape(4, 5, -1)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png").pixels, wanted)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_not_cut(tmp_path, colour, channels):
    """Grey, RGB, grey with alpha, RGB with alpha."""
    values = np.random.default_rng(0).integers(0, 1024, (4, 5, channels)).astype(">u2")
    (tmp_path / "a.png").write_bytes(png(values, 16, colour))
    refusal(tmp_path / "a.png", "16 bits")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["TIFF", "PPM", "JPEG2000"])
def test_a_suffix_lets_no_other_format_in(tmp_path, kind, suffix):
    """Of these, deep ones are cut by Pillow, or come as floats."""
    Image.fromarray(COLOURS).save(tmp_path / f"a{suffix}", format=kind)
    refusal(tmp_path / f"a{suffix}", "none of PNG, JPEG")


def test_a_suffix_need_not_be_right(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.jpg").pixels, COLOURS)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colours(tmp_path, mode):
    """A JPEG holds YCbCr whatever it is made of; CMYK has no RGB without a profile."""
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a.jpg")
    if mode == "CMYK":
        refusal(tmp_path / "a.jpg", "mode CMYK")
    else:
        assert pictures.read(tmp_path / "a.jpg").pixels.shape == (4, 5, 3)


@pytest.mark.parametrize("how", ["RGBA", "LA", "palette", "colour", "gif", "webp"])
def test_what_one_can_see_through(tmp_path, how):
    file = tmp_path / "a.png"
    if how in ("RGBA", "LA", "webp"):
        image = Image.fromarray(COLOURS).convert("RGBA" if how == "webp" else how)
        image.putpixel((0, 0), (1, 2, 3, 200) if image.mode == "RGBA" else (1, 200))
        image.save(file, format="WEBP" if how == "webp" else "PNG")
    elif how == "colour":
        values = np.full((4, 5, 3), 7, np.uint8)
        file.write_bytes(png(values, 8, 2, tRNS=struct.pack(">HHH", 7, 7, 7)))
    else:
        palette = Image.fromarray(COLOURS).convert("P")
        palette.save(file, format="GIF" if how == "gif" else "PNG", transparency=palette.getpixel((0, 0)))
    refusal(file, "transparent")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, suffix, orientation):
    """A picture stored as a camera does that was held so is seen upright: a dark corner, top left."""
    upright = np.full((16, 32), 255, np.uint8)
    upright[:8, :8] = 0
    # How the first row and column of a stored picture are to be seen, by EXIF's table.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(stored.copy()).save(tmp_path / f"a{suffix}", exif=exif, **lossless)
    pixels = pictures.read(tmp_path / f"a{suffix}").pixels
    assert pixels.shape[:2] == (16, 32)
    assert pixels[2, 2].max() < 60
    assert min(pixels[2, 29].min(), pixels[13, 2].min(), pixels[13, 29].min()) > 195


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_means_nothing_leaves_it_as_it_is(tmp_path):
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"no exif at all"):
        Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(pictures.read(tmp_path / "a.png").pixels, COLOURS)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_of_an_animation_the_first_frame(tmp_path, suffix):
    frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    picture = pictures.read(tmp_path / f"a{suffix}")
    assert picture.animated
    assert picture.pixels.max() < 20
    frames[0].save(tmp_path / f"b{suffix}")
    assert not pictures.read(tmp_path / f"b{suffix}").animated


def test_another_shape_than_the_others_have(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert pictures.read(tmp_path / "a.png", (4, 5, 3)).pixels.shape == (4, 5, 3)
    for shape, words in (
        ((5, 4, 3), "5×4 with 3 channels, but others are 4×5"),
        ((4, 5, 1), "are 5×4 with 1 channel;"),
    ):
        with pytest.raises(InputError, match=words):
            pictures.read(tmp_path / "a.png", shape)


@settings(deadline=None)
@given(st.data())
def test_damage_is_one_line_or_none(data):
    """A PNG has checksums, so what is read of a damaged one, if anything, is what it was."""
    content = bytearray(PNG)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (FOLDER / "a.png").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        pixels = pictures.read(FOLDER / "a.png").pixels
    except InputError:
        refusal(FOLDER / "a.png")
    else:
        np.testing.assert_array_equal(pixels, COLOURS)


@pytest.fixture(autouse=True, scope="module")
def _a_png(tmp_path_factory):
    global FOLDER, PNG  # noqa: PLW0603
    FOLDER = tmp_path_factory.mktemp("pictures")
    stream = io.BytesIO()
    Image.fromarray(COLOURS).save(stream, format="PNG")
    PNG = stream.getvalue()
