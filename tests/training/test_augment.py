"""Each image is chosen, flipped and shifted as its numbers say; the same for the same seed."""

import numpy as np
import pytest
from keras import ops

from effnet_utils.training.augment import Batches, augment
from effnet_utils.training.recipe import Recipe


def some_images(n=6, channels=3):
    """Images of 8x10 pixels that no flip makes alike."""
    return np.random.default_rng(3).integers(0, 256, (n, 8, 10, channels), dtype=np.uint8)


def augmented(images, index, flip=0, shift=0):
    n = len(index)
    flips = np.broadcast_to(flip, n).astype(np.int32)
    shifts = np.broadcast_to(shift, (n, 2)).astype(np.int32)
    found = ops.convert_to_numpy(augment(images, np.asarray(index, np.int32), flips, shifts))
    assert (found.dtype, found.shape) == (np.uint8, (n, *images.shape[1:]))
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_it_takes_the_images_that_are_asked_for(channels):
    images = some_images(channels=channels)
    np.testing.assert_array_equal(augmented(images, [5, 2, 5]), images[[5, 2, 5]])


def test_it_flips_left_to_right():
    images = some_images()
    found = augmented(images, [0, 1, 2], flip=[1, 0, 1])
    np.testing.assert_array_equal(found, np.stack([images[0][:, ::-1], images[1], images[2][:, ::-1]]))


@pytest.mark.parametrize("flip", [0, 1])
def test_it_shifts_with_reflection(flip):
    """As NumPy pads: the edge itself is not doubled."""
    images = some_images()
    shifts = np.array([[-3, -3], [3, 3], [0, 0], [-7, 5], [4, -1], [2, -9]])
    found = augmented(images, range(6), flip, shifts)
    for image, original, (row, column) in zip(found, images, shifts, strict=True):
        padded = np.pad(original, ((7, 7), (9, 9), (0, 0)), mode="reflect")
        if flip:
            padded = padded[:, ::-1]
        np.testing.assert_array_equal(image, padded[7 + row : 15 + row, 9 + column : 19 + column])


def batches_of(n=12, batch_size=4, seed=0, **recipe):
    """The label is the image's number."""
    return Batches(np.arange(n), batch_size, n, Recipe(**{"translate": 0} | recipe), seed)


def one_epoch(batches):
    """({name: all numbers of the epoch}, labels), and on to the next epoch."""
    parts = [batches[number] for number in range(len(batches))]
    batches.on_epoch_end()
    inputs = {name: np.concatenate([part[name] for part, _ in parts]) for name in ("index", "flip", "shift")}
    return inputs, np.concatenate([targets for _, targets in parts]).argmax(axis=1)


@pytest.mark.parametrize(("n", "used"), [(12, 12), (11, 8), (4, 4)])
def test_batches_have_one_shape_and_use_no_image_twice(n, used):
    batches = batches_of(n)
    inputs, targets = batches[0]
    assert {name: (values.dtype, values.shape) for name, values in inputs.items()} == {
        "index": (np.int32, (4,)),
        "flip": (np.int32, (4,)),
        "shift": (np.int32, (4, 2)),
    }
    assert (targets.dtype, targets.shape) == (np.float32, (4, n)) and (targets.sum(axis=1) == 1).all()
    for _ in range(3):
        inputs, labels = one_epoch(batches)
        assert len(set(inputs["index"])) == used
        np.testing.assert_array_equal(inputs["index"], labels)


def test_each_image_is_flipped_in_every_other_epoch():
    batches = batches_of(40)
    epochs = [dict(zip(inputs["index"], inputs["flip"], strict=True)) for inputs, _ in map(one_epoch, [batches] * 3)]
    assert 5 < sum(epochs[0].values()) < 35
    assert epochs[1] == {image: 1 - flip for image, flip in epochs[0].items()}
    assert epochs[2] == epochs[0]
    assert not one_epoch(batches_of(40, flip=False))[0]["flip"].any()


def test_each_image_has_a_shift_of_its_own():
    inputs, _ = one_epoch(batches_of(400, batch_size=400, translate=1))
    assert {tuple(shift) for shift in inputs["shift"]} == {(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}


def test_batches_repeat_for_a_seed_and_differ_between_epochs():
    one = batches_of(translate=2)
    same = batches_of(translate=2)
    epochs = [one_epoch(one) for _ in range(3)]
    for inputs, labels in epochs:
        again, labels_again = one_epoch(same)
        np.testing.assert_array_equal(labels, labels_again)
        for name in inputs:
            np.testing.assert_array_equal(inputs[name], again[name])
    other = one_epoch(batches_of(translate=2, seed=1))
    assert len({tuple(labels) for _, labels in [*epochs, other]}) == 4


EXPECTED = {
    "labels": [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1],
    "flip": [0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
    "shift": [[2, 1], [0, -1], [-1, -2], [-2, -2], [2, 0], [-2, -1], [1, 0], [1, -1], [-1, 1], [-1, 0], [0, 1], [0, 2]],
}


def test_the_numbers_of_a_seed_stay_what_they_are():
    """Records were made with them."""
    inputs, labels = one_epoch(batches_of(translate=2))
    assert labels.tolist() == EXPECTED["labels"]
    assert inputs["flip"].tolist() == EXPECTED["flip"]
    assert inputs["shift"].tolist() == EXPECTED["shift"]


def test_shards_are_the_parts_of_a_batch():
    batches = batches_of(translate=2)
    batches.restart(3)
    whole, targets = batches[1]
    parts = [batches.sharded(number, 2)[1] for number in range(2)]
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([part[name] for part, _ in parts]), whole[name])
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), targets)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"batch_size is 13\b.* only 12 images"):
        batches_of(12, batch_size=13)
    with pytest.raises(ValueError, match="labels are 0 to 5; expected 0 to 4"):
        Batches(np.arange(6), 2, 5, Recipe())
