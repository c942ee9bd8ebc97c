"""`vdm compress`, `vdm decompress`, `vdm codec-info`: images to a file and back, and what goes wrong on the way."""

import copy
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from commands import environment, error_line
from PIL import Image
from toy_model import Toy

import vdm
from vdm import model as model_lib
from vdm import parallel
from vdm.codec import coding
from vdm.codec.chain import Chain
from vdm.codec.container import Container
from vdm.config import DataConfig, to_dict
from vdm.data import Dataset, in_memory, train_iterator
from vdm.evaluation.coding import chain_of
from vdm.files import write_json
from vdm.model import Model
from vdm.programs import coders, compress, decompress
from vdm.programs.commands import codec_info
from vdm.programs.commands import compress as compress_command
from vdm.programs.commands import decompress as decompress_command
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import lock
from vdm.runs.open import Run
from vdm.training import objective
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics

CLASSES = ["dog", "cat"]
SHORT = ["--T=2", "--batch_size=4", "--random_access=4"]


def values(num: int = 10, shape: tuple[int, ...] = (4, 4, 1), levels: int = 17, seed: int = 0) -> np.ndarray:
    return np.asarray(tiny.images(num, shape, levels, seed))


def dataset() -> Dataset:
    labels = np.arange(10) % 2
    splits = [{"image": values(seed=seed), "label": labels} for seed in (0, 1)]
    return in_memory(*splits, levels=17, name="toys", classes=CLASSES)


_CHAINS = dict[Any, Chain]()


def chain_once(model: Model, variables: Any, num_steps: int, batch_size: int, bins: float, device: Any) -> Chain:
    """`chain_of`, compiled once for all tests, on the first device."""
    scale = float(variables["network"]["scale"])
    key = model.shape, model.levels, model.num_steps, len(model.condition), scale, num_steps, batch_size, bins
    if key not in _CHAINS:
        _CHAINS[key] = chain_of(model, variables, num_steps, batch_size, bins)
    return copy.copy(_CHAINS[key])


