"""Training batches: every image once an epoch, seeded, sharded, resumable. Evaluation: every image exactly once."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vdm.data import Dataset, DatasetInfo, evaluation_batches, examples, in_memory, selected, train_iterator
from vdm.errors import InputError, WorkerDied


def dataset(num: int = 30, shape: tuple[int, int, int] = (4, 4, 3)) -> Dataset:
    """Image i has the label i, and that value at the top left of each channel; its pixels tell all symmetries apart."""
    pixels = 100 + np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    images = np.repeat(pixels[None], num, axis=0)
    images[:, 0, 0, :] = np.arange(num)[:, None]
    arrays = {"image": images, "label": np.arange(num)}
    return in_memory(train=arrays, test={name: array[:2] for name, array in arrays.items()})


def take(iterator, num: int) -> np.ndarray:
    return np.concatenate([batch["image"] for batch in itertools.islice(iterator, num)])


def identities(images: np.ndarray) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_batches_have_the_contract_shape_and_type():
    batch = next(train_iterator(dataset(), batch_size=6, seed=0))
    assert batch.keys() == {"image", "label"}
    assert batch["image"].shape == (6, 4, 4, 3)
    assert batch["image"].dtype == np.uint8
    assert (batch["label"].shape, batch["label"].dtype) == ((6,), np.int32)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_label_of_an_image_stays_with_it(num_workers):
    iterator = train_iterator(dataset(), batch_size=7, seed=1, augmentations=("rotate90",), num_workers=num_workers)
    for batch in itertools.islice(iterator, 9):
        rotated = np.stack([np.rot90(batch["image"], k, axes=(1, 2))[:, 0, 0, 0] for k in range(4)])
        # Pixels from 100 on tell the corners apart.
        assert batch["label"].tolist() == rotated.min(axis=0).tolist()
    iterator.close()


@pytest.mark.parametrize("batch_size", [5, 7, 30])
def test_each_epoch_has_every_image_once_and_an_order_of_its_own(batch_size):
    order = identities(take(train_iterator(dataset(), batch_size=batch_size, seed=3), 90 // batch_size + 1))
    epochs = [order[start : start + 30] for start in (0, 30, 60)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(30))
        assert epoch != list(range(30))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_seed_decides_the_order():
    first, same, other = (identities(take(train_iterator(dataset(), batch_size=10, seed=s), 6)) for s in (1, 1, 2))
    assert first == same
    assert first != other


@pytest.mark.parametrize("process_count", [2, 3])
def test_processes_make_the_same_global_batches_as_one(process_count):
    options = {"batch_size": 6, "seed": 5, "augmentations": ("flip", "rotate90", "swap_channels")}
    whole = take(train_iterator(dataset(), **options), 10).reshape(10, 6, 4, 4, 3)
    parts = [
        take(train_iterator(dataset(), **options, process_index=p, process_count=process_count), 10)
        for p in range(process_count)
    ]
    blocks = [part.reshape(10, 6 // process_count, 4, 4, 3) for part in parts]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_state_resumes_to_the_bit_across_epochs_with_any_number_of_workers(num_workers, digits):
    options = {"batch_size": 700, "seed": 9, "augmentations": ("flip",)}
    unbroken = train_iterator(digits, **options)
    expected = take(unbroken, 4)
    broken = train_iterator(digits, **options, num_workers=num_workers)
    next(broken)
    state = json.loads(json.dumps(broken.get_state()))
    broken.close()
    resumed = train_iterator(digits, **options, num_workers=num_workers)
    resumed.set_state(state)
    assert resumed.get_state() == state
    np.testing.assert_array_equal(take(resumed, 3), expected[700:])
    assert resumed.get_state() == unbroken.get_state()
    resumed.close()


class Reader:
    """Images that tell which process read them."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": np.frombuffer(os.getpid().to_bytes(4, "little"), np.uint8).reshape(2, 2, 1)}


def test_a_worker_that_is_killed_is_named_and_the_state_is_kept():
    info = DatasetInfo("pids", "1", (2, 2, 1), 256, 64, 64, "train", "test", "none")
    iterator = train_iterator(Dataset(info, Reader(), Reader()), batch_size=4, seed=0, num_workers=2)
    taken = [next(iterator)["image"] for _ in range(3)]
    pids = [int.from_bytes(batch[0].tobytes(), "little") for batch in taken]
    assert pids[0] == pids[2] != pids[1]
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(WorkerDied, match="data worker 2 of 2 was killed by SIGKILL; run the same command"):
        taken.extend(batch["image"] for batch in iterator)
    assert iterator.get_state() == {"next_index": len(taken)}
    iterator.close()


