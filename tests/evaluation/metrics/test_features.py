"""Features of many images: right for every batch size, kept in files, and never computed twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from vdm import parallel
from vdm.data import Arrays
from vdm.evaluation.metrics.extractors import Extractor
from vdm.evaluation.metrics.features import RECORD, Extraction

NUM = 21
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 2, 1)).astype(np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)


class Counted:
    """A source that says which elements it was asked for."""

    def __init__(self, images=IMAGES):
        self.images, self.asked = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(index)
        return {"image": self.images[index]}


def linear(identity: str = "linear") -> Extractor:
    def apply(variables, images, outputs):
        x = images.reshape(images.shape[0], -1).astype(jnp.float32)
        made = {"product": jnp.matmul(x, variables, precision="highest"), "sum": x.sum(axis=1, keepdims=True)}
        return {name: made[name] for name in outputs}

    return Extractor("linear", identity, {"product": 4, "sum": 1}, WEIGHTS, apply, (3, 2, 1))


def extraction(*outputs: str, batch_size: int = 8, identity: str = "linear") -> Extraction:
    return Extraction(linear(identity), outputs or ("product", "sum"), parallel.make_mesh(), batch_size)


EXACT = IMAGES.reshape(NUM, -1).astype(np.float64) @ WEIGHTS


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_every_image_has_its_row(batch_size: int) -> None:
    found = extraction(batch_size=batch_size)(Arrays({"image": IMAGES}))
    np.testing.assert_allclose(found["product"], EXACT, rtol=1e-5, atol=1e-2)
    assert_array_equal(found["sum"][:, 0], IMAGES.reshape(NUM, -1).sum(axis=1))
    some = extraction("sum")(Arrays({"image": IMAGES}), np.array([5, 2]))
    assert_array_equal(some["sum"], found["sum"][[5, 2]])


def test_what_is_in_the_folder_is_not_computed_again(tmp_path: Path) -> None:
    source, made = Counted(), extraction()
    first = made(source, folder=tmp_path, of="these")
    assert isinstance(first["product"], np.memmap)
    source.asked.clear()
    again = made(source, folder=tmp_path, of="these")
    assert source.asked == []
    for name in first:
        assert_array_equal(first[name], again[name])
    # Fewer of them are the first.
    assert_array_equal(made(source, np.arange(5), tmp_path, "these")["sum"], first["sum"][:5])
    assert source.asked == []


def test_of_other_images_or_another_extractor_all_is_computed_anew(tmp_path: Path) -> None:
    extraction()(Counted(), folder=tmp_path, of="these")
    for made, of in ((extraction(), "others"), (extraction(identity="another"), "others")):
        source = Counted(255 - IMAGES)
        found = made(source, folder=tmp_path, of=of)
        assert sorted(source.asked) == list(range(NUM))
        assert_array_equal(found["sum"][:, 0], (255 - IMAGES.astype(np.int64)).reshape(NUM, -1).sum(axis=1))


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    """After a whole batch and a part of a row, as a kill leaves them; and where an output lacks more than another."""
    whole = extraction()(Arrays({"image": IMAGES}))

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 16:
            raise Killed

    with pytest.raises(Killed):
        extraction()(Counted(), folder=tmp_path, of="these", progress=kill)
    with (tmp_path / "product.f32").open("ab") as file:
        file.write(b"123")
    source = Counted()
    found = extraction()(source, folder=tmp_path, of="these")
    assert min(source.asked) == 8
    for name in whole:
        assert_array_equal(found[name], whole[name])


def test_another_output_costs_a_pass_of_its_own(tmp_path: Path) -> None:
    extraction("sum")(Counted(), folder=tmp_path, of="these")
    size = (tmp_path / "sum.f32").stat().st_mtime_ns
    found = extraction()(Counted(), folder=tmp_path, of="these")
    np.testing.assert_allclose(found["product"], EXACT, rtol=1e-5, atol=1e-2)
    assert (tmp_path / "sum.f32").stat().st_mtime_ns == size


def test_a_damaged_record_is_no_obstacle(tmp_path: Path) -> None:
    extraction()(Counted(), folder=tmp_path, of="these")
    (tmp_path / RECORD).write_text("{")
    source = Counted()
    extraction()(source, folder=tmp_path, of="these")
    assert len(source.asked) == NUM


def test_more_images_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    extraction()(Counted(IMAGES[:10]), folder=tmp_path, of="these")
    source = Counted()
    found = extraction()(source, folder=tmp_path, of="these")
    assert min(source.asked) == 10
    np.testing.assert_allclose(found["product"], EXACT, rtol=1e-5, atol=1e-2)


def test_a_file_that_another_program_may_have_mapped_never_shrinks(tmp_path: Path) -> None:
    before = extraction("sum")(Counted(IMAGES[:10]), folder=tmp_path, of="these")["sum"]
    sizes = []
    extraction()(
        Counted(), folder=tmp_path, of="these", progress=lambda *_: sizes.append((tmp_path / "sum.f32").stat().st_size)
    )
    assert min(sizes) >= 40
    assert_array_equal(before[:, 0], IMAGES[:10].reshape(10, -1).sum(axis=1))


def test_of_two_programs_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    source = Counted()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: extraction()(source, folder=tmp_path, of="these"), range(2)))
    assert sorted(source.asked) == list(range(NUM))
    for each in found:
        assert_array_equal(each["sum"][:, 0], IMAGES.reshape(NUM, -1).sum(axis=1))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="output='norm': linear has product, sum"):
        extraction("norm")
    with pytest.raises(ValueError, match=r"images: are uint8 \(2, 3, 1\); linear needs uint8 \(3, 2, 1\)"):
        extraction()(Arrays({"image": IMAGES.reshape(NUM, 2, 3, 1)}))
    with pytest.raises(ValueError, match="images: there are none"):
        extraction()(Counted(IMAGES[:0]))


def test_features_that_are_not_finite_are_refused_with_the_image() -> None:
    def apply(variables, images, outputs):
        x = images.reshape(images.shape[0], -1).astype(jnp.float32)
        return {"sum": jnp.where(jnp.all(x == 9, axis=1), jnp.nan, x.sum(axis=1))[:, None]}

    images = IMAGES.copy()
    images[13] = 9
    made = Extraction(Extractor("rough", "rough", {"sum": 1}, {}, apply), ["sum"], parallel.make_mesh(), 8)
    with pytest.raises(ValueError, match="rough: sum of image 13 is not finite"):
        made(Arrays({"image": images}))
