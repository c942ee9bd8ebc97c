"""sample.py's program: shards that resume, interpolations, reconstructions, and what it refuses."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from vdm.data import in_memory
from vdm.errors import InputError
from vdm.evaluation import images as sampling
from vdm.files import write_json
from vdm.plots import images as pictures
from vdm.programs import sample as program
from vdm.programs.sample import Sample, with_eta
from vdm.runs import shards

STEPS, SIZE = 3, 4

Make = Callable[..., Sample]


def test_shards_cut_off_between_them_end_as_ones_that_were_not(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make().images(num_frames=2)
    assert folder.name == "step_7_seed_0_T_3_ddim_0.5"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "settings.json", "shard_00000.npz", "shard_00001.npz", "shard_00002.npz"
    ]  # fmt: skip
    whole = list(shards.read(folder))
    assert [part.shape for part in whole] == [(4, 4, 4, 1), (4, 4, 4, 1), (2, 4, 4, 1)]
    images = np.concatenate(whole)
    assert len({image.tobytes() for image in images}) == 10
    for suffix in (".png", "_trajectory_2.png", "_trajectory_2.gif"):
        assert folder.with_name(folder.name + suffix).stat().st_size > 0

    folder.rename(folder.with_name("whole"))
    calls: list[tuple[int, int]] = []
    draw = sampling.ImageSampler.__call__

    def draw_or_cut(self, variables, key, num, progress, first, condition):
        calls.append((first, num))
        if len(calls) == 2:
            # Meanwhile nobody else may draw into the folder.
            with pytest.raises(InputError, match=r"ddim_0\.5: another run is writing here"):
                make().images()
            raise tiny.Cut
        return draw(self, variables, key, num, progress, first, condition)

    with monkeypatch.context() as patch:
        patch.setattr(sampling.ImageSampler, "__call__", draw_or_cut)
        with pytest.raises(tiny.Cut):
            make().images()
        assert sorted(path.name for path in folder.glob("s*")) == ["settings.json", "shard_00000.npz"]
        written = (folder / "shard_00000.npz").stat().st_mtime_ns
        # One image fewer is a shorter last shard, drawn again when there are to be more.
        make(num=9).images()
        make().images()
    # Never more than a shard at a time, and none twice but the short one.
    assert calls == [(0, 4), (4, 4), (4, 4), (8, 1), (8, 2)]
    assert (folder / "shard_00000.npz").stat().st_mtime_ns == written
    again = np.concatenate(list(shards.read(folder)))
    # Batches of a shard are filled up: all are of the same size, and so the same to the bit.
    np.testing.assert_array_equal(again, images)

    calls.clear()
    make(num=3).images(num_frames=2)
    assert sum(len(part) for part in shards.read(folder)) == 10
    assert folder.with_name(folder.name + "_trajectory_2.png").stat().st_size > 0


def test_images_of_other_settings_or_weights_are_not_mixed(make: Make, variables: Any) -> None:
    stem = "step_7_seed_0_T_3_ddim_0.5"
    assert make(num=2).images().name == stem
    assert make(clip="static").stem.name == stem + "_clip_static"
    assert make(grid="karras").stem.name == stem + "_karras"
    assert make(sampler="heun(churn=0.1)", steps=2).stem.name == "step_7_seed_0_T_2_heun_churn=0.1"
    assert make(decode="mean").stem.name == stem + "_mean"
    settings = make().stem / "settings.json"
    there = json.loads(settings.read_text())
    assert there.pop("decode") == "mode"
    for other, says in (({"decode": "draw"}, "'draw'"), ({}, "None")):
        write_json(settings, there | other)
        with pytest.raises(InputError, match=f"other settings: decode {says} there, 'mode' here; move them away"):
            make(num=2).images()
    write_json(settings, there | {"decode": "mode"})
    moved = jax.tree.map(lambda x: x + 0.1, variables)
    with pytest.raises(InputError, match=r"other settings: weights 'sha256:\w+' there, 'sha256:\w+' here"):
        make(moved, num=2).images()


def test_what_is_no_shard_is_refused(make: Make) -> None:
    folder = make(num=2).images()
    (folder / "shard_00000.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        InputError, match=r"shard_00000\.npz: not a readable npz file: .*; delete it and it is drawn again"
    ):
        make(num=2).images()
    (folder / "settings.json").unlink()
    with pytest.raises(InputError, match="without settings"):
        make(num=2).images()


def test_killed_anywhere_shards_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut before and after each of the moments at which a file appears under its name."""
    monkeypatch.setattr(shards, "SHARD", SIZE)
    images = np.asarray(tiny.images(10)).astype(np.uint8)

    def draw(first: int, num: int) -> np.ndarray:
        return images[first : first + num]

    replace_file, moments = os.replace, 0

    def cut_at(moment: int) -> Callable[..., None]:
        count = iter(range(1000))

        def replace_or_cut(source: Path, target: Path) -> None:
            if next(count) == moment:
                raise tiny.Cut
            replace_file(source, target)
            if next(count) == moment:
                raise tiny.Cut

        return replace_or_cut

    while True:
        folder = tmp_path / str(moments)
        monkeypatch.setattr(os, "replace", cut_at(moments))
        with contextlib.suppress(tiny.Cut):
            assert shards.stream(folder, 10, {"seed": 1}, draw, (4, 4, 1), 17) == 10
            break
        there = sum(len(part) for part in shards.read(folder))
        monkeypatch.setattr(os, "replace", replace_file)
        assert shards.stream(folder, 10, {"seed": 1}, draw, (4, 4, 1), 17) == 10 - there
        np.testing.assert_array_equal(np.concatenate(list(shards.read(folder))), images)
        assert len(list(folder.iterdir())) == 4
        moments += 1
    assert moments == 12


