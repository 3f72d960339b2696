"""What the browser tests ask of any page."""

# Of each image: its alt text, whether it may have none, its width, and whether all its pixels have one colour.
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
            decoration: image.matches(".thumbnail[alt='']"),
            width: image.naturalWidth,
            blank: pixels.every(pixel => pixel === pixels[0]),
        };
    });
}"""


def pictures(page, selector="img"):
    return page.locator(selector).evaluate_all(PICTURES)


def not_drawn(images):
    """A line for each image of ``pictures`` that did not load or shows one colour only."""
    return [f"{each['source']}: not drawn" for each in images if not each["width"] or each["blank"]]
