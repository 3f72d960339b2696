"use strict";
// What runs beside the page, so that the page never waits: its text and network.js become one Web Worker.
function exploreWorker() {
    let network = null;
    let outputs = null;

    // The stored bytes back to numbers: for each layer the filters' scales, their biases, and one byte a weight.
    function unpack({ layers, numbers }) {
        const text = atob(numbers);
        const bytes = new Uint8Array(text.length);
        for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
        let at = 0;
        const take = (Kind, count) => {
            const values = new Kind(bytes.buffer, at, count);
            at += 4 * Math.ceil(values.byteLength / 4);
            return values;
        };
        for (const layer of layers) {
            if (!layer.filters) continue;
            const scale = take(Float32Array, layer.filters);
            layer.bias = take(Float32Array, layer.filters);
            const small = take(Int8Array, layer.filters * layer.inputs);
            layer.weights = new Float32Array(small.length);
            for (let i = 0; i < small.length; i++) layer.weights[i] = small[i] * scale[i % layer.filters];
        }
    }

    // Resizing as Pillow does it (bicubic, antialiased), since a browser's own gives other pixels in each browser.
    function bicubic(x) {
        x = Math.abs(x);
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    }

    // For each of size outputs over the stretch of inputs that begins at start: the first input, and the weights.
    function taps(inputs, start, stretch, size) {
        const scale = stretch / size;
        const wide = Math.max(scale, 1);
        return Array.from({ length: size }, (_, number) => {
            const centre = start + (number + 0.5) * scale;
            const first = Math.max(Math.trunc(centre - 2 * wide + 0.5), 0);
            const last = Math.min(Math.trunc(centre + 2 * wide + 0.5), inputs);
            const weights = Array.from({ length: last - first }, (_, k) => bicubic((first + k - centre + 0.5) / wide));
            const total = weights.reduce((sum, weight) => sum + weight, 0);
            return { first, weights: weights.map((weight) => weight / total) };
        });
    }

    // The middle square of an image as a feature map of size x size, pixels 0..255.
    function middleSquare({ width, height, data }, size) {
        const side = Math.min(width, height);
        const across = taps(width, (width - side) / 2, side, size);
        const down = taps(height, (height - side) / 2, side, size);
        const top = down[0].first;
        const rows = down[size - 1].first + down[size - 1].weights.length - top;
        const narrow = new Uint8ClampedArray(rows * size * 3);
        for (let row = 0; row < rows; row++)
            for (let column = 0; column < size; column++)
                for (let colour = 0; colour < 3; colour++) {
                    const { first, weights } = across[column];
                    let sum = 0;
                    for (let k = 0; k < weights.length; k++)
                        sum += weights[k] * data[((top + row) * width + first + k) * 4 + colour];
                    narrow[(row * size + column) * 3 + colour] = sum;
                }
        const out = featureMap(size, size, 3);
        const pixels = new Uint8ClampedArray(out.data.length);
        for (let row = 0; row < size; row++)
            for (let i = 0; i < size * 3; i++) {
                const { first, weights } = down[row];
                let sum = 0;
                for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(first - top + k) * size * 3 + i];
                pixels[row * size * 3 + i] = sum;
            }
        out.data.set(pixels);
        return out;
    }

    function pixelsOf(bitmap) {
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.fillStyle = "white"; // behind what is transparent
        context.fillRect(0, 0, bitmap.width, bitmap.height);
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, bitmap.width, bitmap.height);
    }

    function classify({ bitmap }) {
        const image = middleSquare(pixelsOf(bitmap), network.size);
        const start = performance.now();
        outputs = forward(network.layers, image, (part) => postMessage({ kind: "progress", part }));
        const milliseconds = performance.now() - start;
        const logits = outputs.predictions.data;
        const probabilities = softmax(logits);
        postMessage({ kind: "classified", pixels: image.data, logits, probabilities, milliseconds });
    }

    // One number for each position of a 7x7 feature map: how much it speaks for a class.
    function locate({ number }) {
        const classifier = network.layers.at(-1);
        const features = outputs[network.layers.at(-3).name];
        postMessage({ kind: "located", number, ...classActivationMap(features, classifier, number) });
    }

    // Some channels of one layer as greys 0..255, each from its own smallest to its own largest value.
    function maps({ layer, first, count, target }) {
        const { height, width, channels, data } = outputs[layer];
        const greys = [];
        for (let channel = first; channel < Math.min(first + count, channels); channel++) {
            const values = Float32Array.from({ length: height * width }, (_, at) => data[at * channels + channel]);
            const low = values.reduce((a, b) => Math.min(a, b));
            const high = values.reduce((a, b) => Math.max(a, b));
            const grey = Uint8ClampedArray.from(values, (value) => (255 * (value - low)) / (high - low || 1));
            greys.push({ channel, low, high, grey });
        }
        postMessage({ kind: "maps", layer, target, height, width, channels, greys });
    }

    onmessage = ({ data }) => {
        if (data.kind === "network") {
            network = data.network;
            unpack(network);
            postMessage({ kind: "ready" });
        } else {
            ({ classify, locate, maps })[data.kind](data);
        }
    };
}