def test_latents_that_are_not_finite_stop_it_with_nothing_written(make: Make, variables: Any) -> None:
    broken = variables | {"network": jax.tree.map(lambda x: x * np.nan, variables["network"])}
    sample = make(broken, num=2)
    with pytest.raises(InputError, match=r"sampler ddim\(0\.5\): z of image 0 is not finite from step 1 of 3 on"):
        sample.images()
    with pytest.raises(InputError, match=r"sampler unipc: .*step 1 of 3"):
        make(broken, num=2, sampler="unipc").interpolation(2)
    assert [path.name for path in sample.stem.parent.rglob("*") if path.is_file()] == [".lock"]


def test_an_interpolation_goes_from_image_to_image(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[np.ndarray, str, list[str]]] = []

    def animation(frames: np.ndarray, path: Path, caption: str, names: list[str], arrow: pictures.Arrow) -> None:
        made.append((frames, caption, names))

    monkeypatch.setattr(program.pictures, "animation", animation)
    sample = make(num=3, sampler="ddim")
    path = sample.interpolation(5)
    ((frames, caption, names),) = made
    assert frames.shape == (5, 3, 4, 4, 1)
    assert caption.startswith("run, step 7, seed 0: ddim, 3 steps\n")
    assert names == ["weight 0", "weight 0.25", "weight 0.5", "weight 0.75", "weight 1"]
    assert path.name == "step_7_seed_0_T_3_ddim_interpolation_5.png"
    with Image.open(path) as picture:
        assert picture.size[0] > picture.size[1]
    images = np.concatenate(list(shards.read(make(num=6, sampler="ddim").images()))) / 8 - 1
    for frame, ends in ((0, images[::2]), (4, images[1::2])):
        # Other batches: a value may be rounded to the next level.
        assert np.mean(np.abs(frames[frame] - ends) > 1e-6) < 2e-2
    assert np.mean(np.abs(frames[2] - frames[0]) > 1e-6) > 0.2


def test_reconstructions_come_nearer_with_more_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.asarray(tiny.images(20))
    split = {"image": images}
    data = in_memory(split, split, levels=17)
    errors = [make(data=data, sampler="ddim", steps=steps).reconstruction(20) for steps in (2, 50)]
    assert errors[0] > 2
    assert errors[1] < 0.5
    sample = make(data=data, sampler="ddim", steps=2)
    (picture,) = sample.stem.parent.glob(f"{sample.stem.name}_reconstruction_20_data_*.png")
    assert picture.stat().st_size > 0
    for num in (0, 21):
        with pytest.raises(InputError, match=f"--reconstruct={num}: must be from 1 to 20"):
            sample.reconstruction(num)


def test_refusals(make: Make) -> None:
    with pytest.raises(InputError, match=r"sampler='ancestral': draws noise.*must be deterministic: ddim"):
        make(sampler="ancestral").interpolation(3)
    with pytest.raises(InputError, match=r"decode='draw': draws noise.*must be mode or mean"):
        make(sampler="ddim", decode="draw").interpolation(3)
    for num in (1, -1):
        with pytest.raises(InputError, match=f"--interpolate={num}: must be 2 or more"):
            make(sampler="ddim").interpolation(num)
    with pytest.raises(InputError, match="--trajectory=-1"):
        make().images(-1)
    with pytest.raises(InputError, match=r"steps=5: the model has 4 steps"):
        make(steps=5, num_steps=4)
    assert make(steps=4, num_steps=4).settings.steps == 4
    with pytest.raises(InputError, match=r"--eta=0\.5: sampler heun has no eta"):
        with_eta("heun", 0.5)
    with pytest.raises(InputError, match=r"--eta=0\.5: sampler ddim\(0\.1\) has one already"):
        with_eta("ddim(0.1)", 0.5)
    assert with_eta("ddim", 0.5) == "ddim(0.5)"


@pytest.mark.parametrize("sampler", ["heun", "nonsense", "ddim("])
def test_eta_of_another_sampler_is_one_line(sampler: str) -> None:
    with pytest.raises(InputError, match=r"has no eta|must be one of|must be a name"):
        program.with_eta(sampler, 0.5)
