"""Copied code works without the package: by ``copy_source``, and by hand as the ``Copy with:`` lines say."""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from effnet_utils import efficientnet
from effnet_utils.experiments import copying
from effnet_utils.experiments.copying import copy_source
from effnet_utils.scaling import VARIANTS

pytestmark = pytest.mark.slow  # each test runs what was copied in a process of its own

USE = (Path(__file__).parents[1] / "site" / "use.md").read_text()


def complaints(text, rules):
    """What ruff says of a Python file."""
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--select", rules, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return done.stdout + done.stderr


# --- copy_source ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", copying.public_names())
def test_a_copy_is_complete(name):
    text = copy_source(name)
    assert re.match(rf"# {name}, copied from effnet-utils [\d.]+, licensed under Apache-2\.0\.\n", text)
    defined = {node.name for node in ast.parse(text).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert name in defined and not re.search(r"^\s*(from|import) effnet_utils", text, re.MULTILINE)
    # Unused imports, undefined and redefined names.
    assert complaints(text, "F401,F811,F821") == ""


def test_a_copy_keeps_decorators_and_comments_and_takes_no_more_than_it_needs():
    text = copy_source("mbconv_block")
    assert "# Initialisation: normal" in text and "@dataclass(frozen=True)\nclass BlockArgs:" in text
    assert text.index("def se_block") < text.index("def mbconv_block") and "def swish" not in text
    assert "\nimport keras" not in text and "\nfrom keras import layers\n" in text


def test_a_name_that_cannot_be_copied_is_refused():
    with pytest.raises(ValueError, match="cannot copy 'efficientnets', .* there are: BlockArgs, .*efficientnet, "):
        copy_source("efficientnets")


def test_two_definitions_of_one_name_are_refused(monkeypatch):
    modules = {
        "blocks": copying.Module({"a": "def a(): return b(), c()", "c": "def c(): pass"}, {"b": "model"}, {}),
        "model": copying.Module({"b": "def b(): return c()", "c": "def c(): return 1"}, {}, {}),
    }
    monkeypatch.setattr(copying, "_read", lambda module: modules.get(module, copying.Module({}, {}, {})))
    with pytest.raises(ValueError, match=r"(blocks.py and model.py|model.py and blocks.py) both define c; rename"):
        copy_source("a")


def build_some(build):
    """All layers with their settings and connections; they are Keras's own, so equal layers compute the same."""
    networks = {}
    for variant in ("b0", "b3", "lite0"):  # B3 rounds; the others differ from it in their rows of VARIANTS
        keras.backend.clear_session()
        networks[variant] = build(variant, input_shape=(32, 32, 3), classes=10).to_json()
    return networks


def test_the_copied_efficientnet_builds_the_same_networks(tmp_path):
    (tmp_path / "net.py").write_text(copy_source("efficientnet"))
    script = f"""
import json, sys
import keras
sys.modules["effnet_utils"] = None  # cannot be imported
import net
{inspect.getsource(build_some)}
json.dump([build_some(net.efficientnet), net.VARIANTS], open("found.json", "w"))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    networks, variants = json.loads((tmp_path / "found.json").read_text())
    assert networks == build_some(efficientnet)
    assert variants == {name: list(row) for name, row in VARIANTS.items()}


# --- By hand: the Copy with: lines ------------------------------------------------------------------------------------

# Each file with a copied function begins with these imports; the site says so.
HEADER = "import math\nfrom dataclasses import dataclass\nimport keras\nfrom keras import layers\n"


@pytest.mark.parametrize("name", [n for n, module in copying.public_names().items() if module in ("blocks", "scaling")])
def test_a_copy_by_hand_lacks_nothing(name):
    definitions = copying._read("blocks").definitions | copying._read("scaling").definitions
    named = re.search(r"Copy with: ([^.]*)\.", definitions[name])[1]
    others = [] if named == "nothing" else re.split(r",\s+", named)
    assert complaints("\n\n".join([HEADER, *(definitions[each] for each in [*others, name])]), "F821") == ""
    # Nothing is named in vain; a class is that of an argument.
    code = definitions[name].replace(f"Copy with: {named}", "")
    for other in others:
        assert re.search(rf"\b{other}\b", code), other


def test_the_readme_says_which_imports_are_above():
    assert HEADER.strip().replace("\n", "`, `") in " ".join(USE.split())
