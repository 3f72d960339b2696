"""Check built pages: no page loads anything from another site, and every link within the site leads somewhere.

python -m tools.site_check site/_build/html
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

from tools import links

# What a browser fetches while it shows a page. A link to follow (<a href>) is not among them.
LOADED = ("src", "poster", "data", "background")
LOADING_LINKS = set("stylesheet icon preload prefetch modulepreload preconnect dns-prefetch manifest".split())
OUTSIDE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
IN_CSS = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s;]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"""(?:\bimport\b\s*\(?|\bfrom|\bfetch\(|importScripts\(|\.src\s*=)\s*["'`]((?:https?:)?//[^"'`]+)"""
)


class Page(HTMLParser):
    """A page's ``ids``, its ``links`` and what it loads from ``outside``."""

    def __init__(self, text):
        super().__init__()
        self.ids = {"top"}
        self.links = []
        self.outside = []
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        self.inside = tag
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.outside += IN_CSS.findall(given.get("style", ""))
        loaded = [given[name] for name in LOADED if name in given]
        loaded += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        if tag == "link" and set(given.get("rel", "").lower().split()) & LOADING_LINKS:
            loaded.append(given.get("href", ""))
        if tag in ("use", "image"):
            loaded += [given.get("href", ""), given.get("xlink:href", "")]
        self.outside += [url for url in loaded if OUTSIDE.match(url)]
        self.links += [url for url in loaded if url]
        if tag in ("a", "area") and "href" in given:
            self.links.append(given["href"])

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        patterns = {"style": IN_CSS, "script": IN_SCRIPT}
        if self.inside in patterns:
            self.outside += patterns[self.inside].findall(data)


def problems(folder):
    """What is wrong with the site in ``folder``: a list of lines, empty when all is well."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        if path.parent.name != "_static":
            pages[path] = Page(path.read_text(encoding="utf-8"))
    if not pages:
        return [f"{folder} holds no page"]
    found = []
    for path, page in pages.items():
        found += [f"{path.relative_to(folder)}: loads {url}" for url in page.outside]
    for suffix, pattern in ((".css", IN_CSS), (".js", IN_SCRIPT)):
        for path in sorted(folder.rglob(f"*{suffix}")):
            urls = pattern.findall(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(folder)}: loads {url}" for url in urls]

    def ids(path):
        return pages[path].ids if path in pages else None

    for path, page in pages.items():
        for link in page.links:
            target = f"{link}index.html" if link.endswith("/") else link
            if wrong := links.problem(path, target, ids):
                found.append(f"{path.relative_to(folder)}: {wrong}")
    return found


def main():
    folder = Path(sys.argv[1]).resolve()
    wrong = problems(folder)
    if wrong:
        sys.exit("\n".join(wrong))
    files = [path for path in folder.rglob("*") if path.is_file()]
    pages = sum(path.suffix == ".html" for path in files)
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{folder}: {pages} pages, {megabytes:.1f} MB, nothing from outside")


if __name__ == "__main__":
    main()
