"""The pages on which a network runs: the same logits as Keras, any file that a reader may choose, nothing sent away.

Needs site/_build/html; `make test-browser` makes it. How big, how fast and how close to Keras, for both pages:

    python -m pytest tests/browser/explore.py -k table -s
"""

import io
import json
import time

import keras
import numpy as np
import pytest
from PIL import Image

from effnet_utils.files import photographs
from tests.browser.conftest import FLAGS, OFFLINE, find_chromium
from tests.browser.site_pages import AXE as AXE_SCRIPT
from tests.browser.site_pages import (
    HTML,
    OVERFLOWING,
    PHONE,
    WIDE,
    address,  # noqa: F401, a fixture
    from_outside,
    tab_to,
    violations,
)
from tools import explore

PAGES = {"explore.html": "lite0", "explore_b0.html": "b0_cifar10"}


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(reduced_motion="reduce", viewport=WIDE)
    yield context
    context.close()


@pytest.fixture(params=PAGES)
def page(request, context, address):  # noqa: F811
    """A tab with one of the two pages that has shown its first photograph; no error and no request elsewhere."""
    yield from opened(context, f"{address}/{request.param}")


@pytest.fixture
def lite0_page(context, address):  # noqa: F811
    yield from opened(context, f"{address}/explore.html")


@pytest.fixture
def b0_page(context, address):  # noqa: F811
    yield from opened(context, f"{address}/explore_b0.html")


def opened(context, url):
    page = context.new_page()
    page.told = []
    page.on("pageerror", lambda error: page.told.append(f"error: {error}"))
    page.on("console", lambda line: page.told.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("request", lambda request: page.told.extend(from_outside(request.url)))
    page.goto(url)
    wait_for_answer(page)
    yield page
    assert page.told == []
    page.close()


def wait_for_answer(page):
    page.wait_for_function("answer && document.querySelector('.status').textContent.startsWith('Computed')")


def network_of(page):
    return "lite0" if page.url.endswith("explore.html") else "b0_cifar10"


def choose(page, name, content):
    """Give a file to the page and wait for what it says; the status line."""
    page.evaluate("document.querySelector('.status').textContent = ''")
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "", "buffer": content})
    page.wait_for_function("/^(Computed|This)|can read/.test(document.querySelector('.status').textContent)")
    return page.locator(".status").inner_text()


def logits(page):
    return np.array(page.evaluate("Array.from(answer.logits)"))


