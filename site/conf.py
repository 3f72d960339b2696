"""How Sphinx makes the site out of what tools/site_pages.py has put together; `make docs` runs both."""

import json
import os
import re
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

# Before autodoc imports the package.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = html_title = "EfficientNet, built step by step"
copyright = "the contributors, Apache-2.0"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]

smartquotes = False  # docstrings quote values as Python writes them

# The committed outputs are what is shown.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
copybutton_selector = "div.cell_input pre, div.highlight-default pre, div.highlight-python pre"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
napoleon_use_rtype = False
# Names of other packages: their inventories would have to be downloaded. Private names have no description.
nitpick_ignore_regex = [(r"py:.*", r"(?!effnet_utils).*"), (r"py:.*", r".*\._\w+")]

# tools/site_pages.py has put MathJax 3 into _build/static.
html_static_path = ["_static", "_build/static"]
mathjax_path = "mathjax/tex-chtml.js"
# The menu would load parts that are not there; what screen readers read stays.
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
templates_path = ["_templates"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "navbar_persistent": [],  # the search field is in the sidebar
    "max_navbar_depth": 1,
    "show_toc_level": 2,
    "footer_content_items": ["copyright.html"],
}

# The repository itself may not be public yet.
linkcheck_ignore = [re.escape(REPOSITORY), "https://colab.research.google.com/github/"]

BADGE = "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"


def for_the_site(app, name, source):
    """A notebook's text as the site shows it: no picture from elsewhere, and links that lead to pages."""
    text = source[0].replace(BADGE, "[Open in Colab]").replace("](../records)", "](../results.md)")
    text = text.replace("](../README.md#results)", "](../results.md)")
    text = text.replace("](../README.md#what-you-can-rely-on)", "](../speed.md)")
    # These files are in the repository alone.
    source[0] = re.sub(r"\]\(\.\./((?:data/)?README\.md|tests/)", rf"]({REPOSITORY}/blob/main/\1", text)


def give_alt_text_and_width(app, tree):
    """Each figure gets the alt text and the width that its notebook holds; MyST-NB passes them over."""
    path = Path(app.env.doc2path(app.env.current_document.docname))
    if path.suffix != ".ipynb":
        return
    outputs = [output for cell in json.loads(path.read_text())["cells"] for output in cell.get("outputs", ())]
    about = [output["metadata"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    parts = [part for part in tree.findall(nodes.container) if "cell_output" in part["classes"]]
    shown = [image for part in parts for image in part.findall(nodes.image)]
    for image, known in zip(shown, about, strict=True):
        image["alt"] = known["alt"]
        if "width" in known:
            image["width"] = f"{known['width']}px"


def terms_of_notebooks(glossary):
    """What a search should find in a notebook first: {notebook: terms that the glossary's text sends there}.

    Beside the whole terms there are their first words, of six letters or more, where such a word leads to one notebook
    alone: "depthwise" of "depthwise convolution".
    """
    notebook_of = {}
    for entry in re.split(r"\n\n(?=\S)", glossary[glossary.index("```{glossary}") :].split("\n", 1)[1]):
        term, text = entry.split("\n", 1)
        if link := re.search(r"notebooks/(\w+)\.ipynb", text):
            notebook_of[term.lower()] = link[1]
    of_words = {}
    for term, notebook in notebook_of.items():
        if word := re.match(r"[a-z]{6,}", term):
            of_words.setdefault(word[0], set()).add(notebook)
    found = {}
    for term, notebooks in (of_words | {term: {notebook} for term, notebook in notebook_of.items()}).items():
        if len(notebooks) == 1:
            found.setdefault(*notebooks, []).append(term)
    return found


def put_terms_into_the_search(app, tree, name):
    """Sphinx's search ranks an entry of an index above all other matches; here only the search sees these entries."""
    glossary = (Path(app.srcdir) / "glossary.md").read_text(encoding="utf-8")
    terms = terms_of_notebooks(glossary).get(name.removeprefix("notebooks/"), ())
    tree += addnodes.index(entries=[("single", term, "", "main", None) for term in terms])


def keep_returns_whole(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in "Returns:" for a type; here it is text with dicts in it."""
    for title, field in (("Returns:", ":returns:"), ("Yields:", ":Yields:")):
        if title in lines:
            start = lines.index(title)
            lines[start : start + 2] = [f"{field} {lines[start + 1].strip()}"]


def setup(app):
    app.connect("autodoc-process-docstring", keep_returns_whole, priority=400)  # before Napoleon's 500
    app.connect("source-read", for_the_site)
    app.connect("doctree-read", give_alt_text_and_width)
    app.connect("doctree-resolved", put_terms_into_the_search)
