"use strict";
// A feature map: {height, width, channels, data}; data is a Float32Array with the channels of each position together.
function featureMap(height, width, channels) {
    return { height, width, channels, data: new Float32Array(height * width * channels) };
}

// How many zeros "same" padding puts before the first row or column.
function padding(size, kernel, stride) {
    const reach = (Math.ceil(size / stride) - 1) * stride + kernel;
    return Math.floor(Math.max(reach - size, 0) / 2);
}

// Calls visit(position in the output, position in the input, position in the kernel) for all that meet.
function slide(x, layer, visit) {
    const { kernel, stride } = layer;
    const [height, width] = [Math.ceil(x.height / stride), Math.ceil(x.width / stride)];
    const [top, left] = [padding(x.height, kernel, stride), padding(x.width, kernel, stride)];
    for (let row = 0; row < height; row++)
        for (let column = 0; column < width; column++)
            for (let ky = 0; ky < kernel; ky++) {
                const y = row * stride + ky - top;
                if (y < 0 || y >= x.height) continue;
                for (let kx = 0; kx < kernel; kx++) {
                    const across = column * stride + kx - left;
                    if (across < 0 || across >= x.width) continue;
                    visit(row * width + column, y * x.width + across, ky * kernel + kx);
                }
            }
}

// An output that holds the bias everywhere; the layer's sums are added to it.
function withBias(x, layer) {
    const stride = layer.stride || 1;
    const out = featureMap(Math.ceil(x.height / stride), Math.ceil(x.width / stride), layer.bias.length);
    for (let start = 0; start < out.data.length; start += out.channels) out.data.set(layer.bias, start);
    return out;
}

// All filters at one position: out[o + f] += sum over the inputs of input * weight; eight inputs at a time, for speed.
function accumulate(out, o, filters, input, i, channels, weights, w) {
    const [end, n] = [i + channels, filters];
    for (; i + 7 < end; i += 8, w += 8 * n) {
        const [x0, x1, x2, x3] = [input[i], input[i + 1], input[i + 2], input[i + 3]];
        const [x4, x5, x6, x7] = [input[i + 4], input[i + 5], input[i + 6], input[i + 7]];
        const [w1, w2, w3, w4, w5, w6, w7] = [w + n, w + 2 * n, w + 3 * n, w + 4 * n, w + 5 * n, w + 6 * n, w + 7 * n];
        for (let f = 0; f < n; f++)
            out[o + f] += x0 * weights[w + f] + x1 * weights[w1 + f] + x2 * weights[w2 + f] + x3 * weights[w3 + f] +
                x4 * weights[w4 + f] + x5 * weights[w5 + f] + x6 * weights[w6 + f] + x7 * weights[w7 + f];
    }
    for (; i < end; i++, w += n) for (let f = 0; f < n; f++) out[o + f] += input[i] * weights[w + f];
}

// Each channel at one position by itself: out[o + c] += input[i + c] * weights[w + c].
function accumulateEach(out, o, input, i, weights, w, channels) {
    for (let c = 0; c < channels; c++) out[o + c] += input[i + c] * weights[w + c];
}

const LAYERS = {
    // Pixels 0..255 to the range that the network was trained on.
    rescale(x, { scale, offset }) {
        const out = featureMap(x.height, x.width, x.channels);
        for (let i = 0; i < out.data.length; i++)
            out.data[i] = x.data[i] * scale[i % x.channels] + offset[i % x.channels];
        return out;
    },
    // A full convolution: each filter sees all channels under its kernel. Only the stem is one.
    convolution(x, layer) {
        const out = withBias(x, layer);
        const [inputs, filters] = [x.channels, out.channels];
        slide(x, layer, (to, from, at) => accumulate(
            out.data, to * filters, filters, x.data, from * inputs, inputs, layer.weights, at * inputs * filters));
        return out;
    },
    // A 1x1 convolution: a matrix product at every position. Expansion and projection; a dense layer is the same.
    pointwise(x, layer) {
        const out = withBias(x, layer);
        const [inputs, filters] = [x.channels, out.channels];
        for (let at = 0; at < x.height * x.width; at++)
            accumulate(out.data, at * filters, filters, x.data, at * inputs, inputs, layer.weights, 0);
        return out;
    },
    // A depthwise convolution: one filter for each channel.
    depthwise(x, layer) {
        const [out, n] = [withBias(x, layer), x.channels];
        slide(x, layer, (to, from, at) => accumulateEach(out.data, to * n, x.data, from * n, layer.weights, at * n, n));
        return out;
    },
    // Global average pooling: the mean of each channel. Before the classifier, and the squeeze of an SE block.
    pool(x) {
        const out = featureMap(1, 1, x.channels);
        for (let i = 0; i < x.data.length; i++) out.data[i % x.channels] += x.data[i] / (x.height * x.width);
        return out;
    },
    // The end of an SE block: x is the channel weights, and the feature map they were computed from is multiplied.
    multiply(x, layer, outputs) {
        const { height, width, channels, data } = outputs[layer.other];
        const out = featureMap(height, width, channels);
        for (let i = 0; i < data.length; i++) out.data[i] = data[i] * x.data[i % channels];
        return out;
    },
    // The skip connection: the block's input is added to its output. A block that is off outputs its input.
    add(x, layer, outputs) {
        const skip = outputs[layer.other];
        if (layer.off) return skip;
        const out = featureMap(x.height, x.width, x.channels);
        for (let i = 0; i < out.data.length; i++) out.data[i] = x.data[i] + skip.data[i];
        return out;
    },
};

const ACTIVATIONS = {
    relu: (x) => Math.max(x, 0),
    relu6: (x) => Math.min(Math.max(x, 0), 6),
    sigmoid: (x) => 1 / (1 + Math.exp(-x)),
    swish: (x) => x / (1 + Math.exp(-x)),
};

function activate(values, activation) {
    for (let i = 0; i < values.length; i++) values[i] = activation(values[i]);
}

// The whole network: each layer takes the output of the one before. Returns every layer's output by its name.
function forward(layers, image, progress = () => {}) {
    const outputs = {};
    let x = image;
    layers.forEach((layer, number) => {
        x = LAYERS[layer.kind](x, layer, outputs);
        if (layer.activation) activate(x.data, ACTIVATIONS[layer.activation]);
        outputs[layer.name] = x;
        progress((number + 1) / layers.length);
    });
    return outputs;
}

function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (value) => Math.exp(value - largest));
    const total = powers.reduce((sum, value) => sum + value, 0);
    return powers.map((value) => value / total);
}

// Where a class was found: the classifier's sum over channels, taken before the mean over positions.
function classActivationMap(features, classifier, number) {
    const map = featureMap(features.height, features.width, 1);
    for (let i = 0; i < features.data.length; i++) {
        const weight = classifier.weights[(i % features.channels) * classifier.bias.length + number];
        map.data[Math.floor(i / features.channels)] += features.data[i] * weight;
    }
    return map;
}
