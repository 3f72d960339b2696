"""What graders say, and the progress that they store."""

import json
import math
import os

import keras
import pytest
from keras import layers, ops

from effnet_utils import grading
from effnet_utils._grading.cases import GRADERS
from effnet_utils.blocks import se_block
from effnet_utils.grading import grade
from tests._grading.answers import sigmoid

pytestmark = pytest.mark.usefixtures("working_folder")  # a grader stores progress there


# --- What a message says --------------------------------------------------------------------------------------------


def test_the_first_call_that_differs_is_shown_with_its_arguments():
    report = grade("round_filters", lambda filters, width: max(8, int(filters * width + 4) // 8 * 8))
    assert report.message.startswith("round_filters: not yet. ")
    assert " of 135 calls differ; the first is\n  round_filters(16, 1.2)\n" in report.message
    assert "\n  channels: expected 24, found 16\n" in report.message
    assert repr(report) == report.message


def test_a_function_that_works_on_arrays_only_is_told_so_and_nothing_else():
    report = grade("swish", lambda x: x * sigmoid(x))
    assert report.message == (
        "swish: not yet. 1 of 51 calls differ; the first is\n  swish(keras.Input((5,)))\n"
        "  It works on arrays, but not inside a network: use keras.ops in place of np or tf."
    )


def test_missing_weights_are_listed():
    report = grade(
        "se_block", lambda x, n: x * layers.Dense(x.shape[-1], "sigmoid")(ops.mean(x, (1, 2), keepdims=True))
    )
    assert "  trainable parameters: expected" in report.message
    assert "  weights: missing are bias " in report.message


def test_an_exception_is_told_with_its_arguments_and_line():
    def se_block(x, squeeze_filters):
        y = layers.GlobalAveragePooling2D()(x)
        return layers.Reshape((1, 1, squeeze_filters))(y)

    line = se_block.__code__.co_firstlineno + 2
    report = grade("se_block", se_block)
    assert not report
    assert "  Your function raised ValueError: Exception encountered when calling Reshape.call()" in report.message
    assert f"\n  in line {line}: return layers.Reshape((1, 1, squeeze_filters))(y)" in report.message
    assert "the first is\n  se_block(x, " in report.message and ") with x of shape (None, " in report.message


def test_a_graph_without_the_input_is_told():
    report = grade("se_block", lambda x, n: keras.Input((3, 3, 1)))
    assert "Your function raised ValueError" in report.message


def not_written(*arguments, **options):
    """A body that is still to be written."""
    ...


def raises_not_implemented(*arguments, **options):
    raise NotImplementedError


@pytest.mark.parametrize("name", GRADERS)
@pytest.mark.parametrize("function", [not_written, raises_not_implemented, lambda *arguments, **options: ...])
def test_not_written_yet(name, function, working_folder):
    report = grade(name, function)
    assert not report
    assert report.message.startswith(f"{name}: not written yet; ")
    assert list(working_folder.iterdir()) == []


def test_a_function_without_result_that_does_nothing_is_told_what_it_should_do():
    report = grade("unfreeze", lambda model, first: None)
    assert report.message == (
        "unfreeze: not written yet; it changes no layer's `trainable`. Write its body in place of `...`."
    )


def test_an_unknown_name_lists_the_graders():
    report = grade("se", se_block)
    assert not report
    assert report.message == f"There is no grader 'se'; there are {', '.join(GRADERS)}."
    assert grade(se_block).message.startswith("There is no grader <function se_block")
    assert grade(["se_block"], se_block).message.startswith("There is no grader ['se_block']; ")


@pytest.mark.parametrize("thing", [24, None, layers.ReLU()])
def test_something_else_than_a_function(thing):
    report = grade("swish", thing)
    assert not report
    assert "expected the function itself, grade('swish', swish); found " in report.message


# --- Progress -------------------------------------------------------------------------------------------------------


def test_progress_counts_tries_until_a_pass(working_folder):
    grade("round_repeats", lambda repeats, depth: round(repeats * depth))
    assert "06        round_repeats            not yet     1\n" in grade.progress().message
    for _ in range(2):
        grade("round_repeats", lambda repeats, depth: math.ceil(repeats * depth))
    grade("round_repeats", lambda repeats, depth: 0)
    progress = grade.progress()
    assert not progress
    assert "06        round_repeats            yes         2\n" in progress.message
    assert progress.message.endswith(f"1 of {len(GRADERS)} passed")
    assert [path.name for path in working_folder.iterdir()] == ["progress.json"]


def test_progress_is_true_when_everything_has_passed(working_folder):
    stored = {name: {"tries": 1, "passed": True} for name in GRADERS}
    (working_folder / "progress.json").write_text(json.dumps(stored))
    assert grade.progress()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"swish": 3}', '{"swish": {"tries": "many", "passed": true}}', "\xff"]
)
def test_a_damaged_progress_file_is_replaced_with_a_sentence(text, working_folder):
    (working_folder / "progress.json").write_text(text, encoding="latin-1")
    assert "progress.json is damaged" in grade.progress().message
    report = grade("swish", keras.activations.swish)
    assert report
    assert "progress.json is damaged; it starts again from nothing." in report.message
    assert json.loads((working_folder / "progress.json").read_text()) == {"swish": {"tries": 1, "passed": True}}


def test_a_folder_that_cannot_be_written_is_told(monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(grading.tempfile, "NamedTemporaryFile", refuse)
    report = grade("swish", keras.activations.swish)
    assert report
    assert report.message.endswith("Progress is not stored: progress.json can't be written (Permission denied).")


def test_a_progress_file_that_cannot_be_read_is_told(working_folder):
    (working_folder / "progress.json").mkdir()
    assert "progress.json can't be read (Is a directory)." in grade.progress().message
    report = grade("swish", keras.activations.swish)
    assert report and report.message.endswith("progress.json can't be replaced (Is a directory).")
    assert os.listdir(working_folder) == ["progress.json"]
