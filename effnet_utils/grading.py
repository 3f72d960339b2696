"""Graders: check the functions that readers of the notebooks write, and say what is wrong with them.

A reader's cell ends in ``grade("se_block", se_block)``, which shows the first call whose results differ from the
reference's, with its arguments, and names the mistake where it is a known one.

Functions that build layers are compared as models with the same random weights. Weights are matched by what they are
(kernel, bias, gamma, ...), by their shape without axes of size 1, and by their order in the model. So a layer may have
any name, and a Dense layer may replace a 1x1 convolution; a layer of the reader's own must name its weights as Keras
does.
"""

import inspect
import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np

from effnet_utils._grading.cases import GRADERS, NotWritten
from effnet_utils._grading.exam import CHECKS, check_classes
from effnet_utils._grading.mistakes import MISTAKES
from effnet_utils.model import efficientnet

PROGRESS = "progress.json"  # in the working folder, which is the notebook's
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")  # TensorFlow puts them into its messages
CLOSE = 1e-4  # largest difference that counts as equal, as a fraction of the largest expected number (at least 0.01)


@dataclass(frozen=True, repr=False)
class Report:
    """What a grader says. Jupyter shows the message; the report is true where the function passed."""

    passed: bool
    message: str

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return self.message


def _close(expected, found):
    """Arrays of the same shape whose largest difference is small beside the largest expected number."""
    if expected.shape != found.shape:
        return False
    if not np.isfinite(expected).all():  # a known mistake divides by 0
        return np.array_equal(expected, found, equal_nan=True)
    return np.allclose(found, expected, rtol=0, atol=CLOSE * max(np.abs(expected).max(initial=0), 0.01))


def _same(expected, found):
    """Whether two results, or two exceptions, count as equal."""
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        return _close(expected, found)
    return type(expected) is type(found) and (isinstance(expected, Exception) or expected == found)


def _equal(expected, found):
    """Whether two functions gave the same {what is compared: value}."""
    return expected.keys() == found.keys() and all(_same(expected[what], found[what]) for what in found)


def _observe(case, function):
    """What a case yields; at its end (None, the exception that the function raised, or None)."""
    error = None
    try:
        with np.errstate(all="ignore"):
            yield from case.observe(function)
    except Exception as raised:
        error = raised
    yield None, error


def _agree(case, function, found):
    """Whether a function gives {what is compared: value}; looks no further than the first difference."""
    return all(what in found and _same(value, found[what]) for what, value in _observe(case, function))


