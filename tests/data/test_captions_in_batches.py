"""Captions stay with their images: shuffled, in workers, resumed, on several processes, evaluated, and padded."""

import itertools

import numpy as np
import pytest

from vdm.data import Dataset, evaluation_batches, in_memory, train_iterator
from vdm.data.texts import Captioned, captions_in, encoded, fit
from vdm.errors import InputError

NUM = 30


def dataset(several: bool = True) -> Dataset:
    """Image i is the value i everywhere, and its captions say so: one, two or three, or one each."""
    images = np.repeat(np.arange(NUM, dtype=np.uint8), 16).reshape(NUM, 4, 4, 1)
    texts = [tuple(f"{k:02} {word}" for word in ("a", "b", "c")[: 1 + several * (k % 3)]) for k in range(NUM)]
    split = {"image": images, "text": texts}
    return encoded(in_memory(train=split, test={"image": images[::-1], "text": texts[::-1]}), "bytes(length=8)")


def says(tokens: np.ndarray) -> str:
    return bytes((tokens[tokens > 0] - 1).tolist()).decode()


def pairs(batch) -> list[tuple[int, str]]:
    """The value of each image, and what its caption says."""
    return [(int(image.max()), says(text)) for image, text in zip(batch["image"], batch["text"], strict=True)]


def assert_together(batch) -> None:
    for value, caption in pairs(batch):
        assert int(caption[:2]) == value
        assert "abc".index(caption[3]) <= value % 3


@pytest.mark.parametrize("several", [True, False], ids=["several", "one"])
def test_a_caption_stays_with_its_image_in_training(several):
    iterator = train_iterator(dataset(several), batch_size=7, seed=1, augmentations=("rotate90",))
    for batch in itertools.islice(iterator, 9):
        assert (batch["text"].dtype, batch["text"].shape) == (np.int32, (7, 8))
        assert_together(batch)


def test_each_caption_of_an_image_is_as_likely():
    batches = itertools.islice(train_iterator(dataset(), batch_size=NUM, seed=0), 20)
    drawn = [caption[3] for batch in batches for value, caption in pairs(batch) if value % 3 == 2]
    counts = np.array([drawn.count(word) for word in "abc"])
    expected = len(drawn) / 3
    # Four standard errors of a count.
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected * 2 / 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_resumes_with_the_same_captions(num_workers):
    whole = train_iterator(dataset(), batch_size=4, seed=5)
    batches = [next(whole) for _ in range(12)]
    resumed = train_iterator(dataset(), batch_size=4, seed=5, num_workers=num_workers)
    resumed.set_state({"next_index": 8})
    for batch in batches[8:]:
        again = next(resumed)
        np.testing.assert_array_equal(again["image"], batch["image"])
        np.testing.assert_array_equal(again["text"], batch["text"])
        assert_together(again)
    resumed.close()


def test_processes_share_the_captions_of_one_global_batch():
    whole = next(train_iterator(dataset(), batch_size=8, seed=2))
    parts = [next(train_iterator(dataset(), batch_size=8, seed=2, process_index=k, process_count=2)) for k in range(2)]
    np.testing.assert_array_equal(np.concatenate([part["text"] for part in parts]), whole["text"])


def test_evaluation_has_the_first_caption_and_padding_is_nothing():
    batches = [*evaluation_batches(dataset().test, 8)]
    assert len(batches) == 4
    for batch in batches:
        there = batch["mask"]
        found = pairs({name: entry[there] for name, entry in batch.items()})
        assert found == [(NUM - 1 - index, f"{NUM - 1 - index:02} a") for index in batch["index"][there]]
        assert not batch["text"][~there].any()
    chosen = next(evaluation_batches(dataset().test, 5, max_images=5))
    assert [caption for _, caption in pairs(chosen)] == [f"{NUM - 1 - index:02} a" for index in chosen["index"]]


def test_each_split_is_encoded_by_the_training_captions():
    split = {"image": np.zeros((2, 4, 4, 1), np.uint8)}
    data = in_memory({**split, "text": ["ab ab", "ab"]}, {**split, "text": ["cd cd", "ab"]})
    text = encoded(data, "bpe(vocabulary=300, length=4)").text
    assert text.state["merges"] == [["a", "b"], ["Ġ", "ab"]]
    assert text.unknown("cd ab") == ["cd"]
    # A run's own comes again, whatever the data.
    again = encoded(data, fit("bytes(length=3)", ["x"]))
    assert (again.text.name, again.test[0]["text"].shape) == ("bytes(length=3)", (3,))


def test_captions_that_are_cut_are_counted():
    split = {"image": np.zeros((3, 4, 4, 1), np.uint8), "text": ["a", "abcde", ("abc", "abcdef")]}
    notes = encoded(in_memory(split, split), "bytes(length=4)").info.notes
    assert notes == ("of 4 captions, 2 are too long for bytes(length=4) and lose their end",)
    assert encoded(in_memory(split, split), "bytes(length=6)").info.notes == ()


def test_images_are_not_read_for_captions_that_are_known():
    class Unread:
        captions = [("a",), ("b", "c")]  # noqa: RUF012

        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise AssertionError("was read")

    captioned = Captioned(Unread(), fit("bytes(length=2)", ["a"]))
    assert captioned.every(1).tolist() == [[99, 0], [100, 0]]


def test_an_image_without_a_caption_among_others_is_refused():
    elements = [{"image": np.zeros((4, 4, 1), np.uint8), "text": text} for text in (("a",), ())]
    assert captions_in(elements) == [("a",), ()]
    with pytest.raises(InputError, match="element 1 has no caption"):
        Captioned(elements, fit("bytes", ["a"]))