@pytest.fixture
def run(tmp_path: Path, variables: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes the programs find a run of the toy model, of any images, with labels or without."""
    monkeypatch.setattr(coders, "chain_of", chain_once)

    def make(
        shape: tuple[int, ...] = (4, 4, 1), levels: int = 17, labels: bool = False, scale: float = 1.0, **fields: Any
    ) -> Path:
        path = tmp_path / "run"
        path.mkdir(exist_ok=True)
        write_json(path / "run.json", {"data": {"name": "toys", "classes": CLASSES}})
        config = tiny.config(shape, levels)
        condition = {"label": jax.ShapeDtypeStruct((), jnp.int32)} if labels else {}
        model = dataclasses.replace(Toy(**vars(tiny.model(shape, levels))), condition=condition, **fields)
        config.data = DataConfig(name="toys", shape=shape, levels=levels, classes=2 if labels else None)
        given = variables | {"network": {"scale": jnp.float32(scale)}}
        made = Run(path, config, model, parallel.make_mesh(1), 7, given, None, dataset())
        monkeypatch.setattr(coders, "opened", lambda path, checkpoint: made)
        return path

    return make


def compressed(*args: Any) -> None:
    compress_command.main([*SHORT, *map(str, args)])


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_a_split_and_back_and_again(run, tmp_path, capsys):
    """What comes out goes in again, and makes the same chunks."""
    where = f"--run={run()}"
    first, second, folder = tmp_path / "a.vdm", tmp_path / "b.vdm", tmp_path / "images"
    compressed(where, f"--out={first}", "--data=test")
    said = re.search(
        r"wrote .*a.vdm: 10 images in (\d+) bytes \((\d+) of header and index\), ([\d.]+) bits/dim "
        r"\(net rate [\d.]+; images stored without the model: (\d+)\); "
        r".* images/s, \d+% of the time spent in the coder\n$",
        capsys.readouterr().out,
    )
    size, front, rate, seeds = said.groups()
    assert int(size) == first.stat().st_size
    assert int(front) == Container.of_path(first).front_size
    assert float(rate) == pytest.approx(8 * int(size) / 160, abs=1e-4)
    assert 3 <= int(seeds) < 10
    decompress_command.main([str(first), f"--out={folder}", where])
    found = pixels(folder)
    assert list(found) == [f"{k:05d}.png" for k in range(10)]
    np.testing.assert_array_equal(list(found.values()), values(seed=1)[..., 0])
    compressed(where, f"--out={second}", folder)
    payloads = [[Container.of_path(path).payload(k)[0].tolist() for k in range(3)] for path in (first, second)]
    assert payloads[0] == payloads[1]
    assert not Container.of_path(second).header.names
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("npz", [False, True])
def test_only_some(run, tmp_path, npz):
    """Of the chunks that they are in."""
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    compressed(where, f"--out={file}", "--data=test")
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1  # of the last chunk, which is not asked for
    file.write_bytes(damaged)
    decompress_command.main([str(file), f"--out={tmp_path / 'out'}", where, "--only=3-6", *["--npz"] * npz])
    if npz:
        with np.load(tmp_path / "out" / "images.npz") as found:
            assert list(found) == ["images", "number"]
            assert found["number"].tolist() == [3, 4, 5, 6]
            np.testing.assert_array_equal(found["images"], values(seed=1)[3:7])
    else:
        found = pixels(tmp_path / "out")
        assert list(found) == [f"{k:05d}.png" for k in range(3, 7)]
        np.testing.assert_array_equal(list(found.values()), values(seed=1)[3:7, ..., 0])


def test_labels_of_the_data_of_npz_files_and_of_folders(run, tmp_path):
    where = f"--run={run(labels=True)}"
    images, labels = values(6), np.array([1, 0, 0, 1, 1, 0])
    np.savez(tmp_path / "a.npz", images=images, label=labels)
    for k, image in enumerate(images):
        folder = tmp_path / "pictures" / CLASSES[labels[k]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{k}.png")
    order = np.argsort(1 - labels, kind="stable")  # cat comes before dog
    cases: dict[str, tuple[list[Any], np.ndarray, np.ndarray]] = {
        "data": (["--data=test"], values(seed=1), np.arange(10) % 2),
        "npz": ([tmp_path / "a.npz"], images, labels),
        "folder": ([tmp_path / "pictures"], images[order], labels[order]),
        "flag": ([tmp_path / "a.npz", "--labels=cat"], images, np.ones(6)),
        "flags": ([tmp_path / "a.npz", "--labels=1,dog,0,1,cat,0"], images, labels),
    }
    for name, (args, wanted, of_wanted) in cases.items():
        file, out = tmp_path / f"{name}.vdm", tmp_path / name
        compressed(where, f"--out={file}", *args)
        decompress_command.main([str(file), f"--out={out}", where, "--npz"])
        with np.load(out / "images.npz") as found:
            np.testing.assert_array_equal(found["images"], wanted)
            np.testing.assert_array_equal(found["label"], of_wanted)


def test_pictures_keep_their_names(run, tmp_path):
    """Not their folders; where two are called the same, both are there. Samples and npz files may be among them."""
    where = f"--run={run((4, 4, 3), 256)}"
    images = values(8, (4, 4, 3), 256)
    names = ["a/dog.png", "b/Dog.bmp", "b/.x y.png"]
    for name, image in zip(names[:2], images, strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "s").mkdir()
    np.savez(tmp_path / "s" / "shard_00000.npz", images=images[2:6])
    np.savez(tmp_path / "c.npz", train=images[6:7], test=images[7:])
    given = [tmp_path / "a", tmp_path / "b" / "Dog.bmp", tmp_path / "s", tmp_path / "c.npz"]
    compressed(where, f"--out={tmp_path / 'a.vdm'}", *given)
    decompress_command.main([str(tmp_path / "a.vdm"), f"--out={tmp_path / 'out'}", where])
    found = pixels(tmp_path / "out")
    assert list(found) == [*(f"{k:05d}.png" for k in range(2, 8)), "Dog_1.png", "dog.png"]
    np.testing.assert_array_equal([found["dog.png"], found["Dog_1.png"], *list(found.values())[:6]], images)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("../../x.png", "x.png"), ("/etc/passwd", "passwd.png"), ("..", ""), (".", ""), ("", ""), ("a\\b.gif", "b.png"),
     (".hidden", "hidden.png"), ("a\0b\n.png", "ab.png"), ("é" * 300, "é" * 100 + ".png"), ("\udce9", ""),
     ("x.tar.gz", "x.tar.png")],
)  # fmt: skip
def test_a_name_of_a_file_leads_nowhere_else(name, wanted):
    assert decompress.safe(name) == wanted


@pytest.mark.parametrize("same", [True, False])
def test_interrupted_it_goes_on(run, tmp_path, monkeypatch, capsys, same):
    """What is finished is not done again; of other settings all is."""
    where, file, partial = f"--run={run()}", tmp_path / "a.vdm", tmp_path / "a.vdm.partial"
    calls: list[int] = []
    original = compress.encode_chunk

    def interrupted(chain, images, *rest):
        if np.array_equal(images, values(seed=1)[8:]):
            raise KeyboardInterrupt
        return original(chain, images, *rest)

    def counted(chain, images, *rest):
        calls.append(len(images))
        return original(chain, images, *rest)

    monkeypatch.setattr(compress, "encode_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compressed(where, f"--out={file}", "--data=test")
    assert not file.exists()
    assert len(list(partial.glob("chunk_*.npz"))) == 2
    (partial / "chunk_000001.npz").write_bytes(b"half")  # as no kill leaves it
    monkeypatch.setattr(compress, "encode_chunk", counted)
    compressed(where, f"--out={file}", "--data=test", *([] if same else ["--T=3"]))
    assert sorted(calls) == ([2, 4] if same else [2, 4, 4])
    said = capsys.readouterr().out
    assert ("has 1 of 3 chunks already; going on from there" in said) == same
    assert ("has chunks of other settings (T 2 there, 3 here): starting over" in said) == (not same)
    assert not partial.exists()
    monkeypatch.setattr(compress, "encode_chunk", original)
    whole = tmp_path / "b.vdm"
    compressed(where, f"--out={whole}", "--data=test", *([] if same else ["--T=3"]))
    assert file.read_bytes() == whole.read_bytes()


def test_of_other_images_nothing_is_kept(run, tmp_path):
    """Those that a finished chunk is of are looked at."""
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    for seed, name in ((0, "a"), (1, "b")):
        np.savez(tmp_path / f"{name}.npz", images=values(10, seed=seed))
    mixed = np.concatenate([values(4), values(10, seed=1)[4:]])
    np.savez(tmp_path / "c.npz", images=mixed)
    compressed(where, f"--out={file}", tmp_path / "a.npz")
    os.rename(file, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compress.Partial, "finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compressed(where, f"--out={file}", tmp_path / "a.npz")
    compressed(where, f"--out={file}", tmp_path / "c.npz")
    decompress_command.main([str(file), f"--out={tmp_path / 'out'}", where, "--npz"])
    with np.load(tmp_path / "out" / "images.npz") as found:
        np.testing.assert_array_equal(found["images"], mixed)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
@pytest.mark.parametrize("name", ["chunk_000001.npz.partial", "whole"])
def test_a_full_disk_is_one_line_and_loses_nothing(run, tmp_path, capsys, name):
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    partial = tmp_path / "a.vdm.partial"
    partial.mkdir()
    (partial / name).symlink_to("/dev/full")
    said = error_line(compress_command.main, [*SHORT, where, f"--out={file}", "--data=test"], capsys)
    assert "the disk is full; finished chunks are kept in a.vdm.partial" in said
    assert not file.exists()
    assert len(list(partial.glob("chunk_*.npz"))) == (1 if name.startswith("chunk") else 3)
    (partial / name).unlink(missing_ok=True)
    compressed(where, f"--out={file}", "--data=test")
    assert "going on from there" in capsys.readouterr().out
    assert Container.of_path(file).header.images == 10


def test_a_damaged_chunk_loses_itself(run, tmp_path, capsys):
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    compressed(where, f"--out={file}", "--data=test")
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[Container.of_path(file).front_size] ^= 1
    file.write_bytes(damaged)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        codec_info.main([str(file)])
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert "chunk 0: images 0 to 3, " in printed.out
    assert "is damaged: the checksum differs\nchunk 1: images 4 to 7, " in printed.out
    assert printed.out.count("bytes, intact") == 2
    assert printed.err == f"error: {file}: 1 of 3 chunks are damaged\n"
    out = tmp_path / "out"
    said = error_line(decompress_command.main, [str(file), f"--out={out}", where], capsys)
    assert "chunk 0 (images 0 to 3): is damaged" in said
    assert f"6 other images are in {out}" in said
    np.testing.assert_array_equal(list(pixels(out).values()), values(seed=1)[4:, ..., 0])
    assert [path.name for path in out.iterdir() if path.suffix != ".png"] == []
    file.write_bytes(whole[: len(whole) - Container.of_bytes(whole).entries[2].size - 1])
    said = error_line(decompress_command.main, [str(file), f"--out={tmp_path / 'more'}", where], capsys)
    assert "2 of 3 chunks are lost: images 4 to 7, 8 to 9; 4 other images" in said


def test_elsewhere_it_is_tried_and_verified(run, tmp_path, capsys, monkeypatch):
    """With another jax a line says so; if the network answers otherwise, the file does not decode."""
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    compressed(where, f"--out={file}", "--data=test")
    there = dataclasses.replace(coding.here(), jax="9.9.9")
    monkeypatch.setattr(decompress, "here", lambda: there)
    decompress_command.main([str(file), f"--out={tmp_path / 'out'}", where])
    said = capsys.readouterr().out
    assert f"{file}: was made on another platform (jax {coding.here().jax} there, 9.9.9 here): it may not" in said
    assert len(pixels(tmp_path / "out")) == 10
    monkeypatch.setattr(decompress, "fingerprint", lambda *_: Container.of_path(file).header.model[7:])
    run(scale=1.01)
    with pytest.raises(SystemExit):
        decompress_command.main([str(file), f"--out={tmp_path / 'wrong'}", where])
    said = capsys.readouterr().err
    assert "does not decode here to what was coded" in said
    assert "3 of 3 chunks are lost" in said
    assert list((tmp_path / "wrong").iterdir()) == []


def test_another_model_is_refused(run, tmp_path, capsys):
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    compressed(where, f"--out={file}", "--data=test")
    run(scale=1.01)
    capsys.readouterr()
    said = error_line(decompress_command.main, [str(file), f"--out={tmp_path / 'out'}", where], capsys)
    assert f"{where}: its model of step 7 (sha256:" in said
    assert not (tmp_path / "out").exists()


def pictures(folder: Path) -> None:
    """Files that something is wrong with."""
    Image.fromarray(values(1, (5, 4))[0]).save(folder / "large.png")
    Image.fromarray(values(1, (4, 4), 256)[0]).save(folder / "levels.png")
    Image.fromarray(values(1, (4, 4))[0]).save(folder / "good.png")
    (folder / "text.png").write_text("none")
    np.savez(folder / "large.npz", images=values(2, (5, 4, 1)))
    np.savez(folder / "levels.npz", images=values(2, levels=200))
    np.savez(folder / "floats.npz", images=np.zeros((2, 4, 4, 1)))
    np.savez(folder / "labels.npz", images=values(2), label=[0, 2])
    (folder / "empty").mkdir()


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        ([], ["must be IMAGES or --data"]),
        (["--data=test", "{}/good.png"], ["must be IMAGES or --data"]),
        (["--num=3", "{}/good.png"], ["--num=3", "--data"]),
        (["--data=val"], ["--data"]),
        (["--data=test", "--T=0"], ["--T=0", "1 or more"]),
        (["--data=test", "--T=100000"], ["--T=100000", "65536 at most"]),
        (["--data=test", "--random_access=0"], ["--random_access=0"]),
        (["--data=test", "--batch_size=1_0"], ["batch_size", "whole number"]),
        (["--data=test", "--labels=3"], ["--labels=3", "not conditioned on labels"]),
        (["{}/large.png"], ["large.png", "4×5", "4×4"]),
        (["{}/levels.png"], ["levels.png", "must be below 17"]),
        (["{}/text.png"], ["text.png", "not a readable picture"]),
        (["{}/large.npz"], ["large.npz: array 'images'", "(5, 4, 1)", "(4, 4, 1)"]),
        (["{}/levels.npz"], ["levels.npz: array 'images'", "levels=17"]),
        (["{}/floats.npz"], ["floats.npz: array 'images'", "float64"]),
        (["{}/none.png"], ["none.png", "no such file"]),
        (["{}/empty"], ["empty", "no pictures"]),
    ],
)
def test_images_of_something_else_are_one_line(run, tmp_path, capsys, args, mentions):
    pictures(tmp_path)
    argv = [f"--run={run()}", f"--out={tmp_path / 'a.vdm'}", *(arg.format(tmp_path) for arg in args)]
    said = error_line(compress_command.main, argv, capsys)
    assert [word for word in mentions if word not in said] == []
    assert not list(tmp_path.glob("a.vdm*"))


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["{}/good.png"], ["image 0 has no label", "needs one", "--labels"]),
        (["{}/labels.npz"], ["image 1: label 2; must be from 0 to 1, or give --labels"]),
        (["{}/good.png", "--labels=3"], ["--labels=3", "no class '3'", "0 dog, 1 cat"]),
        (["{}/good.png", "--labels=0,1"], ["--labels=0,1", "has 2 labels", "each of 1 images"]),
    ],
)
def test_missing_labels_are_one_line(run, tmp_path, capsys, args, mentions):
    pictures(tmp_path)
    argv = [f"--run={run(labels=True)}", f"--out={tmp_path / 'a.vdm'}", *(arg.format(tmp_path) for arg in args)]
    said = error_line(compress_command.main, argv, capsys)
    assert [word for word in mentions if word not in said] == []
    assert not (tmp_path / "a.vdm").exists()


def test_a_model_of_t_steps_has_its_own(run, tmp_path, capsys):
    where = f"--run={run(num_steps=3)}"
    said = error_line(compress_command.main, [where, f"--out={tmp_path / 'a'}", "--data=test", "--T=2"], capsys)
    assert "--T=2" in said
    compress_command.main([where, f"--out={tmp_path / 'b'}", "--data=test", "--num=3"])
    header = Container.of_path(tmp_path / "b").header
    assert (header.T, header.images, header.note) == (3, 3, "toys@test")


def test_a_network_that_fails_is_one_line(run, tmp_path, capsys):
    where = f"--run={run(scale=float('nan'))}"
    said = error_line(compress_command.main, [*SHORT, where, f"--out={tmp_path / 'a'}", "--data=test"], capsys)
    assert f"{where}: cannot code images 0 to 3: " in said
    assert not (tmp_path / "a").exists()


def test_chunks_that_are_too_large_are_one_line(run, tmp_path, capsys):
    where = f"--run={run()}"
    large = ["--batch_size=65536", "--random_access=65536", "--num=10"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vdm.codec.container.MOST_VALUES", 100)
        said = error_line(compress_command.main, [where, f"--out={tmp_path / 'a'}", "--data=test", *large], capsys)
    assert "--random_access=10: is too large for images of (4, 4, 1)" in said


def test_what_is_there_stays(run, tmp_path, capsys):
    where, file = f"--run={run()}", tmp_path / "a.vdm"
    file.write_text("mine")
    assert "is there already" in error_line(compress_command.main, [where, f"--out={file}", "--data=test"], capsys)
    assert file.read_text() == "mine"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "00000.png").write_text("mine")
    compressed(where, f"--out={tmp_path / 'b.vdm'}", "--data=test", "--num=2")
    capsys.readouterr()
    argv = [str(tmp_path / "b.vdm"), f"--out={tmp_path / 'folder'}", where]
    assert "is there already" in error_line(decompress_command.main, argv, capsys)


@pytest.mark.parametrize(
    ("only", "npz", "mentions"),
    [("2-1", False, ["--only=2-1", "0 to 1"]), ("0-2", False, ["--only=0-2"]), ("x", False, ["--only=x"]),
     (None, False, ["--npz", "(4, 4, 2)"])],
)  # fmt: skip
def test_what_cannot_be_decompressed_is_one_line(run, tmp_path, capsys, only, npz, mentions):
    where, file = f"--run={run((4, 4, 2))}", tmp_path / "a.vdm"
    np.savez(tmp_path / "a.npz", images=values(2, (4, 4, 2)))
    compressed(where, f"--out={file}", tmp_path / "a.npz")
    capsys.readouterr()
    argv = [str(file), f"--out={tmp_path / 'out'}", where, *([f"--only={only}"] if only else [])]
    said = error_line(decompress_command.main, argv, capsys)
    assert [word for word in mentions if word not in said] == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint, of a real network, and a file of images, made in this process."""
    folder = tmp_path_factory.mktemp("codec")
    config = tiny.config(channels=4)
    model = model_lib.from_config(config)
    made = jax.jit(lambda: init_state(model, objective.from_config(config), make_optimizer(config), 0))()
    state = made._replace(step=jnp.int32(3), ema=tiny.variables(model))
    images = values(9, seed=1)
    np.savez(folder / "a.npz", images=images)
    iterator = train_iterator(in_memory({"image": images}, {"image": images}), batch_size=8, seed=0)
    with jax.numpy_dtype_promotion("standard"), Checkpoints(folder / "run" / "checkpoints") as checkpoints:
        checkpoints.save(state, empty_metrics(), iterator.get_state(), wait=True)
    write_json(folder / "run" / "config.json", to_dict(config))
    iterator.close()
    compressed(f"--run={folder / 'run'}", f"--out={folder / 'a.vdm'}", folder / "a.npz", "--random_access=5")
    return folder


def called(*args: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = environment(1, PYTHONPATH=str(Path(vdm.__file__).parents[1]))
    return subprocess.run([sys.executable, "-m", "vdm", *map(str, args)], capture_output=True, text=True, check=False,
                          cwd=cwd, env=env)  # fmt: skip


def test_the_file_and_the_checkpoint_are_all_there_is(trained, tmp_path):
    """A process that has nothing else of the run, nor the data, on another number of devices."""
    (tmp_path / "model").mkdir()
    shutil.copy(trained / "run" / "config.json", tmp_path / "model")
    shutil.copytree(trained / "run" / "checkpoints", tmp_path / "model" / "checkpoints")
    shutil.copy(trained / "a.vdm", tmp_path)
    # Not even by its path.
    hidden = trained.with_name("hidden")
    trained.rename(hidden)
    try:
        result = called("decompress", "a.vdm", "--out=out", "--run=model", cwd=tmp_path)
    finally:
        hidden.rename(trained)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "wrote 9 images to out; every chunk matches its checksum\n"
    np.testing.assert_array_equal(list(pixels(tmp_path / "out").values()), values(9, seed=1)[..., 0])


@pytest.mark.parametrize("main", [codec_info.main, lambda argv: decompress_command.main([*argv, "--out=out"])])
def test_a_cut_file_is_one_line(tmp_path, capsys, main):
    file = tmp_path / "cut"
    file.write_bytes(b"vdmz\x01\x40\x00and no more")
    assert re.fullmatch(rf"error: {file}: .*damaged.*\n", error_line(main, [str(file)], capsys))


def test_of_two_at_once_one_is_refused(run, tmp_path, capsys):
    file = tmp_path / "a.vdm"
    with lock(tmp_path / "a.vdm.partial"):
        said = error_line(compress_command.main, [*SHORT, f"--run={run()}", f"--out={file}", "--data=test"], capsys)
    assert f"--out={file}: another run is writing here" in said
    compressed(f"--run={run()}", f"--out={file}", "--data=test")
