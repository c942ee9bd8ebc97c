"""`python -m vdm.export`: a folder whose programs need JAX alone and draw the images of sample.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from commands import error_line
from jax import export as jax_export

from vdm import model as model_lib
from vdm import parallel
from vdm.config import SamplingConfig, from_dict, to_dict
from vdm.evaluation.images import ImageSampler
from vdm.export import programs as export
from vdm.files import write_json
from vdm.keys import Stream, stream_key
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.records import weights_digest
from vdm.training.objective import Objective
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics

SEED, FIRST, NUM, STEP = 2**32 - 5, 3, 5, 12
FLAGS = ["--sampler=ddim(0.5)", "--steps=3", "--grid=karras", "--clip=static", "--decode=draw"]

# Only what `jax`, `numpy` and `flatbuffers` are made of may be imported.
BLOCKED = "vdm flax optax orbax chex grain ml_collections absl jaxtyping msgpack"
BLOCK = f"""
import runpy, sys
for name in {BLOCKED!r}.split():
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run with a checkpoint of random numbers, and the moving average in it."""
    folder = tmp_path_factory.mktemp("export") / "run"
    config = tiny.config()
    model, optimizer = model_lib.from_config(config), make_optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        state = jax.jit(lambda: init_state(model, Objective(), optimizer, 0))()
    state = state._replace(step=jnp.int32(STEP), ema=tiny.perturbed(state.ema, scale=0.1))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(state, empty_metrics(), {"next_index": STEP}, wait=True)
    write_json(folder / "config.json", to_dict(config))
    return folder, state.ema


@pytest.fixture(scope="module")
def out(run: tuple[Path, Any]) -> Path:
    folder = run[0].parent / "exported"
    export.main([f"--run={run[0]}", f"--out={folder}", *FLAGS])
    return folder


def test_it_draws_the_images_of_sample_py_without_this_package(run, out):
    """Images 3 … 7 of a seed, in a process that cannot import it; in batches of two, the last of one."""
    assert sorted(path.name for path in out.iterdir()) == [
        "denoiser.bin", "export.json", "load.py", "sampler.bin", "weights.npz"
    ]  # fmt: skip
    file = out.parent / "images.npz"
    flags = [f"--seed={SEED}", f"--first={FIRST}", f"--num={NUM}", "--batch_size=2", f"--out={file}"]
    command = [sys.executable, "-c", BLOCK, str(out / "load.py"), *flags]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    images = np.load(file)["images"]
    assert images.dtype == np.uint8
    assert images.shape == (NUM, 4, 4, 1)

    settings = SamplingConfig(NUM, 3, batch_size=2, sampler="ddim(0.5)", grid="karras", clip="static", decode="draw")
    sampler = ImageSampler(model_lib.from_config(tiny.config()), parallel.make_mesh(1), settings)
    expected, _ = sampler(run[1], stream_key(SEED, Stream.SAMPLING), NUM, first=FIRST)
    np.testing.assert_array_equal(images, expected)
    assert len(np.unique(expected)) > 4


def test_the_record_tells_what_is_there(run, out):
    record = json.loads((out / "export.json").read_text())
    assert record["weights"] == weights_digest(run[1])
    assert record["checkpoint_step"] == STEP
    assert (record["image_shape"], record["levels"]) == ([4, 4, 1], 17)
    assert (record["sampler"], record["steps"], record["platforms"]) == ("ddim(0.5)", 3, ["cpu", "cuda", "tpu"])
    assert record["decode"] == "draw"
    model = model_lib.from_config(tiny.config())
    ends = [float(model.gamma(run[1], jnp.float32(t))) for t in (0, 1)]
    assert record["gamma_0_and_1"] == ends
    config = from_dict({"schedule": record["schedule"], "network": record["network"]})
    assert config.network == tiny.config().network
    assert {
        name: jax_export.deserialize(bytearray((out / name).read_bytes())).platforms for name in record["calls"]
    } == {
        "sampler.bin": ("cpu", "cuda", "tpu"),
        "denoiser.bin": ("cpu", "cuda", "tpu"),
    }


def test_the_denoiser_is_the_models(run, out):
    program = jax_export.deserialize(bytearray((out / "denoiser.bin").read_bytes()))
    weights = dict(np.load(out / "weights.npz"))
    assert set(weights) == set(export.to_weights(run[1]))
    model = model_lib.from_config(tiny.config())
    z, gamma = jax.random.normal(jax.random.key(0), (3, 4, 4, 1)), jnp.asarray([-6.0, 0.0, 3.0])
    expected = jax.jit(model.denoise)(run[1], z, gamma)
    np.testing.assert_allclose(program.call(weights, z, gamma), expected, rtol=1e-5, atol=1e-5)


def test_weights_without_parts_come_back():
    variables = {"network": {"a": {"kernel": jnp.ones(2)}}, "schedule": {}, "likelihood": {}}
    assert export.to_variables(export.to_weights(variables)) == variables


def test_a_batch_may_be_fixed():
    shapes = export.programs(tiny.model(), SamplingConfig(steps=2), ["cpu"], batch_size=6)["sampler.bin"].out_avals
    assert [leaf.shape for leaf in shapes] == [(6, 4, 4, 1), (6,)]


@pytest.mark.parametrize(
    ("flags", "mentions"),
    [
        (["--platforms=cpu,gpu"], ["--platforms=cpu,gpu", "cpu,cuda,rocm,tpu"]),
        (["--platforms=cpu,cpu"], ["each once"]),
        (["--batch_size=0"], ["--batch_size=0"]),
        (["--steps=0"], ["sampling.steps=0"]),
        (["--sampler=dim"], ["sampler='dim'", "ancestral"]),
        (["--grid=edm"], ["config.sampling.grid='edm'", "karras"]),
        (["--checkpoint=11"], ["'11'", "[12]"]),
        (["--run=nowhere"], ["nowhere", "no config.json"]),
        (["--out=there"], ["--out=there", "new folder"]),
        (["--out=file/new"], ["--out", "file/new"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, monkeypatch, capsys, flags, mentions):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    line = error_line(export.main, [f"--run={run[0]}", "--out=new", *flags], capsys)
    for mention in mentions:
        assert mention in line
    assert {path.name for path in tmp_path.iterdir()} == {"file", "there"}
