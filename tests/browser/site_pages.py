"""The built site as a reader's browser shows it: every page whole and readable, search and keyboard at work.

Needs site/_build/html; `make test-browser` makes it.
"""

import functools
import http.server
import json
import re
import threading
from urllib.parse import urlsplit

import pytest

from tests.browser.looking import not_drawn, pictures
from tools import architecture, architecture_map
from tools.notebooks import NOTEBOOKS, ROOT

HTML = ROOT / "site" / "_build" / "html"
FOUND = [path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html")) if path.parent.name != "_static"]
# The pages with the modules' source are all made alike: one stands for them.
PAGES = [name for name in FOUND if "_modules/" not in name or name.endswith("/blocks.html")]
assert PAGES, f"no pages in {HTML}; make docs"
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

# What reaches beyond the right edge, unless a part around it scrolls or hides it.
OVERFLOWING = """() => {
    const held = element => {
        for (let each = element.parentElement; each; each = each.parentElement) {
            if (each !== document.body && getComputedStyle(each).overflowX !== "visible") return true;
        }
        return false;
    };
    const root = document.documentElement;
    if (Math.max(root.scrollWidth, document.body.scrollWidth) <= root.clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(
        each => each.getBoundingClientRect().right > root.clientWidth + 1 && !held(each));
    return [`${root.scrollWidth} pixels wide: ` + wide.map(each => each.outerHTML.slice(0, 100)).join(" ... ")];
}"""
# What a reader has to scroll sideways, without what may need it.
SCROLLING = """() => [...document.querySelectorAll(".bd-article *")]
    .filter(each => ["auto", "scroll"].includes(getComputedStyle(each).overflowX) && each.checkVisibility()
        && each.scrollWidth > each.clientWidth && !each.closest("pre, mjx-container")
        && !each.matches(".pst-scrollable-table-container, .highlight"))
    .map(each => each.outerHTML.slice(0, 100))"""
# Colours and places that are still on their way to where they will be; what never ends stays as it is.
SETTLE = """() => document.getAnimations()
    .filter(each => each.effect.getComputedTiming().endTime < Infinity).forEach(each => each.finish())"""
FOCUSED = """() => {
    const {tagName, innerText, ariaLabel, href} = document.activeElement;
    const {x, y, width, height} = document.activeElement.getBoundingClientRect();
    const className = document.activeElement.getAttribute("class") || "";
    const text = (innerText ?? ariaLabel ?? "").trim().slice(0, 80);  // in a drawing there is no innerText
    return {tagName, className, text, href: href || "", x, y, width, height};
}"""


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def page(browser):
    """A tab for all tests; ``page.told`` collects what went wrong in it and what it asked of other machines."""
    page = browser.new_page(reduced_motion="reduce")
    page.told = []
    page.on("pageerror", lambda error: page.told.append(f"error: {error}"))
    page.on("console", lambda line: page.told.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("request", lambda request: page.told.extend(from_outside(request.url)))
    yield page
    page.close()


def from_outside(url):
    parts = urlsplit(url)
    return [f"asks for {url}"] if parts.netloc and parts.hostname != "127.0.0.1" else []


def visit(page, url, scheme="light"):
    page.told.clear()
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme=scheme)
    page.goto(url, wait_until="load")


def violations(page, scheme):
    """What axe-core finds serious or critical, a line for each element."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    page.evaluate(SETTLE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{scheme}, {rule['impact']}, {rule['id']}: {node['html'][:150]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def problems(page, url, fault=""):
    """What is wrong with a page, with the HTML of a fault put into it: a list of lines, empty when all is well."""
    visit(page, url)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate("html => document.querySelector('main').insertAdjacentHTML('beforeend', html)", fault)
    images = pictures(page)
    found = not_drawn(images)
    found += [f"{each['source']}: no alt text" for each in images if not (each["alt"] or each["decoration"])]
    page.add_script_tag(path=AXE)
    found += violations(page, "light") + violations(page, "dark")
    page.set_viewport_size(PHONE)
    return found + page.evaluate(OVERFLOWING) + page.told


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_readable_and_asks_nothing_of_others(name, address, page):
    found = problems(page, f"{address}/{name}")
    assert not found, "\n".join([name, *found])


def test_every_kind_of_fault_is_told(address, page):
    faults = {
        '<img src="none.png" alt="x">': "none.png: not drawn",
        '<img src="_static/favicon.svg">': "favicon.svg: no alt text",
        '<p style="color: #999; background: #aaa">faint</p>': "light, serious, color-contrast",
        '<p style="width: 2000px">wide</p>': " pixels wide: ",
        '<img src="https://none.example/x.png" alt="x">': "asks for https://none.example/x.png",
        "<button></button>": "dark, critical, button-name",
        '<img src="none.svg" alt="x">': "console: Failed to load resource",
    }
    found = "\n".join(problems(page, f"{address}/index.html", "".join(faults)))
    assert [each for each in faults.values() if each not in found] == []


def focus(page):
    page.evaluate(SETTLE)
    return page.evaluate(FOCUSED)


def is_visible(page):
    """Whether the element with the focus lies in the window and looks different without it."""
    at = focus(page)
    size = page.viewport_size
    box = {"x": max(at["x"] - 6, 0), "y": max(at["y"] - 6, 0)}
    box["width"] = min(at["x"] + at["width"] + 6, size["width"]) - box["x"]
    box["height"] = min(at["y"] + at["height"] + 6, size["height"]) - box["y"]
    if min(box["width"], box["height"]) <= 0:
        return False
    with_focus = page.screenshot(clip=box)
    element = page.evaluate_handle("document.activeElement")
    element.evaluate("element => element.blur()")
    page.evaluate(SETTLE)
    without = page.screenshot(clip=box)
    element.evaluate("element => element.focus({preventScroll: true, focusVisible: true})")
    page.evaluate(SETTLE)
    return with_focus != without


def tab_to(page, wanted, limit=60):
    """Press Tab until ``wanted`` holds of what has the focus; every stop on the way must show it."""
    stops = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        stops.append(focus(page))
        assert is_visible(page), f"the focus is not visible on {stops[-1]}"
        assert focus(page) == stops[-1], f"the focus left {stops[-1]} for {focus(page)}"
        if wanted(stops[-1]):
            return stops[-1]
    raise AssertionError(f"not reached by Tab: {[stop['text'] or stop['className'] for stop in stops]}")


@pytest.mark.parametrize("name", ("index.html", "notebooks/03_inverted_residual.html", "api/blocks.html"))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_keyboard_reaches_everything(name, scheme, address, page):
    visit(page, f"{address}/{name}", scheme=scheme)
    page.keyboard.press("Tab")
    assert "skip" in focus(page)["text"].lower() and is_visible(page), focus(page)
    tab_to(page, lambda stop: stop["text"] == "Search")
    link = tab_to(page, lambda stop: stop["href"].endswith("/glossary.html"))
    tab_to(page, lambda stop: "theme-switch-button" in stop["className"])
    visit(page, f"{address}/{name}", scheme=scheme)
    tab_to(page, lambda stop: stop["href"] == link["href"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html")


def test_folded_cells_are_named_and_opened_by_keyboard(address, page):
    visit(page, f"{address}/notebooks/02_squeeze_and_excitation.html")
    cells = page.locator(".tag_hide-input")
    titles = cells.locator("summary").all_inner_texts()
    assert len(titles) > 3 and all(re.fullmatch(r"\w.+ · show code", title) for title in titles), titles
    assert not any(code.is_visible() for code in cells.locator("details pre").all())
    outputs = cells.locator(".cell_output").all()
    assert outputs and all(output.is_visible() for output in outputs)
    code = cells.first.locator("pre")
    title = titles[0].removesuffix(" · show code")
    cells.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert code.is_visible() and code.inner_text().startswith(f"# @title {title}")
    assert cells.first.locator("summary").inner_text() == f"{title} · hide code"


def test_every_cell_that_is_folded_in_notebooks_is_folded_here(address, page):
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        folded = sum(cell["metadata"].get("jupyter", {}).get("source_hidden", False) for cell in cells)
        visit(page, f"{address}/notebooks/{path.stem}.html")
        assert page.locator(".cell_input").filter(visible=True).count() == len(cells) - folded, path.name
        assert page.locator("details.hide .cell_input").count() == folded, path.name


# Visible code that is wider than its box, and prose that is wider than 40 rem, which is about 80 characters.
TOO_WIDE = """() => {
    const code = [...document.querySelectorAll(".bd-article .highlight pre:not(.cell_output *)")]
        .filter(each => each.checkVisibility() && each.scrollWidth > each.clientWidth);
    const prose = [...document.querySelectorAll(".bd-article :is(p, li):not(:has(> img), .cell_output *)")]
        .filter(each => each.clientWidth > 640);
    return [...code, ...prose].map(each => each.textContent.slice(0, 60));
}"""


def test_code_fits_at_1440_pixels_and_prose_stays_narrow(address, page):
    for name in PAGES:
        visit(page, f"{address}/{name}")
        page.set_viewport_size({"width": 1440, "height": 900})
        found = page.evaluate(TOO_WIDE)
        assert not found, f"{name}: {found}"


def test_a_copy_button_is_one_stop_of_the_keyboard(address, page):
    visit(page, f"{address}/notebooks/02_squeeze_and_excitation.html")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_function("document.querySelectorAll('.cell_input .copybtn').length > 10")
    page.wait_for_function("[...document.querySelectorAll('.cell_input pre')].every(each => each.tabIndex < 0)")


def test_on_a_phone_only_code_tables_and_formulas_scroll(address, page):
    for name in PAGES:
        visit(page, f"{address}/{name}")
        page.set_viewport_size(PHONE)
        found = page.evaluate(SCROLLING)
        assert not found, f"{name}: {found}"


def test_skip_link_leads_to_the_text(address, page):
    visit(page, f"{address}/index.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)"), focus(page)


def test_theme_is_chosen_by_keyboard_and_remembered(address, page):
    visit(page, f"{address}/index.html")
    theme = "document.documentElement.dataset.theme"
    for chosen in ("dark", "light", "dark"):
        tab_to(page, lambda stop: "theme-switch-button" in stop["className"])
        page.keyboard.press("Enter")
        page.locator(".theme-switch-container .dropdown-menu.show").first.wait_for()
        while focus(page)["text"].lower() != chosen:
            before = focus(page)
            page.keyboard.press("ArrowDown")
            assert focus(page) != before, f"no {chosen} in the menu of themes"
        page.keyboard.press("Enter")
        assert page.evaluate(theme) == chosen
        visit(page, f"{address}/results.html")
        assert page.evaluate(theme) == chosen
    page.evaluate("localStorage.clear()")


def test_search_by_keyboard_finds_depthwise(address, page):
    visit(page, f"{address}/index.html")
    tab_to(page, lambda stop: stop["text"] == "Search")
    page.keyboard.press("Enter")
    page.keyboard.type("depthwise")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=depthwise*")
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li a").first.inner_text().startswith("03 · ")
    assert not page.told, page.told


# --- The drawing of B0 on the first page ----------------------------------------------------------------------------


def about(page):
    """What the map says: {row: text}, and its title."""
    rows = page.locator("#architecture dt").all_inner_texts()
    values = page.locator("#architecture dd").all_inner_texts()
    return page.locator("#architecture .about strong").inner_text(), dict(zip(rows, values, strict=True))


@pytest.mark.parametrize("size", (WIDE, PHONE), ids=("wide", "phone"))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_map_is_operated_by_keyboard(scheme, size, address, page, screenshots):
    visit(page, f"{address}/index.html", scheme=scheme)
    page.set_viewport_size(size)
    page.locator("article h1 a").focus()
    tab_to(page, lambda stop: stop["text"] == "Image")
    for part in architecture.parts():
        if part.name != "image":
            page.keyboard.press("ArrowRight" if size is WIDE else "ArrowDown")
        assert is_visible(page), part
        page.keyboard.press("Enter")
        title, told = about(page)
        assert part.name.capitalize() in title or f"Block {part.name}" in title
        assert told["Parameters"] == f"{part.parameters:,}" and told["MACs"] == f"{part.macs:,}"
        assert told["Output"] == " × ".join(f"{number:,}" for number in part.output_shape)
        pressed = page.locator(".b0:visible [aria-pressed=true]")
        assert pressed.count() == 1 and pressed.get_attribute("data-part") == part.name
    page.keyboard.press("ArrowRight")
    assert focus(page)["text"].startswith("Classifier"), "the last part stays the last"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    link = focus(page)
    assert link["href"].endswith(f"model.py#L{architecture_line('classifier')}"), "one stop for the whole drawing"
    page.add_script_tag(path=AXE)
    assert violations(page, scheme) == [] and page.evaluate(OVERFLOWING) == [] and page.told == []
    page.locator(".b0:visible").scroll_into_view_if_needed()
    page.screenshot(path=screenshots / f"map_{scheme}_{size['width']}.png")


def architecture_line(name):
    (part,) = [part for part in architecture.parts() if part.name == name]
    return architecture_map.code_line(part)[0]


@pytest.mark.parametrize("size", (WIDE, PHONE), ids=("wide", "phone"))
def test_map_is_pressed_and_leads_to_the_notebook(size, address, page):
    visit(page, f"{address}/index.html")
    page.set_viewport_size(size)
    page.locator(".b0:visible [data-part='6c'] .box").click()
    title, told = about(page)
    assert title == "Block 6c, in stage 6" and "skip connection" in told["Operation"]
    shown = page.locator("#architecture .about").bounding_box()
    assert 0 < shown["y"] < size["height"], "in view after the press"
    page.locator("#architecture .about a", has_text="04 ·").click()
    page.wait_for_url("**/notebooks/04_mbconv.html")


def test_map_is_a_picture_without_scripts(address, browser):
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto(f"{address}/index.html")
    drawing = page.locator(".b0.wide")
    assert drawing.get_attribute("role") == "img" and "16 in stage 1" in drawing.get_attribute("aria-label")
    assert drawing.is_visible() and not page.locator("#architecture .hint").is_visible()
    assert page.locator("#architecture [tabindex]").count() == 0
    context.close()


@pytest.mark.parametrize(
    ("term", "notebook"),
    [("depthwise", "03"), ("squeeze", "02"), ("stochastic depth", "04"), ("swish", "01"), ("compound", "06")],
)
def test_search_puts_the_notebook_on_a_term_first_and_shows_its_text(term, notebook, address, page):
    visit(page, f"{address}/search.html?q={term}")
    page.get_by_text("Search finished").wait_for()
    found = page.locator("#search-results li")
    assert found.first.locator("a").first.inner_text().startswith(f"{notebook} · "), found.all_inner_texts()
    page.locator("#search-results p.context").first.wait_for()
    excerpt = found.first.locator("p.context").inner_text()
    assert term.split()[0] in excerpt.lower() and not re.search(r"import |def |\w\(.*=|^# @title", excerpt), excerpt
