"""Checkpoints: to the bit, kept by the rule, damaged ones passed over, other architectures and full disks refused."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental import multihost_utils

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, DataConfig, NetworkConfig, OptimizerConfig, ScheduleConfig, TrainingConfig
from vdm.data import in_memory, train_iterator
from vdm.errors import InputError
from vdm.runs.checkpoints import Checkpoints
from vdm.training.objective import Objective
from vdm.training.state import Trained, TrainState, abstract_state, init_state, make_optimizer
from vdm.training.step import Metrics, empty_metrics


def make_config(channels: int = 4, depth: int = 1) -> Config:
    return Config(
        data=DataConfig(shape=(4, 4, 1), levels=17),
        network=NetworkConfig(name="dit", channels=channels, depth=depth),
        schedule=ScheduleConfig(name="learned_monotone(hidden=4)"),
        # It has states of both kinds.
        optimizer=OptimizerConfig(name="muon"),
        training=TrainingConfig(batch_size=8),
    )


@functools.cache
def make_state(channels: int = 4) -> TrainState:
    config = make_config(channels)
    return jax.jit(lambda: init_state(model_lib.from_config(config), Objective(), make_optimizer(config), 0))()


@pytest.fixture
def iterator() -> Iterator[Any]:
    images = np.zeros((16, 4, 4, 1), np.uint8)
    made = train_iterator(in_memory({"image": images}, {"image": images}), batch_size=8, seed=0)
    yield made
    made.close()


def at_step(step: int) -> TrainState:
    """A state whose every leaf is different at every step."""
    state = jax.tree.map(lambda x: x + step if np.issubdtype(x.dtype, np.floating) else x, make_state())
    return state._replace(step=jax.numpy.asarray(step, jax.numpy.int32))


def abstract(channels: int = 4, depth: int = 1, devices: int = 8) -> TrainState:
    return abstract_state(make_config(channels, depth), parallel.make_mesh(devices))


def abstract_metrics() -> Metrics:
    return parallel.abstract(empty_metrics, parallel.make_mesh(8))


def assert_same(a: Any, b: Any) -> None:
    for (path, x), (_, y) in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree_util.tree_leaves_with_path(b), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path))


def damage(folder: Path) -> None:
    """Cuts every data file of a checkpoint to half its length."""
    files = [path for path in folder.rglob("*") if path.is_file() and "d" in path.relative_to(folder).parts]
    assert files
    for path in files:
        os.truncate(path, path.stat().st_size // 2)


def test_comes_back_to_the_bit_with_the_data_position(tmp_path: Path, iterator: Any) -> None:
    for _ in range(3):
        next(iterator)
    metrics = empty_metrics()._replace(grad_norm=jax.numpy.asarray(0.1))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(at_step(3), metrics, iterator.get_state(), wait=True)
    expected = [next(iterator)["image"] for _ in range(3)]
    iterator.set_state({"next_index": 0})
    with Checkpoints(tmp_path / "c") as checkpoints:
        restored = checkpoints.restore(abstract(), abstract_metrics(), iterator)
    assert restored is not None
    state, metrics_again, warnings = restored
    assert warnings == []
    assert_same(state, at_step(3))
    assert_same(metrics_again, metrics)
    np.testing.assert_array_equal([next(iterator)["image"] for _ in range(3)], expected)


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_restores_onto_any_number_of_devices(
    tmp_path: Path, iterator: Any, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What eight saved, each four of which shared one copy; a part of it is read alone."""
    asked: list[Any] = []
    reading = ocp.args.PyTreeRestore
    monkeypatch.setattr(ocp.args, "PyTreeRestore", lambda like, **kw: asked.append(like) or reading(like, **kw))
    state = at_step(1)
    cut = jax.device_put(state, parallel.state_sharding(state, parallel.make_mesh(8, fsdp=4)))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(cut, empty_metrics(), iterator.get_state(), wait=True)
        whole = abstract(devices=devices)
        state = checkpoints.restore_one(whole)
        part = checkpoints.restore_one(Trained(whole.step, whole.ema, whole.proposal))
    assert [type(like) for like in asked] == [TrainState, Trained]
    assert state.step == part.step == 1
    jax.tree.map(np.testing.assert_array_equal, part.ema, state.ema)
    assert len(jax.tree.leaves(part.ema)[0].sharding.device_set) == devices
    assert len(jax.tree.leaves(state.ema)[0].sharding.device_set) == devices
    assert_same(state, at_step(1))


