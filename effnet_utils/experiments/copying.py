"""One file with a public function and all that it needs: ``python -m effnet_utils copy efficientnet > net.py``.

The parts are found in the syntax trees of the package's modules; nothing is imported or run. This relies on how these
modules are written: they import names from each other (``from effnet_utils.blocks import se_block``), never a module,
and what they define at top level are functions, classes and constants.
"""

import ast
import re
import symtable
import sys
from collections import namedtuple
from functools import cache
from pathlib import Path

from effnet_utils import __version__

PACKAGE = Path(__file__).parents[1]
# In an order in which each needs only those before it.
MODULES = (
    "_flat", "files", "datasets", "evaluation", "blocks", "scaling", "pretrained", "model", "parity", "deploy",
    "transfer", "inspection",
)  # fmt: skip

# What names mean in a module. By name: source of a definition; which of our modules it is imported from; for an import
# from elsewhere both ends of the statement, such as ("from keras import", "layers").
Module = namedtuple("Module", ("definitions", "ours", "imports"))


def copy_source(name):
    """The text of a Python file with a public function or class of this package, which needs no other part of it.

    Args:
        name: of a function or class in a module of the top level, such as "efficientnet".

    Returns:
        str: a comment with project, version and licence; imports; definitions in the order of their modules.

    Raises:
        ValueError: there is no such function or class; the message lists those that there are.
    """
    homes = public_names()
    if name not in homes:
        names = ", ".join(sorted(homes))
        raise ValueError(f"cannot copy {name!r}, which is no public function or class; there are: {names}")
    wanted = {}
    imports = set()
    _collect(homes[name], name, wanted, imports)
    parts = [f"# {name}, copied from effnet-utils {__version__}, licensed under Apache-2.0.\n\n{_statements(imports)}"]
    for module in MODULES:
        parts += [text for each, text in _read(module).definitions.items() if wanted.get(each) == module]
    return "\n\n\n".join(part.rstrip() for part in parts) + "\n"


def public_names():
    """{name: module} of all that can be copied."""
    homes = {}
    for module in MODULES:
        for name, text in _read(module).definitions.items():
            is_constant = isinstance(ast.parse(text).body[0], ast.Assign)
            if not name.startswith("_") and not is_constant:
                homes[name] = module
    return homes


@cache
def _read(module):
    lines = (PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join(lines))
    found = Module({}, {}, {})
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("effnet_utils."):
            found.ours.update({alias.name: node.module.removeprefix("effnet_utils.") for alias in node.names})
            # The definitions take the place of the import and of the blank line behind it.
            blank = lines[node.end_lineno : node.end_lineno + 1] == [""]
            for number in range(node.lineno - 1, node.end_lineno + blank):
                lines[number] = None
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            start = "import" if isinstance(node, ast.Import) else f"from {node.module} import"
            for alias in node.names:
                found.imports[(alias.asname or alias.name).split(".")[0]] = (start, ast.unparse(alias))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.definitions[node.name] = _text(lines, node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                found.definitions[target.id] = _text(lines, node)
    return found


def _text(lines, node):
    """A definition with its decorators and the comment above it."""
    first = min(part.lineno for part in [node, *getattr(node, "decorator_list", [])]) - 1
    while first > 0 and (lines[first - 1] or "").startswith("#"):
        first -= 1
    return "\n".join(line for line in lines[first : node.end_lineno] if line is not None)


def _collect(module, name, wanted, imports):
    """Add what a module means by a name, and all that it refers to: to ``wanted`` {name: module} or to ``imports``."""
    found = _read(module)
    if name in found.ours:
        _collect(found.ours[name], name, wanted, imports)
    elif name in found.imports:
        imports.add(found.imports[name])
    elif name in found.definitions and wanted.get(name) != module:
        if name in wanted:
            raise ValueError(f"{wanted[name]}.py and {module}.py both define {name}; rename one of the two")
        wanted[name] = module
        # A docstring may name more: the class of an argument.
        named = re.search(r"Copy with: ([\w,\s]+)\.", found.definitions[name])
        others = re.split(r",\s+", named[1]) if named else []
        for other in [*others, *_globals(symtable.symtable(found.definitions[name], module, "exec"))]:
            _collect(module, other, wanted, imports)


def _globals(table):
    """Names that a piece of code uses and does not define."""
    top = table.get_type() == "module"
    names = {each.get_name() for each in table.get_symbols() if each.is_referenced() and (top or each.is_global())}
    return names.union(*(_globals(inner) for inner in table.get_children()))


def _statements(imports):
    """Import statements, one for each module, the standard library's first."""
    lines = [f"import {name}" for start, name in sorted(imports) if start == "import"]
    for start in sorted({start for start, _ in imports} - {"import"}):
        lines.append(f"{start} {', '.join(sorted(name for each, name in imports if each == start))}")
    standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*standard, "", *(line for line in lines if line not in standard)]).strip()
