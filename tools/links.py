"""One check of a link for the Markdown that contributors write (lint.py) and for the site's pages (site_check.py)."""

from urllib.parse import unquote, urlsplit


def problem(page, target, anchors):
    """What is wrong with a link to a file of the project.

    Args:
        page: Path of the file that holds the link.
        target: text of the link.
        anchors: function that takes a Path and returns the names that ``#...`` may have there, None for any name.

    Returns:
        str, empty for a link to another site and for one to an existing file and place.
    """
    url = urlsplit(target)
    if url.scheme or url.netloc:
        return ""
    file = (page.parent / unquote(url.path)).resolve() if url.path else page
    if not file.exists():
        return f"{target} leads nowhere; correct it"
    known = anchors(file)
    fragment = unquote(url.fragment)
    if fragment and known is not None and fragment not in known:
        return f"{file.name} has no heading #{fragment}; it has {', '.join(sorted(known))}"
    return ""
