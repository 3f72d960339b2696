"""The examples in the docstrings give what they show, and the public functions have one each."""

import doctest
import inspect
from importlib import import_module

import pytest

import effnet_utils
from tools.site_pages import MODULES, dotted

pytestmark = pytest.mark.slow  # every example of every docstring

# One needs the downloaded images, the other executes a notebook.
WITHOUT_EXAMPLE = {"load_cifar10", "run_notebook"}
WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=dotted)
def test_examples_give_what_they_show(path):
    found = doctest.testmod(import_module(f"effnet_utils.{dotted(path)}"))
    assert found.attempted and not found.failed


def test_every_public_function_has_an_example():
    public = {name: getattr(effnet_utils, name) for name in effnet_utils.__all__}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    assert {name for name, value in functions.items() if ">>> " not in value.__doc__} == WITHOUT_EXAMPLE