def _takes(function, name):
    """Whether a function has this argument."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions that are not written in Python do not say
        return False
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


@cache
def _expected(name):
    """[(case, {what is compared: the reference's value})] of a grader; kept for the reader's next try."""
    grader = GRADERS[name]
    return [(case, dict(_observe(case, grader.reference))) for case in grader.make_cases()]


@cache
def _mistaken(name, sentence):
    """The reference with one known mistake."""
    reference = GRADERS[name].reference
    source = inspect.getsource(reference)
    for right, wrong in MISTAKES[name][sentence]:
        if right not in source:
            raise ValueError(f"{name}, {sentence!r}: {right!r} is not in the source of {reference.__name__}")
        source = source.replace(right, wrong)
    namespace = dict(vars(sys.modules[reference.__module__]))
    exec(source, namespace)
    return namespace[reference.__name__]


def _compare(name, function):
    """Report on a function: the first case that differs from the reference's, and the mistakes that explain it."""
    tried = [pair for pair in _expected(name) if all(_takes(function, argument) for argument in pair[0].optional)]
    outcomes = []
    wrong = []
    for number, (case, expected) in enumerate(tried):
        found = dict(_observe(case, function))
        if isinstance(found[None], (NotWritten, NotImplementedError)):
            raise found[None]
        outcomes.append(found)
        if not _equal(expected, found):
            wrong.append(number)
    if not wrong:
        images = sum(case.images for case, _ in tried)
        text = f"{len(tried)} calls" + (f" with {images} random images" if images else "")
        return Report(True, f"{name}: passed. In {text}, all results are those of the reference.")

    case, expected = tried[wrong[0]]
    found = outcomes[wrong[0]]
    lines = [f"{name}: not yet. {len(wrong)} of {len(tried)} calls differ; the first is\n  {case.call}"]
    if found[None]:
        lines.append(f"  {_raised(found[None], function)}")
        if isinstance(found[None], TypeError):
            lines.append(f"  The expected signature is {name}({GRADERS[name].signature})")
    for what, value in found.items():
        if what is not None and what not in expected:
            lines.append(f"  {what}: {f'shape {value.shape}' if isinstance(value, np.ndarray) else value}")
        elif what is not None and not _same(expected[what], value):
            lines.append(f"  {what}{_difference(expected[what], value, case.x)}")
    # The call that differs first: most of the known mistakes are ruled out by it alone.
    numbers = sorted(range(len(tried)), key=lambda number: number != wrong[0])
    mistakes = []
    for sentence in MISTAKES[name]:
        mistaken = _mistaken(name, sentence)
        if all(_agree(tried[number][0], mistaken, outcomes[number]) for number in numbers):
            mistakes.append(sentence)
    if mistakes:
        lines.append(f"It looks as if {', or '.join(mistakes)}.")
    return Report(False, "\n".join(lines))


def _difference(expected, found, x):
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        if expected.shape != found.shape:
            return f": expected shape {expected.shape}, found {found.shape}"
        index = np.unravel_index(np.argmax(np.nan_to_num(np.abs(found - expected), nan=np.inf)), expected.shape)
        place = f", largest difference at [{', '.join(map(str, index))}]" if index else ""
        if x is not None:
            place += f", where x is {x[index]:.5g}"
        return f"{place}: expected {expected[index]:.5g}, found {found[index]:.5g}"
    if isinstance(expected, list) and isinstance(found, list):
        missing = ", ".join((Counter(expected) - Counter(found)).elements()) or "none"
        surplus = ", ".join((Counter(found) - Counter(expected)).elements()) or "none"
        return f": missing are {missing}; not expected are {surplus}"
    texts = [f"{value:,}" if type(value) is int else str(value) for value in (expected, found)]
    kind = "" if type(expected) is type(found) else f" of type {type(found).__name__}"
    return f": expected {texts[0]}, found {texts[1]}{kind}"


def _raised(error, function):
    """A sentence on an exception: its type and message, and the last line inside the reader's code."""
    text = " ".join(COLOUR_CODES.sub("", str(error)).split())
    if len(text) > 300:
        text = f"{text[:300]} ..."
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename
    ]
    where = f"\n  in line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"Your function raised {type(error).__name__}: {text}{where}"


def _exam(name, build):
    """Report on a function that builds B0: all that is known about it, one line each."""
    try:
        model = build(classes=1000) if _takes(build, "classes") else build()
    except NotImplementedError:
        raise
    except Exception as error:
        return Report(False, f"{name}: not yet. {_raised(error, build)}")
    if model is None or model is Ellipsis:
        raise NotWritten
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        text = f"expected a functional keras.Model, keras.Model(inputs, outputs); found {type(model).__name__}"
        return Report(False, f"{name}: not yet. {text}")
    shapes = (tuple(model.input.shape), tuple(model.output.shape))
    expected = ((None, 224, 224, 3), (None, 1000))
    if shapes != expected:
        return Report(False, f"{name}: not yet. Shapes of input and output: expected {expected}, found {shapes}")
    reference = efficientnet("b0")
    results = []
    for check in CHECKS:
        results += check(model, reference)
    if _takes(build, "classes"):
        results += check_classes(build)
    passed = all(ok for _, ok, _ in results)
    lines = [f"{name}: {'passed' if passed else 'not yet'}"]
    lines += [f"  {title:15} {'right' if ok else 'wrong'}  {text}" for title, ok, text in results]
    return Report(passed, "\n".join(lines))


class Grade:
    """``grade(name, function)`` checks a reader's function and never raises; ``grade.progress()`` shows what passed."""

    def __call__(self, name, function=None):
        """Compare a function with the reference.

        Blocks are compared as 14 to 16 models with 56 random images or more; all other functions, "b0" aside, in 50
        calls or more. Cases are the same each time.

        Args:
            name: str, one of GRADERS: the name that the function has in the notebooks.
            function: of the signature that the notebook gives.

        Returns:
            Report. It is shown when it is the last expression of a cell, and true where the function passed.
        """
        if not isinstance(name, str) or name not in GRADERS:
            return Report(False, f"There is no grader {name!r}; there are {', '.join(GRADERS)}.")
        if not callable(function) or isinstance(function, keras.layers.Layer):
            text = f"expected the function itself, grade({name!r}, {name}); found {type(function).__name__}"
            return Report(False, f"{name}: not yet; {text}.")
        try:
            report = _exam(name, function) if name == "b0" else _compare(name, function)
        except (NotWritten, NotImplementedError):
            return Report(False, f"{name}: not written yet; {GRADERS[name].unwritten}.")
        except Exception as error:
            report = Report(False, f"{name}: not yet. It could not be checked: {type(error).__name__}: {error}")
        return Report(report.passed, report.message + _note(name, report.passed))

    def progress(self):
        """A table of the graders and their notebooks: passed or not yet, and the number of tries until then."""
        tries, trouble = _read_progress()
        lines = ["notebook  exercise                 passed  tries"]
        for name, grader in GRADERS.items():
            entry = tries.get(name, {"tries": 0, "passed": False})
            passed = "yes" if entry["passed"] else "not yet"
            lines.append(f"{grader.notebook:8}  {name:23}  {passed:7}  {entry['tries']:4}")
        passed = sum(entry["passed"] for entry in tries.values())
        lines.append(f"{passed} of {len(GRADERS)} passed{trouble}")
        return Report(passed == len(GRADERS), "\n".join(lines))


def _read_progress():
    """({grader: {"tries": int, "passed": bool}}, a sentence about what is wrong with the file)."""
    path = Path(PROGRESS)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        tries = {}
        for name in GRADERS.keys() & stored.keys():
            tries[name] = {"tries": int(stored[name]["tries"]), "passed": bool(stored[name]["passed"])}
        return tries, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"\n{PROGRESS} can't be read ({error.strerror})."
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}, f"\n{PROGRESS} is damaged; it starts again from nothing."


def _note(name, passed):
    """Store a try atomically; returns a sentence where that fails. A grader that has passed stays passed."""
    tries, trouble = _read_progress()
    entry = tries.setdefault(name, {"tries": 0, "passed": False})
    if not entry["passed"]:
        entry["tries"] += 1
    entry["passed"] = entry["passed"] or passed
    try:
        with tempfile.NamedTemporaryFile("w", dir=".", prefix=f".{PROGRESS}-", delete=False) as file:
            json.dump(tries, file, indent=1)
    except OSError as error:
        return f"{trouble}\nProgress is not stored: {PROGRESS} can't be written ({error.strerror})."
    try:
        os.replace(file.name, PROGRESS)
    except OSError as error:
        os.unlink(file.name)
        return f"{trouble}\nProgress is not stored: {PROGRESS} can't be replaced ({error.strerror})."
    return trouble


grade = Grade()