def file_of(image, form="PNG", **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def keras_logits(network, tmp_path, content):
    """Logits of a file by Keras with the parameters that the page has."""
    path = tmp_path / "image"
    path.write_bytes(content)
    model = rounded(network)
    return model.predict_on_batch(explore.middle_square(path, model.input_shape[1])[None])[0]


def rounded(network):
    if network == "b0_cifar10":
        return explore.stored_network()
    return explore.changed(explore.lite0(), explore.unpacked(*explore.packed(explore.lite0())))


# --- The same as Keras ------------------------------------------------------------------------------------------------


def test_photographs_have_the_logits_of_keras(page):
    network = network_of(page)
    if network == "lite0":
        exact, same_parameters = explore.lite0_logits()
    else:
        exact = np.array(list(explore.stored()[0]["logits"].values()))
        same_parameters = explore.logits(explore.stored_network())
    found = []
    for name in photographs():
        page.evaluate("answer = null")
        page.get_by_role("button", name=f"Photograph: {name}").click()
        wait_for_answer(page)
        found.append(logits(page))
    np.testing.assert_allclose(found, same_parameters, atol=1e-4)
    assert np.abs(found - exact).max() <= float(explore.difference(network)) + 0.005
    assert np.argmax(found, axis=1).tolist() == np.argmax(exact, axis=1).tolist()


def test_switches_change_the_network_as_in_keras(b0_page):
    image = explore.middle_square(photographs()["cat"], 32)[None]
    plain = explore.stored_network()
    b0_page.get_by_role("button", name="Photograph: cat").click()
    b0_page.get_by_label("2b (without it 77.6 %)").uncheck()
    b0_page.get_by_label("6d (without it 87.2 %)").uncheck()
    b0_page.get_by_label("ReLU").check()
    wanted = explore.changed(plain, activation="relu", off=("block2b", "block6d")).predict_on_batch(image)[0]
    b0_page.wait_for_function("wanted => Math.abs(answer.logits[0] - wanted) < 1e-3", arg=float(wanted[0]))
    np.testing.assert_allclose(logits(b0_page), wanted, atol=1e-4)
    assert "2b: switched off" in b0_page.locator(".weights").inner_text()
    b0_page.get_by_label("swish").check()
    for box in b0_page.locator(".switches input").all():
        box.check()
    wanted = plain.predict_on_batch(image)[0]
    b0_page.wait_for_function("wanted => Math.abs(answer.logits[0] - wanted) < 1e-3", arg=float(wanted[0]))


def test_channel_weights_are_those_of_keras(b0_page):
    plain = explore.stored_network()
    names = [layer.name for layer in plain.layers if layer.name.endswith("_se_expand")]
    inside = keras.Model(plain.inputs, [plain.get_layer(name).output for name in names])
    first = next(iter(photographs().values()))
    wanted = inside.predict_on_batch(explore.middle_square(first, 32)[None])
    shown = b0_page.evaluate("Object.values(answer.channelWeights).map(each => Array.from(each))")
    assert len(shown) == len(names) == 16
    for found, weights in zip(shown, wanted, strict=True):
        np.testing.assert_allclose(found, np.ravel(weights), atol=1e-4)
    assert b0_page.locator(".weights figure").count() == 16
    path = b0_page.locator(".weights path").first.get_attribute("d")
    assert path.count("M") == 32 and path.startswith(f"M0 1V{1 - shown[0][0]}"[:9])


def test_class_activation_map_adds_up_to_the_logit(lite0_page):
    """The mean of a class's map and its bias are its logit."""
    lite0_page.locator(".top button").first.click()
    lite0_page.locator(".top button[aria-pressed=true]").wait_for()
    program = lite0_page.locator(".highlight-javascript pre").text_content()
    found = lite0_page.evaluate(
        """program => {
            const run = new Function(`${program}; return {featureMap, softmax, classActivationMap};`)();
            const features = run.featureMap(2, 2, 3);
            features.data.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
            const classifier = {weights: new Float32Array([1, 0, 2, 1, 0, 3]), bias: new Float32Array([0, 0])};
            return Array.from(run.classActivationMap(features, classifier, 1).data);
        }""",
        program,
    )
    assert found == [2 * 1 + 3 * 3, 5 + 6 * 3, 8 + 9 * 3, 11 + 12 * 3]
    plain = lite0_page.evaluate("Array.from(answer.photo.pixels)")
    shown = lite0_page.evaluate(
        "Array.from(find('.photo').getContext('2d').getImageData(0, 0, NETWORK.size, NETWORK.size).data)"
    )
    assert np.abs(np.subtract(plain, shown)).mean() > 10
    lite0_page.locator(".top button").first.click()
    assert lite0_page.locator(".top button[aria-pressed=true]").count() == 0


# --- Files of readers -------------------------------------------------------------------------------------------------


def chosen_like_keras(page, tmp_path, name, content):
    assert choose(page, name, content).startswith("Computed")
    wanted = keras_logits(network_of(page), tmp_path, content)
    np.testing.assert_allclose(logits(page), wanted, atol=1e-4, err_msg=name)


def test_transparent_png_is_shown_on_white(page, tmp_path):
    image = Image.open(photographs()["cat"]).convert("RGBA")
    mask = np.zeros(image.size[::-1], "uint8")
    mask[30:-30, 60:-60] = 255
    image.putalpha(Image.fromarray(mask))
    chosen_like_keras(page, tmp_path, "cut out.png", file_of(image))


def test_upright_photograph_with_exif_rotation(page, tmp_path):
    """Stored on its side, as phones do; orientation 6 says that it must be turned clockwise."""
    upright = Image.open(photographs()["rocket"])
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = file_of(upright.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    chosen_like_keras(page, tmp_path, "phone.jpg", lying)
    plain = keras_logits(network_of(page), tmp_path, file_of(upright))
    assert np.argmax(logits(page)) == np.argmax(plain)


def test_twelve_megapixels(page, tmp_path):
    image = Image.open(photographs()["espresso"]).resize((4000, 3000), Image.Resampling.BICUBIC)
    chosen_like_keras(page, tmp_path, "big.jpg", file_of(image, "JPEG", quality=90))


@pytest.mark.parametrize("shape", ((1, 1), (3, 500), (500, 3), (400, 301), (32, 32)))
def test_tiny_and_narrow_images(shape, page, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype="uint8")
    chosen_like_keras(page, tmp_path, "small.png", file_of(Image.fromarray(pixels)))


def test_what_is_no_image_is_told_in_a_sentence_and_changes_nothing(page):
    before = logits(page)
    jpeg = photographs()["cat"].read_bytes()
    for name, content in {
        "notes.txt": b"These are notes.",
        "empty.jpg": b"",
        "broken.jpg": jpeg[:200],
        "spoiled.png": b"\x89PNG\r\n\x1a\n" + bytes(500),
    }.items():
        said = choose(page, name, content)
        assert said.startswith(f"{name} is not an image that this browser can read."), said
        assert "Below you still see the photograph before." in said
    assert (logits(page) == before).all()
    assert choose(page, "cat.jpg", jpeg).startswith("Computed")


DROP = """([name, content]) => {
    const transfer = new DataTransfer();
    if (name) transfer.items.add(new File([Uint8Array.from(content)], name));
    else transfer.setData("text/plain", "words");
    document.querySelector("h1").dispatchEvent(
        new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


def test_dropped_file_and_dropped_text(page):
    page.evaluate(DROP, [None, []])
    assert page.locator(".status").inner_text().startswith("That was not a file.")
    page.evaluate("answer = null")
    page.evaluate(DROP, ["rocket.jpg", list(photographs()["rocket"].read_bytes())])
    wait_for_answer(page)


def test_camera_takes_a_photograph_and_is_switched_off(browser, address):  # noqa: F811
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments = [*FLAGS.split(), OFFLINE, *camera]
    chromium = browser.browser_type.launch(executable_path=find_chromium(), args=arguments)
    page = chromium.new_page()
    page.goto(f"{address}/explore_b0.html")
    wait_for_answer(page)
    before = logits(page)
    page.get_by_role("button", name="Use the camera").click()
    page.locator("video").wait_for(state="visible")
    page.evaluate("answer = null")
    page.get_by_role("button", name="Take the photograph").click()
    wait_for_answer(page)
    assert (logits(page) != before).any()
    page.locator("video").wait_for(state="hidden")
    assert page.evaluate("find('video').srcObject") is None
    chromium.close()


def test_refused_camera_is_told(page):
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('Permission denied'); }; }"
    )
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("The camera cannot be used: Permission denied.").wait_for()


# --- Looking inside ---------------------------------------------------------------------------------------------------


def test_every_stage_channel_and_block_is_shown(lite0_page):
    page = lite0_page
    resolutions = (112, 112, 56, 28, 14, 14, 7, 7, 7)
    channels = (32, 16, 24, 40, 80, 112, 192, 320, 1280)
    for stage, (resolution, count) in enumerate(zip(resolutions, channels, strict=True)):
        page.locator(".stage").fill(str(stage))
        page.get_by_text(f"{count} channels of {resolution} × {resolution}").first.wait_for()
        page.wait_for_function(
            "([tiles, size]) => { const all = document.querySelectorAll('.stage-maps canvas');"
            "return all.length === tiles && all[0].width === size; }",
            arg=[min(count, 24), resolution],
        )
    page.locator(".channel").fill("9999")
    page.get_by_text("Channel 1279: black is").wait_for()
    page.locator(".channel").fill("")
    page.get_by_text("Channel 0: black is").wait_for()
    for block in page.locator(".block option").evaluate_all("all => all.map(each => each.value)"):
        page.locator(".block").select_option(block)
        steps = page.locator(".steps .caption")
        page.wait_for_function(
            "[...document.querySelectorAll('.steps .caption')].every(e => e.textContent.includes(':'))"
        )
        titles = [text.split(":")[0] for text in steps.all_inner_texts()]
        expected = ["expand"] * (block != "block1a") + ["depthwise", "project"]
        assert titles in (expected, [*expected, "add"]), titles
    assert page.locator(".block option").count() == 16


def test_by_keyboard_alone(page):
    page.locator(".photos button").first.focus()
    page.evaluate("answer = null")
    page.keyboard.press("Shift+Tab")
    tab_to(page, lambda stop: stop["tagName"] == "BUTTON" and not stop["text"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_answer(page)
    if network_of(page) == "lite0":
        tab_to(page, lambda stop: "%" in stop["text"])
        page.keyboard.press("Enter")
        page.locator(".top button[aria-pressed=true]").wait_for()
        tab_to(page, lambda stop: stop["className"] == "stage")
        page.keyboard.press("End")
        page.get_by_text("Head: 1280 channels").wait_for()
        tab_to(page, lambda stop: stop["className"] == "block", limit=90)
    else:
        tab_to(page, lambda stop: stop["tagName"] == "INPUT" and stop["className"] == "")  # the file
        tab_to(page, lambda stop: stop["tagName"] == "INPUT" and stop["y"] > 0 and page.evaluate(
            "document.activeElement.type === 'radio'"
        ))  # fmt: skip
        page.evaluate("answer = null")
        page.keyboard.press("ArrowDown")
        wait_for_answer(page)
        page.keyboard.press("Tab")
        page.evaluate("answer = null")
        page.keyboard.press("Space")
        wait_for_answer(page)
        assert page.locator(".switches input:not(:checked)").count() == 1


# --- Readable, private, never stuck -----------------------------------------------------------------------------------


def test_readable_in_light_and_dark_wide_and_narrow(page, screenshots):
    page.add_script_tag(path=AXE_SCRIPT)
    if network_of(page) == "lite0":
        page.locator(".top button").first.click()
        page.locator(".top button[aria-pressed=true]").wait_for()
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = []
    for width in (PHONE["width"], 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            found += violations(page, scheme)
            page.screenshot(path=screenshots / f"{network_of(page)}_{width}_{scheme}.png", full_page=True)
        found += page.evaluate(OVERFLOWING)
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_never_blocked(name, browser, context, address, tmp_path):  # noqa: F811
    """Loading, all photographs and 12 megapixels: no task of the page's own thread takes 100 ms of a processor.

    The processor's time, since on a busy machine a task also waits for other processes. The page marks its own
    process: Chromium also traces one that it keeps ready for the next page, whose start takes longer.
    """
    Image.open(photographs()["espresso"]).resize((4000, 3000)).save(tmp_path / "big.jpg")
    page = context.new_page()
    browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
    page.goto(f"{address}/{name}")
    wait_for_answer(page)
    for photograph in photographs():
        page.get_by_role("button", name=f"Photograph: {photograph}").click()
    page.evaluate("answer = null")
    page.locator("input[type=file]").set_input_files(tmp_path / "big.jpg")
    wait_for_answer(page)
    page.evaluate("performance.mark('the page itself')")
    events = json.loads(browser.stop_tracing())["traceEvents"]
    page.close()
    (thread,) = {(each["pid"], each["tid"]) for each in events if each["name"] == "the page itself"}
    own = [each for each in events if (each["pid"], each["tid"]) == thread]
    times = [each["tdur"] / 1000 for each in own if each["name"].endswith("RunTask") and "tdur" in each]
    print(f"\n{name}: the longest of {len(times)} tasks: {max(times):.0f} ms")
    assert len(times) > 100 and max(times) < 100


@pytest.mark.parametrize("name", PAGES)
def test_works_from_a_folder(name, context):
    for page in opened(context, (HTML / name).as_uri()):
        assert np.isfinite(logits(page)).all()


def test_the_forward_pass_has_at_most_150_lines(page):
    program = page.locator(".highlight-javascript pre").text_content()
    assert len(program.strip().split("\n")) <= 150


@pytest.mark.parametrize("name", PAGES)
def test_table(name, context):
    """One row of the table of sizes and times; from a folder, where nothing is sent."""
    scripts = HTML / "_static" / "explore"
    needed = [HTML / name, *scripts.glob("[!lb]*.js"), scripts / f"{PAGES[name]}.js"]
    size = sum(path.stat().st_size for path in needed) / 1e6
    started = time.perf_counter()
    for page in opened(context, (HTML / name).as_uri()):
        first = time.perf_counter() - started
        times = []
        for _ in range(15):
            page.evaluate("answer = null")
            page.locator(".photos button").first.click()
            wait_for_answer(page)
            times.append(page.evaluate("answer.milliseconds"))
        difference = explore.difference(PAGES[name])
        print(
            f"\n| {name} | {size:.1f} MB | {first:.1f} s | {np.median(times):.0f} ms "
            f"({min(times):.0f} to {max(times):.0f}) | {difference} |"
        )
