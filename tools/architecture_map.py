"""The drawing of B0 on the site's first page: a map whose parts say what they are when a reader presses them.

Without scripts it is a picture; site/_static/architecture.js makes it a map.
"""

import ast
import inspect
import tomllib
from html import escape

from effnet_utils import model
from tools.architecture import drawing, parts
from tools.notebooks import NOTEBOOKS, ROOT, number_of, read, title_of

# What is no block: its name, what it does, and what only the line of code has that makes it.
OTHERS = {
    "image": ("Image", "pixels 0 to 255 become 0 to 1", "x = _preprocess("),
    "stem": ("Stem", "3×3 convolution, stride 2", ', "stem")'),
    "head": ("Head", "1×1 convolution", ', "top")'),
    "classifier": ("Classifier", "mean over all positions, then a dense layer", "x = _classify("),
}
API = "api/blocks.html#effnet_utils.blocks.mbconv_block"


def code_line(part):
    """(number, text) of the line of effnet_utils/model.py that makes a part; for a block its stage's row."""
    source = inspect.getsource(model)
    lines = source.splitlines()
    if part.args:
        (rows,) = [
            node.value.elts
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign) and node.targets[0].id == "B0_BLOCKS"
        ]
        number = rows[int(part.name[0]) - 1].lineno
    else:
        (number,) = [number for number, line in enumerate(lines, 1) if OTHERS[part.name][2] in line]
    return number, lines[number - 1].strip().rstrip(",")


def title_and_operation(part):
    if not part.args:
        return OTHERS[part.name][:2]
    args = part.args
    operation = [f"MBConv: kernel {args.kernel_size}×{args.kernel_size}, stride {args.strides}"]
    operation.append(f"expansion ratio {args.expand_ratio}" if args.expand_ratio > 1 else "no expansion")
    operation += ["SE block"] * bool(args.se_ratio)
    operation.append("skip connection" if part.skip else "no skip connection")
    return f"Block {part.name}, in {part.group}", ", ".join(operation)


def shape(numbers):
    return " × ".join(f"{number:,}" for number in numbers)


def link(number):
    """A link to a notebook, with its title."""
    (path,) = [path for path in NOTEBOOKS if number_of(path) == number]
    return f'<a href="notebooks/{path.stem}.html">{escape(title_of(read(path)))}</a>'


def about(part, repository):
    """What the map says about a part, as HTML."""
    title, operation = title_and_operation(part)
    number, line = code_line(part)
    address = f"{repository}/blob/main/effnet_utils/model.py#L{number}"
    code = f'<code>{escape(line)}</code> (<a href="{address}">effnet_utils/model.py, line {number}</a>)'
    explained = link("05")
    if part.args:
        code += f', built by <a href="{API}"><code>mbconv_block</code></a>'
        if not part.name.endswith("a"):
            code += f"; as a repeat, with stride 1 and {part.args.input_filters} input channels"
        explained = f"{link('04')}; its parts: {', '.join(map(link, ('01', '02', '03')))}"
    rows = {
        "Operation": operation,
        "Input": shape(part.input_shape),
        "Output": shape(part.output_shape),
        "Parameters": f"{part.parameters:,}",
        "MACs": f"{part.macs:,}",
        "Code": code,
        "Explained in": explained,
    }
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
    return (
        f'<template data-part="{part.name}" data-title="{title}">'
        f"<p><strong>{title}</strong></p><dl>{cells}</dl></template>"
    )


def site_map():
    """The two drawings, and what is said about each part, as MyST's raw HTML."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = "\n".join(about(part, project["urls"]["Repository"]) for part in parts())
    return f"""```{{raw}} html
<div id="architecture">
{drawing()}{drawing(tall=True)}
<p class="hint" id="architecture-hint" hidden>
Press a part to see its shapes, its cost and its code. With the keyboard: arrow keys and Enter.</p>
<div class="about" aria-live="polite"></div>
{told}
</div>
<script src="_static/architecture.js"></script>
```"""
