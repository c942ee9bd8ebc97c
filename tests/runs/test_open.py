"""`open_run`: a run comes back as it was trained, and what does not belong to it is refused."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import vdm
from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, DataConfig, to_dict
from vdm.data import Arrays, Dataset, DatasetInfo, in_memory
from vdm.errors import InputError
from vdm.files import write_json
from vdm.keys import Stream, stream_key
from vdm.runs.checkpoints import Checkpoints
from vdm.training import objective
from vdm.training.state import TrainState, init_state, make_optimizer
from vdm.training.step import empty_metrics

IMAGES = np.asarray(tiny.images(12))
SOURCE = Arrays({"image": IMAGES})


def dataset(name: str = "mine", version: str = "1") -> Dataset:
    info = DatasetInfo(name, version, (4, 4, 1), 17, 12, 12, "all", "all", "none")
    return Dataset(info, SOURCE, SOURCE)


def config() -> Config:
    made = tiny.config()
    made.schedule.name, made.objective.proposal = "learned_linear", "adaptive"
    made.data.name, made.seed = "mine", 5
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """A run with two checkpoints of random numbers, trained on data and, by its record, a model of its caller."""
    path = tmp_path_factory.mktemp("open") / "run"
    model, optimizer = model_lib.from_config(config()), make_optimizer(config())
    with jax.numpy_dtype_promotion("standard"):
        first = jax.jit(lambda: init_state(model, objective.from_config(config()), optimizer, 0))()
    last = first._replace(step=jnp.int32(7), ema=tiny.perturbed(first.ema))
    with Checkpoints(path / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(first._replace(step=jnp.int32(3)), empty_metrics(), {"next_index": 3}, 1.0, wait=True)
        checkpoints.save(last, empty_metrics(), {"next_index": 7}, 2.0, wait=True)
    write_json(path / "config.json", to_dict(config()))
    write_json(path / "run.json", {"data": dataset().info.to_dict(), "sessions": [{"given": ["dataset"]}]})
    return path, last


def test_it_comes_back_with_all_that_belongs_to_it(run: tuple[Path, TrainState]) -> None:
    path, state = run
    opened = vdm.open_run(str(path), dataset=dataset())
    assert (opened.path, opened.config, opened.step) == (path, config(), 7)
    assert opened.mesh.devices.size == 8
    jax.tree.map(np.testing.assert_array_equal, (opened.variables, opened.proposal), (state.ema, state.proposal))
    z = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    assert opened.model.denoise(opened.variables, z, jnp.float32(0)).shape == z.shape
    np.testing.assert_array_equal(opened.dataset.test[3]["image"], IMAGES[3])
    assert opened.key(Stream.SAMPLING) == stream_key(5, Stream.SAMPLING)
    assert opened.key(Stream.SAMPLING, 6) == stream_key(6, Stream.SAMPLING)


def test_any_checkpoint_on_any_mesh(run: tuple[Path, TrainState]) -> None:
    for which, step in (("best", 3), ("3", 3), (7, 7)):
        opened = vdm.open_run(run[0], which, mesh=parallel.make_mesh(2))
        assert opened.step == step
        assert len(jax.tree.leaves(opened.variables)[0].sharding.device_set) == 2
    with pytest.raises(InputError, match=r"checkpoint '4': not latest, best or one of \[3, 7\]"):
        vdm.open_run(run[0], 4)


def test_another_config_may_run_otherwise_but_not_be_of_another_model(run: tuple[Path, TrainState]) -> None:
    other = replace(config(), data=DataConfig(name="mine"), seed=1)
    other.sampling.steps = 3
    opened = vdm.open_run(run[0], config=other)
    assert (opened.config.data.shape, opened.config.data.levels) == ((4, 4, 1), 17)
    assert (opened.config.sampling.steps, opened.config.seed) == (3, 1)
    other.network.channels = 4
    with pytest.raises(InputError, match=r"belongs to another config: network\.channels 8 there, 4 here"):
        vdm.open_run(run[0], config=other)
    other.network.channels = 0
    with pytest.raises(InputError, match=r"config\.network\.channels"):
        vdm.open_run(run[0], config=other)
    with pytest.raises(InputError, match=r"nothing: has no config\.json"):
        vdm.open_run(run[0].parent / "nothing")


def test_data_are_read_when_they_are_asked_for_and_must_be_the_runs(run: tuple[Path, TrainState], tmp_path) -> None:
    with pytest.raises(InputError, match=r"was trained on data of its caller, 'mine'"):
        _ = vdm.open_run(run[0]).dataset
    with pytest.raises(InputError, match="made with other data: version '1' there, '2' here"):
        _ = vdm.open_run(run[0], dataset=dataset(version="2")).dataset
    # Under another name they are others on purpose, as long as the model takes them.
    assert vdm.open_run(run[0], dataset=dataset("others", "2")).dataset.info.version == "2"
    split = {"image": np.asarray(tiny.images(12, (8, 8, 1)))}
    large = in_memory(split, split, levels=17, name="mine")
    with pytest.raises(InputError, match=r"data\.shape: \(4, 4, 1\) was given, but 'mine' has \(8, 8, 1\)"):
        _ = vdm.open_run(run[0], dataset=large).dataset
    np.savez(tmp_path / "data.npz", train=IMAGES * 15, test=IMAGES)
    named = replace(config(), data=replace(config().data, name=f"npz:{tmp_path / 'data.npz'}"))
    with pytest.raises(InputError, match="'train'"):
        _ = vdm.open_run(run[0], config=named).dataset


def test_a_model_of_ones_own_is_checked_by_its_variables(run: tuple[Path, TrainState]) -> None:
    own, deep = model_lib.from_config(config()), config()
    deep.network.depth = 2
    assert vdm.open_run(run[0], model=own).model is own
    with pytest.raises(InputError, match=r"objective\.num_steps=None: must be 3, as in the given model"):
        vdm.open_run(run[0], model=replace(own, num_steps=3))
    with pytest.raises(InputError, match=r"another architecture: ema/network/\S+ has shape none"):
        vdm.open_run(run[0], model=model_lib.from_config(deep))
    write_json(run[0] / "run.json", {"data": {}, "sessions": [{"given": ["model"]}]})
    with pytest.raises(InputError, match=r"was trained with a model of its caller: open_run\(…, model=…\)"):
        vdm.open_run(run[0])