def test_keeps_the_latest_and_the_best(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step, bits in enumerate([3.0, 1.0, 2.0, None, 2.5], start=1):
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, bits, wait=True)
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.restore_one(abstract(), "best").step == 2
        assert checkpoints.restore_one(abstract(), "latest").step == 5
        state = checkpoints.restore_one(abstract(), "4")
        assert_same(state, at_step(4))
        for which in ("3", "first"):
            with pytest.raises(InputError, match=which):
                checkpoints.restore_one(abstract(), which)


def test_a_checkpoint_of_a_stop_goes_with_the_next_and_takes_no_others_place(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step, kept in ((2, [2]), (4, [2, 4]), (5, [2, 4, 5]), (7, [2, 4, 7]), (8, [4, 8])):
            stop = step % 2 == 1
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, wait=True, of_a_stop=stop)
            assert checkpoints.steps() == kept


def cut_one_array(folder: Path) -> None:
    path = max((folder / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(path, path.stat().st_size // 2)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def cut_everything(folder: Path) -> None:
    """As a machine may leave it that lost its power."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def flip_a_bit(state: TrainState) -> TrainState:
    """The lowest of one weight of the moving average: finite, and as near as can be."""
    leaves, structure = jax.tree.flatten(state.ema)
    bits = np.asarray(leaves[0]).view(np.uint32).copy()
    bits.ravel()[-1] ^= 1
    return state._replace(ema=jax.tree.unflatten(structure, [jax.numpy.asarray(bits.view(np.float32)), *leaves[1:]]))


def flip(folder: Path) -> None:
    """Puts the arrays of a state with such a bit in the place of those that were saved, whole in every other way."""
    other = folder.parents[1] / "flipped"
    with Checkpoints(other) as checkpoints:
        checkpoints.save(flip_a_bit(at_step(int(folder.name))), empty_metrics(), {"next_index": 0}, wait=True)
    shutil.rmtree(folder / "state")
    shutil.move(other / folder.name / "state", folder)
    shutil.rmtree(other)


def damage_digests(folder: Path) -> None:
    (folder / "digests" / "metadata").write_bytes(b'["\xff')


FILES = ("state/_METADATA", "state/manifest.ocdbt", "data/metadata")
DAMAGES = (
    damage,
    flip,
    damage_digests,
    cut_one_array,
    empty,
    cut_everything,
    *(functools.partial(without, name) for name in FILES),
)


def test_damaged_newest_falls_back_and_is_set_aside(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "whole", keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, bits_per_dim=3.0, wait=True)
    for k, damage_it in enumerate(DAMAGES):
        folder = tmp_path / str(k) / "c"
        shutil.copytree(tmp_path / "whole", folder)
        damage_it(folder / "2")
        with Checkpoints(folder, keep=3) as checkpoints:
            restored = checkpoints.restore(abstract(), abstract_metrics(), iterator)
            assert restored is not None
            assert_same(restored[0], at_step(1))
            assert "the checkpoint of step 2 cannot be read" in restored[2][-1]
            assert "resuming from step 1" in restored[2][-1]
            if k == 0:
                # Its step can be made and saved again.
                checkpoints.save(at_step(2), empty_metrics(), {"next_index": 2}, wait=True)
                assert checkpoints.restore_one(abstract()).step == 2
        assert (folder.parent / "checkpoints_unreadable" / "2").is_dir()


@pytest.mark.parametrize("lost", ["running", "data"])
def test_what_was_half_deleted_goes_when_the_run_goes_on(tmp_path: Path, iterator: Any, lost: str) -> None:
    """Orbax deletes file by file, and may be killed on the way: 1 is the best, 2 is kept, 3 is of a stop."""
    with Checkpoints(tmp_path / "c", keep=4) as checkpoints:
        for step, bits in ((1, 1.0), (2, None), (3, None), (4, 3.0)):
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, bits, wait=True, of_a_stop=step == 3)
            if step == 3:
                shutil.copytree(tmp_path / "c" / "3", tmp_path / "3")
    shutil.rmtree(tmp_path / "3" / lost)
    shutil.move(tmp_path / "3", tmp_path / "c")
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3, 4]
        assert checkpoints.restore(abstract(), abstract_metrics(), iterator) is not None
        assert checkpoints.steps() == [1, 2, 4]
    assert {path.name for path in (tmp_path / "c").glob("[0-9]*")} == {"1", "2", "4"}


def test_saving_leaves_the_preemption_service_alone(
    tmp_path: Path, iterator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts the calls that all processes make: those of `parallel.share_signals`."""

    def called(step: int) -> bool:
        pytest.fail(f"asked at {step}")

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", called)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, wait=True)


def test_bits_per_dim_cut_short_cost_their_checkpoint_only_its_rank(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for step, bits in ((1, 1.0), (2, 2.0), (3, 3.0)):
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, bits, wait=True)
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text('{"bits')
    with pytest.raises(InputError, match=r"1/metrics/metrics: not valid JSON \(.*\); vdm train repairs it"):
        Checkpoints(tmp_path / "c", read_only=True)
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        restored = checkpoints.restore(abstract(), abstract_metrics(), iterator)
        assert restored is not None
        assert restored[0].step == 3
        assert restored[2] == ["the bits/dim of checkpoint 1 cannot be read: it cannot be the best one"]
        assert checkpoints.restore_one(abstract(), "best").step == 2


def test_bits_per_dim_may_come_after_the_rest(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1})
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, 1.0)
        # Those that there are stay.
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, 9.0)
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(at_step(2), empty_metrics(), {"next_index": 2}, 2.0)
        checkpoints.save(at_step(3), empty_metrics(), {"next_index": 3}, 3.0, wait=True)
        assert checkpoints.steps() == [1, 3]
        assert checkpoints.restore_one(abstract(), "best").step == 1