ALONE = r"""
import os, re, signal, sys
sys.path.insert(0, {here!r})
import test_pipeline as t
if __name__ == "__main__":
    info = t.DatasetInfo("pids", "1", (2, 2, 1), 256, 64, 64, "train", "test", "none")
    iterator = t.train_iterator(t.Dataset(info, t.Reader(), t.Reader()), batch_size=4, seed=0, num_workers=1)
    pid = int.from_bytes(next(iterator)["image"][0].tobytes(), "little")
    # From its start, so that Ctrl-C, which a terminal sends to all, is for the main process alone.
    blocked = int(re.search(r"SigBlk:\s*(\w+)", t.Path(f"/proc/{{pid}}/status").read_text())[1], 16)
    assert all(blocked >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print(pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    script = tmp_path / "alone.py"
    script.write_text(ALONE.format(here=str(Path(__file__).parent)))
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert result.returncode == -signal.SIGKILL, result.stderr
    worker = Path("/proc") / result.stdout.strip()
    deadline = time.monotonic() + 60
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists()


def test_going_back_to_a_state(digits):
    iterator = train_iterator(digits, batch_size=500, seed=9)
    state = iterator.get_state()
    expected = take(iterator, 4)
    iterator.set_state(state)
    np.testing.assert_array_equal(take(iterator, 4), expected)


def test_augmentations_differ_between_images_and_epochs():
    images = take(train_iterator(dataset(30), batch_size=30, seed=0, augmentations=("flip",)), 4)
    corners = images[:, 0, 0, 0].reshape(4, 30)
    flipped = corners >= 100  # the numbered pixel left the corner
    assert all(0 < row.sum() < 30 for row in flipped)
    numbers = np.where(flipped, images[:, 0, -1, 0].reshape(4, 30), corners)
    by_image = np.take_along_axis(flipped, np.argsort(numbers, axis=1), axis=1)
    assert (by_image[0] != by_image[1]).any()
    assert (by_image[1] != by_image[2]).any()


def test_no_augmentation_unless_asked_for():
    data = dataset(30)
    images = take(train_iterator(data, batch_size=30, seed=0), 1)
    np.testing.assert_array_equal(images[np.argsort(images[:, 0, 0, 0])], examples(data.train, range(30))["image"])


def test_state_is_kept_in_an_orbax_checkpoint(tmp_path):
    iterator = train_iterator(dataset(), batch_size=4, seed=0)
    take(iterator, 11)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(11, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        expected = take(iterator, 4)
        restored = train_iterator(dataset(), batch_size=4, seed=0)
        manager.restore(11, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(restored)))
    np.testing.assert_array_equal(take(restored, 4), expected)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("training.batch_size: 0 ", {"batch_size": 0}),
        ("training.batch_size: -4 ", {"batch_size": -4}),
        ("training.batch_size: 31 exceeds the 30 ", {"batch_size": 31}),
        ("training.batch_size: 5 is not divisible by the 2 ", {"batch_size": 5, "process_count": 2}),
        ("seed: -1 ", {"batch_size": 2, "seed": -1}),
        ("data.num_workers: -1 ", {"batch_size": 2, "num_workers": -1}),
        ("data.augmentations: 'blur' ", {"batch_size": 2, "augmentations": ("blur",)}),
    ],
)
def test_bad_arguments_are_refused_in_one_line(field, options):
    with pytest.raises(InputError) as error:
        train_iterator(dataset(), **{"seed": 0, **options})
    assert str(error.value).startswith(field)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("count", "batch_size", "process_count"), [(10, 4, 1), (10, 4, 2), (8, 4, 4), (3, 8, 4), (9, 3, 3)]
)
def test_evaluation_sees_every_image_once_over_all_processes(count, batch_size, process_count):
    source = dataset(count).train
    images = examples(source, range(count))["image"]
    seen, lengths = [], set()
    for process_index in range(process_count):
        batches = list(evaluation_batches(source, batch_size, process_index=process_index, process_count=process_count))
        lengths.add(len(batches))
        for batch in batches:
            assert batch["image"].shape == (batch_size // process_count, 4, 4, 3)
            assert batch["image"].dtype == np.uint8
            assert batch["mask"].dtype == bool
            assert batch["index"].dtype == np.int32
            np.testing.assert_array_equal(batch["index"] == -1, ~batch["mask"])
            real = batch["index"][batch["mask"]]
            np.testing.assert_array_equal(batch["image"][batch["mask"]], images[real])
            np.testing.assert_array_equal(batch["label"], np.where(batch["mask"], batch["index"], 0))
            assert not batch["image"][~batch["mask"]].any()
            seen += real.tolist()
    assert sorted(seen) == list(range(count))
    assert lengths == {-(-count // batch_size)}


def test_evaluation_of_some_images_only():
    batches = list(evaluation_batches(dataset(10).train, 4, max_images=5))
    padded = [*selected(10, 5).tolist(), -1, -1, -1]
    assert np.concatenate([batch["index"] for batch in batches]).tolist() == padded
    assert len(list(evaluation_batches(dataset(10).train, 4, max_images=99))) == 3


@pytest.mark.parametrize(("batch_size", "process_count"), [(0, 1), (5, 2)])
def test_evaluation_refuses_a_bad_batch_size_at_once(batch_size, process_count):
    with pytest.raises(InputError, match=f"evaluation.batch_size: {batch_size} is not"):
        evaluation_batches(dataset().train, batch_size, process_count=process_count)
