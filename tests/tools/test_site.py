"""The site's sources hold every notebook, module, record and table, and its check finds what it is there to find."""

import io
import re

import pytest
from PIL import Image, ImageChops, ImageStat

from tools import site_check, site_pages, site_pictures, tables
from tools.notebooks import NOTEBOOKS, ROOT

pytestmark = pytest.mark.slow  # pages of the site


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    site_pages.write_pages(folder)
    return folder


def test_every_notebook_is_in_the_map_in_reading_order(source):
    index = (source / "index.md").read_text()
    names = [path.name for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
    title = r"\[<img .+?> [0-9A]\d · .+?\]\(notebooks/(.+?)\)"
    rows = re.findall(rf"^\| {title} \| .+\? \| .*(?:second|minute)s? .* \|$", index, re.MULTILINE)
    assert rows == names and (source / "notebooks" / names[-1]).is_file()


def test_every_module_has_a_page_and_every_record_a_line(source):
    package = ROOT / "effnet_utils"
    paths = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
    modules = {".".join(path.parts) for path in paths if not any(part.startswith("_") for part in path.parts)}
    assert {path.stem for path in (source / "api").iterdir()} == modules
    results = (source / "results.md").read_text()
    for path in (ROOT / "records").rglob("*.json"):
        assert f"({path.relative_to(ROOT).as_posix()})" in results


def test_tables_are_filled_and_none_is_forgotten(source, monkeypatch, tmp_path):
    for page in source.glob("*.md"):
        assert "{{" not in page.read_text(), page.name
    assert tables.results() in (source / "results.md").read_text()
    assert "| `bn-0.99` | -9.7 | -13.1 to -6.3 | 3 | difference |" in (source / "results.md").read_text()
    assert (
        "| `strides-late-1` | not measured | not measured | 0 | not measured |" in (source / "results.md").read_text()
    )
    assert "| b0 | 77.1 | 93.3 | 5.3 | 0.39 |" in (source / "published.md").read_text()
    monkeypatch.setitem(tables.BLOCKS, "new", lambda: "")
    with pytest.raises(ValueError, match=r"on no page of site/: \{\{ new \}\}"):
        site_pages.write_pages(tmp_path)


def test_each_notebook_has_a_small_picture():
    pictures = sorted(site_pictures.THUMBNAILS.iterdir())
    assert [path.stem for path in pictures] == [path.stem for path in NOTEBOOKS]
    for path, notebook in zip(pictures, NOTEBOOKS, strict=True):
        stored = Image.open(path).convert("RGB")
        assert path.stat().st_size <= 20_000 and len(stored.getcolors()) > 3, path.name
        difference = ImageChops.difference(stored, site_pictures.thumbnail(notebook).convert("RGB"))
        assert ImageStat.Stat(difference).mean < [2, 2, 2], f"{path.name}: `make tables` draws it again"


@pytest.mark.parametrize("name", site_pictures.CHARTS)
def test_a_chart_says_what_it_shows_and_fits_its_frame(name):
    fig, alt = site_pictures.CHARTS[name]()
    fig.savefig(io.BytesIO())  # lays it out
    title = fig.get_suptitle()
    assert alt.startswith(title.replace("\n", " ")) and re.search(r"\d", title)
    drawn = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height, drawn


def test_each_chart_is_on_a_page(source):
    text = "".join(page.read_text() for page in source.glob("*.md"))
    for name in site_pictures.CHARTS:
        assert f"](charts/{name}.svg)" in text and (source / "charts" / f"{name}.svg").is_file()


PAGE = '<html><head>{}</head><body><h1 id="top-of-it">T</h1>{}</body></html>'


def site(folder, head="", body="", css="", script=""):
    (folder / "sub").mkdir()
    (folder / "index.html").write_text(PAGE.format(head, body))
    (folder / "sub" / "other.html").write_text(PAGE.format("", '<a href="../index.html#top-of-it">back</a>'))
    (folder / "style.css").write_text(css)
    (folder / "code.js").write_text(script)
    return site_check.problems(folder)


@pytest.mark.parametrize(
    "given",
    [
        {"head": '<link rel="preconnect" href="//x.org/a">'},
        {"head": '<script src="https://x.org/a"></script>'},
        {"head": "<style>@import 'https://x.org/a';</style>"},
        {"head": '<script type="module">import "https://x.org/a"</script>'},
        {"body": '<img srcset="code.js 1x, https://x.org/a 2x" alt="">'},
        {"body": '<p style="background: url(https://x.org/a)">p</p>'},
        {"css": '@font-face { src: url("https://x.org/a") }'},
        {"script": 'fetch("https://x.org/a")'},
    ],
    ids=str,
)
def test_what_comes_from_another_site_is_named(given, tmp_path):
    (line,) = site(tmp_path, **given)
    assert line.endswith("//x.org/a") and "loads" in line


@pytest.mark.parametrize("link", ["none.html", "sub/other.html#none", "sub/none/"])
def test_a_link_that_leads_nowhere_is_named(link, tmp_path):
    (line,) = site(tmp_path, body=f'<a href="{link}">there</a>')
    assert line.startswith("index.html: ") and ("leads nowhere" in line or "has no heading #none" in line)


def test_an_empty_folder_does_not_pass(tmp_path):
    assert site_check.problems(tmp_path) == [f"{tmp_path} holds no page"]
