"""Figures that a reader can operate: HTML and JavaScript, one self-contained file each, for notebooks and pages.

A file NAME.html holds a style, the markup and a script, in this order. The script finds in ``root`` the markup, in
``values`` what was computed in Python, and in ``get(id)`` and ``draw(parent, tag, attributes)`` two short helpers; all
four are defined in ``_frame.js``, which also puts the figure into the page. Nothing is loaded from anywhere.
"""

import base64
import json
import re
from pathlib import Path

from effnet_utils import plots

HERE = Path(__file__).parent


def names():
    """The names of the figures: strings, sorted."""
    return sorted(path.stem for path in HERE.glob("*.html"))


def html(name, **values):
    """A figure as a piece of HTML: one script that builds everything, so that nothing is left where no script runs.

    Args:
        name: one of ``names()``.
        values: what the figure's script reads as ``values.key``: anything that JSON can hold; NumPy arrays become
            lists, bytes Base64.

    Returns:
        str, the same for the same values. The script hides the image before it in the page.

    Raises:
        ValueError: there is no such figure.
    """
    if name not in names():
        raise ValueError(f"there is no figure {name!r}; figures: {', '.join(names())}")
    markup, script = (HERE / f"{name}.html").read_text(encoding="utf-8").removesuffix("</script>\n").split("<script>\n")
    parts = {"MARKUP;": _for_a_script(markup) + ";", "VALUES;": _for_a_script(values) + ";", "SCRIPT;": script}
    frame = (HERE / "_frame.js").read_text(encoding="utf-8")
    text = re.sub("|".join(parts), lambda found: parts[found[0]], frame)
    return f"<script>\n{text}</script>"


def show(name, fig, alt, **values):
    """Show a figure that the reader can operate where scripts run, and an image in its place elsewhere.

    The image comes first, so that GitHub and a notebook that is not trusted show it; the script hides it.

    Args:
        name, values: as in ``html``.
        fig: matplotlib Figure, the image.
        alt: str, what the image shows.

    Raises:
        ValueError: there is no such figure, or ``alt`` is empty.
    """
    from IPython.display import HTML, display

    text = html(name, **values)
    plots.show(fig, alt)
    display(HTML(text))


def _for_a_script(value):
    """JSON that may be inside a script element: nothing in it ends the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def _plain(value):
    """What JSON does not know: bytes, and NumPy's arrays and numbers."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.tolist()
