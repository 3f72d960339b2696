"use strict";
// What runs beside the page, so that the page never waits: its text and network.js become one Web Worker.
function exploreWorker() {
    let network = null;
    let image = null; // the network's input
    let outputs = null; // of every layer, by its name

    // --- The network's parameters -----------------------------------------------------------------------------------

    // The stored bytes back to numbers: for each layer the filters' scales, their biases, and one byte per weight.
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

    // --- From a photograph to the network's input -------------------------------------------------------------------

    // Resizing as Pillow does it (bicubic, antialiased), to the last bit, since every browser has a way of its own.
    function bicubic(x) {
        x = Math.abs(x);
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    }

    // Each of size output pixels is a weighted mean of inputs: the first of them, and the weights. The outputs divide
    // the stretch of inputs that begins at start. Pillow keeps 22 bits of a weight.
    function taps(inputs, start, stretch, size) {
        const scale = stretch / size;
        const wide = Math.max(scale, 1);
        return Array.from({ length: size }, (_, number) => {
            const centre = start + (number + 0.5) * scale;
            const first = Math.max(Math.trunc(centre - 2 * wide + 0.5), 0);
            const last = Math.min(Math.trunc(centre + 2 * wide + 0.5), inputs);
            const weights = Array.from({ length: last - first }, (_, k) => bicubic((first + k - centre + 0.5) / wide));
            const total = weights.reduce((sum, weight) => sum + weight, 0);
            return { first, weights: weights.map((weight) => Math.round((weight / total) * 2 ** 22) / 2 ** 22) };
        });
    }

    // The middle square of an image as a feature map of size x size, pixels 0..255: first the rows, then the columns.
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
                    narrow[(row * size + column) * 3 + colour] = Math.floor(sum + 0.5);
                }
        const pixels = new Uint8ClampedArray(size * size * 3);
        for (let row = 0; row < size; row++)
            for (let i = 0; i < size * 3; i++) {
                const { first, weights } = down[row];
                let sum = 0;
                for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(first - top + k) * size * 3 + i];
                pixels[row * size * 3 + i] = Math.floor(sum + 0.5);
            }
        return { height: size, width: size, channels: 3, data: Float32Array.from(pixels) };
    }

    function pixelsOf(bitmap) {
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.fillStyle = "white"; // behind what is transparent
        context.fillRect(0, 0, bitmap.width, bitmap.height);
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, bitmap.width, bitmap.height);
    }

    // --- Pictures: red, green, blue and opacity of each pixel, as a canvas takes them -------------------------------

    function picture(height, width, colour) {
        const pixels = new Uint8ClampedArray(height * width * 4).fill(255);
        for (let at = 0; at < height * width; at++) pixels.set(colour(at), 4 * at);
        return { height, width, pixels };
    }

    // A small map enlarged linearly, from 0 (nothing, or against the class) to 1 (the largest value).
    function enlarged({ height, width, data }, size) {
        const largest = Math.max(...data, 1e-9);
        const value = (row, column) => Math.max(data[row * width + column], 0) / largest;
        // For each pixel: the value before it, how far it is from there to the next, and the next.
        const places = (count) => Array.from({ length: size }, (_, pixel) => {
            const place = Math.min(Math.max(((pixel + 0.5) * count) / size - 0.5, 0), count - 1);
            return [Math.floor(place), place % 1, Math.ceil(place)];
        });
        const across = places(width);
        const rows = places(height).map(([top, down, bottom]) => across.map(([left, right, next]) =>
            (1 - down) * ((1 - right) * value(top, left) + right * value(top, next)) +
            down * ((1 - right) * value(bottom, left) + right * value(bottom, next))));
        return rows.flat();
    }

    // The photograph as the network gets it; with a map in light greys where the map is 0, in its colours where it is 1.
    function photograph(map) {
        const heat = map && enlarged(map, network.size);
        return picture(network.size, network.size, (at) => {
            const pixel = image.data.subarray(3 * at, 3 * at + 3);
            if (!heat) return pixel;
            const grey = 130 + (0.35 * (pixel[0] + pixel[1] + pixel[2])) / 3;
            return pixel.map((value) => heat[at] * value + (1 - heat[at]) * grey);
        });
    }

    // One channel in greys, black its smallest value and white its largest.
    function channelPicture({ height, width, channels, data }, channel) {
        const values = Float32Array.from({ length: height * width }, (_, at) => data[at * channels + channel]);
        const low = values.reduce((a, b) => Math.min(a, b));
        const high = values.reduce((a, b) => Math.max(a, b));
        const grey = (at) => (255 * (values[at] - low)) / (high - low || 1);
        return { channel, low, high, ...picture(height, width, (at) => [grey(at), grey(at), grey(at)]) };
    }

    // --- What the page asks for -------------------------------------------------------------------------------------

    function run() {
        const start = performance.now();
        outputs = forward(network.layers, image, (part) => postMessage({ kind: "progress", part }));
        const milliseconds = performance.now() - start;
        const logits = outputs[network.layers.at(-1).name].data;
        const channelWeights = {};
        for (const { name } of network.layers.filter(({ name }) => name.endsWith("_se_expand")))
            channelWeights[name.replace("_se_expand", "")] = outputs[name].data;
        const probabilities = softmax(logits);
        postMessage({ kind: "classified", photo: photograph(), logits, probabilities, channelWeights, milliseconds });
    }

    const ASKED = {
        network(data) {
            network = data.network;
            unpack(network);
            postMessage({ kind: "ready" });
        },
        classify({ bitmap }) {
            image = middleSquare(pixelsOf(bitmap), network.size);
            bitmap.close();
            run();
        },
        // Swish replaced everywhere, and blocks switched off: to change the network is to change its description.
        change({ activation, off }) {
            for (const layer of network.layers) {
                layer.activationBefore ??= layer.activation;
                if (layer.activationBefore === "swish") layer.activation = activation;
                layer.off = off.includes(layer.name.replace("_add", ""));
            }
            if (image) run();
        },
        locate({ number }) {
            const features = outputs[network.layers.at(-3).name];
            const map = classActivationMap(features, network.layers.at(-1), number);
            postMessage({ kind: "located", number, photo: photograph(map) });
        },
        // Some channels of a layer's output.
        maps({ layer, first, count, target }) {
            const map = outputs[layer];
            const shown = [];
            for (let channel = first; channel < Math.min(first + count, map.channels); channel++)
                shown.push(channelPicture(map, channel));
            const { height, width, channels } = map;
            postMessage({ kind: "maps", layer, target, height, width, channels, shown });
        },
    };

    onmessage = ({ data }) => {
        try {
            ASKED[data.kind](data);
        } catch (error) {
            postMessage({ kind: "failed", text: error.message });
        }
    };
}
