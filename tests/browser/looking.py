"""What the browser tests ask of any page."""

# Of each image: its alt text, its width, and whether all its pixels have one colour.
PICTURES = """async images => {
    await Promise.allSettled(images.map(image => image.decode()));
    return images.map(image => {
        const canvas = new OffscreenCanvas(image.naturalWidth || 1, image.naturalHeight || 1);
        const context = canvas.getContext("2d");
        if (image.naturalWidth) context.drawImage(image, 0, 0);
        const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return {
            source: image.src.slice(0, 100),
            alt: image.alt.trim(),
            width: image.naturalWidth,
            blank: pixels.every(pixel => pixel === pixels[0]),
        };
    });
}"""
TALLEST = 16_000  # pixels of a page that a screenshot keeps; Chromium draws no more


def pictures(page, selector="img"):
    return page.locator(selector).evaluate_all(PICTURES)


def not_drawn(images):
    """A line for each image of ``pictures`` that did not load or shows one colour only."""
    return [f"{each['source']}: not drawn" for each in images if not each["width"] or each["blank"]]


def keep(page, path):
    """Store what the page shows as a PNG: its whole length, up to TALLEST pixels."""
    height = page.evaluate("document.documentElement.scrollHeight")
    box = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": min(height, TALLEST)}
    page.screenshot(path=path, full_page=True, clip=box)
