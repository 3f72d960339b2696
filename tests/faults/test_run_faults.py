"""The faults runner starts tests by their names."""

import pytest

from tests.faults import run_faults
from tools.notebooks import ROOT


@pytest.mark.parametrize("test", [*run_faults.SHORT.values(), run_faults.FUZZING])
def test_the_test_exists(test):
    file, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
