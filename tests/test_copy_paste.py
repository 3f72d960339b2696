"""Each function of blocks.py and scaling.py works in an empty file, with what its ``Copy with:`` line names."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# The README says it; each file of a copied function begins with it.
HEADER = "import math\nfrom dataclasses import dataclass\nimport keras\nfrom keras import layers\n"

# What is done with each function. `sample` gives layers' names, shapes of weights and the mean of the output.
SAMPLE = """
def sample(build, channels=16):
    inputs = keras.Input((8, 8, channels))
    model = keras.Model(inputs, build(inputs))
    for weight in model.weights:
        weight.assign(keras.ops.reshape(keras.ops.linspace(0.1, 1.0, math.prod(weight.shape)), weight.shape))
    output = model(keras.ops.ones((2, 8, 8, channels)))
    names = [f"{layer.name} {[weight.shape for weight in layer.weights]}" for layer in model.layers[1:]]
    return [names, list(output.shape), float(keras.ops.mean(output))]
"""
USES = {
    "swish": "float(swish(keras.ops.convert_to_tensor(2.0)))",
    "se_block": "sample(lambda x: se_block(x, 4))",
    "inverted_residual_block": "sample(lambda x: inverted_residual_block(x, 16))",
    "BlockArgs": "str(BlockArgs(3, 1, 16, 16, 6))",
    "mbconv_block": "sample(lambda x: mbconv_block(x, BlockArgs(3, 1, 16, 16, 6), drop_rate=0.1, name='a_'))",
    "round_filters": "[round_filters(filters, 1.2) for filters in (16, 32, 320)]",
    "round_repeats": "round_repeats(3, 1.4)",
    "compound_coefficients": "compound_coefficients(2)",
    "count_macs": "count_macs(keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Dense(2)]))",
}


def definitions(path):
    """{name: source} of the module's functions, classes and constants; {name: docstring} of the public ones."""
    text, sources, documents = path.read_text(), {}, {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            sources[node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
            if not node.name.startswith("_"):
                documents[node.name] = ast.get_docstring(node)
        elif isinstance(node, ast.Assign):
            sources[node.targets[0].id] = ast.get_source_segment(text, node)
    return sources, documents


def named(docstring):
    """What a ``Copy with:`` line names."""
    names = re.search(r"Copy with: ([^.]*)\.", docstring)[1]
    return [] if names == "nothing" else re.split(r",\s+", names)


SOURCES, NAMED = {}, {}
for module in ("blocks", "scaling"):
    found, documents = definitions(ROOT / "effnet_utils" / f"{module}.py")
    SOURCES |= found
    NAMED |= {name: named(docstring) for name, docstring in documents.items()}

# In a process where the package cannot be imported: what each file leaves as its result.
RUNNER = """
import json, runpy, sys
sys.modules["effnet_utils"] = None
results = []
for path in sys.argv[1:]:
    try:
        results.append(runpy.run_path(path)["result"])
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")
print("results:" + json.dumps(results))
"""


def copied(name, parts):
    """A file that holds the function, what goes with it, and its use."""
    pieces = [SOURCES[part] for part in (*parts, name)]
    return "\n\n\n".join([HEADER, *pieces, SAMPLE, f"result = {USES[name]}\n"])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What comes out of each function {name: ...}, and with one of the named parts left out {(name, part): ...}."""
    texts = {name: copied(name, parts) for name, parts in NAMED.items()}
    texts |= {
        (name, part): copied(name, [other for other in parts if other != part])
        for name, parts in NAMED.items()
        for part in parts
    }
    texts["the package"] = "import effnet_utils\nresult = 0"
    folder = tmp_path_factory.mktemp("copies")
    paths = [folder / f"copy_{number}.py" for number in range(len(texts))]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    # -I: Python looks neither in the working folder nor in PYTHONPATH.
    command = [sys.executable, "-I", "-c", RUNNER, *map(str, paths)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(texts, json.loads(done.stdout.rpartition("results:")[2]), strict=True))


def test_every_public_name_is_used():
    assert set(USES) == set(NAMED)
    assert HEADER.strip().replace("\n", "`, `") in README


@pytest.mark.parametrize("name", USES)
def test_works_alone_as_in_the_package(name, results):
    import effnet_utils.blocks
    import effnet_utils.scaling

    namespace = {**vars(effnet_utils.blocks), **vars(effnet_utils.scaling)}
    exec(f"{SAMPLE}\nresult = {USES[name]}", namespace)
    assert results[name] == json.loads(json.dumps(namespace["result"]))


def test_nothing_is_named_in_vain_and_the_package_is_out_of_reach(results):
    """A function without one of the parts fails by that part's name: the pieces do not find each other elsewhere."""
    for key, result in results.items():
        if isinstance(key, tuple):
            assert result == f"NameError: name '{key[1]}' is not defined", key
    assert results["the package"].startswith("ModuleNotFoundError")
