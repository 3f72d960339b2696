"""Known mistakes are refused and named."""

from functools import cache
from itertools import combinations

import pytest

from effnet_utils import grading
from effnet_utils._grading.mistakes import MISTAKES
from effnet_utils.grading import grade
from tests._grading.answers import LAYERS

pytestmark = pytest.mark.usefixtures("working_folder")  # a grader stores progress there


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in LAYERS])
def test_each_known_mistake_is_refused_and_named_alone(name):
    """The mistakes themselves, and so at least six wrong answers for each grader."""
    assert len(MISTAKES[name]) >= 6
    for sentence in MISTAKES[name]:
        report = grade(name, grading._mistaken(name, sentence))
        assert not report
        assert report.message.endswith(f"\nIt looks as if {sentence}."), report.message


@cache
def outcome(name, sentence, number):
    """What a mistake, or the reference for None, gives in a grader's case."""
    case, expected = grading._expected(name)[number]
    return dict(grading._observe(case, grading._mistaken(name, sentence))) if sentence else expected


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_the_known_mistakes_of_a_block_differ_from_the_reference_and_from_each_other(name):
    """So each of them is refused and named alone; the wrong blocks below show the messages."""
    assert len(MISTAKES[name]) >= 14
    for one, other in combinations([None, *MISTAKES[name]], 2):
        numbers = range(len(grading._expected(name)))
        assert not all(grading._equal(outcome(name, one, n), outcome(name, other, n)) for n in numbers), (one, other)


def test_a_mistake_needs_its_right_text_in_the_source(monkeypatch):
    monkeypatch.setitem(MISTAKES["swish"], "nothing", [("no such text", "")])
    with pytest.raises(ValueError, match="'no such text' is not in the source of _swish"):
        grading._mistaken("swish", "nothing")