def test_evaluating_a_damaged_one_is_refused_and_changes_nothing(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(at_step(step), empty_metrics(), {"next_index": step}, wait=True)
    flip(tmp_path / "c" / "2")
    like = abstract()
    for part in (like, Trained(like.step, like.ema, like.proposal)):
        with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
            with pytest.raises(
                InputError, match=r"2: cannot be read \(1 of \d+ digests differ, first state/ema/\S+\).*\[1\]"
            ):
                checkpoints.restore_one(part)
            assert checkpoints.restore_one(part, "1").step == 1
    damage(tmp_path / "c" / "2")
    before = files(tmp_path)
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints, pytest.raises(InputError, match=r"\[1\]"):
        checkpoints.restore_one(like)
    assert files(tmp_path) == before


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}


def test_a_checkpoint_of_an_earlier_version_is_read_without_digests(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, wait=True)
    shutil.rmtree(tmp_path / "c" / "1" / "digests")
    with Checkpoints(tmp_path / "c") as checkpoints:
        restored = checkpoints.restore(abstract(), abstract_metrics(), iterator)
        assert restored is not None
        assert_same(restored[0], at_step(1))
        assert restored[2] == ["the checkpoint of step 1 has no digests: its arrays cannot be verified"]
        assert checkpoints.restore_one(abstract()).step == 1


def test_another_architecture_is_refused_by_name(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, wait=True)
        with pytest.raises(InputError, match=r"another architecture: .*has shape \(24,\), the config makes \(48,\)"):
            checkpoints.restore(abstract(channels=8), abstract_metrics(), iterator)
        with pytest.raises(InputError, match="has shape none"):
            checkpoints.restore_one(abstract(depth=2))
        other = abstract(channels=8)
        with pytest.raises(InputError, match="another architecture: ema/network"):
            checkpoints.restore_one(Trained(other.step, other.ema, other.proposal))
        assert checkpoints.steps() == [1]


def test_an_unfinished_save_is_not_a_checkpoint(tmp_path: Path, iterator: Any) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(at_step(1), empty_metrics(), {"next_index": 1}, wait=True)
    (tmp_path / "c" / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == [1]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.*vdm train"):
        Checkpoints(tmp_path / "nothing", read_only=True)


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {here!r})
import test_checkpoints as t
from pathlib import Path
import numpy as np
from vdm.data import in_memory, train_iterator
images = np.zeros((16, 4, 4, 1), np.uint8)
iterator = train_iterator(in_memory({{"image": images}}, {{"image": images}}), batch_size=8, seed=0)
with t.Checkpoints(Path({folder!r}), keep=3) as checkpoints:
    checkpoints.save(t.at_step(1), t.empty_metrics(), iterator.get_state(), wait=True)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        checkpoints.save(t.at_step(2), t.empty_metrics(), iterator.get_state(), wait=True)
    except t.InputError as error:
        print("REFUSED", error)
    print("STEPS", checkpoints.steps())
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, iterator: Any) -> None:
    """Files may not grow beyond 2000 bytes in a process of its own: writing fails as on a full disk."""
    folder = tmp_path / "c"
    script = FULL_DISK.format(here=str(Path(__file__).parent), folder=str(folder))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "REFUSED" in result.stdout, result.stderr
    assert "disk is full" in result.stdout
    assert "STEPS [1]" in result.stdout
    with Checkpoints(folder, keep=3) as checkpoints:
        assert_same(checkpoints.restore_one(abstract()).ema, at_step(1).ema)
