"use strict";
// A feature map: {height, width, channels, data}; data is a Float32Array with the channels of each position together.
function featureMap(height, width, channels) {
    return { height, width, channels, data: new Float32Array(height * width * channels) };
}

// How many zeros "same" padding puts before the first row or column.
function padding(size, kernel, stride) {
    const outputs = Math.ceil(size / stride);
    return Math.floor(Math.max((outputs - 1) * stride + kernel - size, 0) / 2);
}

// Calls visit(position in the output, position in the input, which of the kernel's positions) for all that meet.
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

function relu6(x) {
    for (let i = 0; i < x.data.length; i++) x.data[i] = Math.min(Math.max(x.data[i], 0), 6);
    return x;
}

// All filters at one position: out[o + f] += sum over the inputs of input * weight; four inputs at a time, for speed.
function accumulate(out, o, filters, input, i, channels, weights, w) {
    const end = i + channels;
    for (; i + 3 < end; i += 4, w += 4 * filters) {
        const [x0, x1, x2, x3] = [input[i], input[i + 1], input[i + 2], input[i + 3]];
        const [w1, w2, w3] = [w + filters, w + 2 * filters, w + 3 * filters];
        for (let f = 0; f < filters; f++)
            out[o + f] += x0 * weights[w + f] + x1 * weights[w1 + f] + x2 * weights[w2 + f] + x3 * weights[w3 + f];
    }
    for (; i < end; i++, w += filters)
        for (let f = 0; f < filters; f++) out[o + f] += input[i] * weights[w + f];
}

const LAYERS = {
    // Pixels 0..255 to the range that the network was trained on.
    rescale(x, layer) {
        const out = featureMap(x.height, x.width, x.channels);
        for (let i = 0; i < out.data.length; i++) out.data[i] = x.data[i] * layer.scale + layer.offset;
        return out;
    },
    // A full convolution: each filter sees all channels under its kernel. Only the stem is one.
    convolution(x, layer) {
        const out = withBias(x, layer);
        const size = x.channels * out.channels;
        slide(x, layer, (to, from, at) =>
            accumulate(out.data, to * out.channels, out.channels, x.data, from * x.channels, x.channels,
                layer.weights, at * size));
        return out;
    },
    // A 1x1 convolution: a matrix product at every position. Expansion and projection.
    pointwise(x, layer) {
        const out = withBias(x, layer);
        for (let at = 0; at < x.height * x.width; at++)
            accumulate(out.data, at * out.channels, out.channels, x.data, at * x.channels, x.channels, layer.weights, 0);
        return out;
    },
    // A depthwise convolution: one filter for each channel.
    depthwise(x, layer) {
        const out = withBias(x, layer);
        const { channels } = x;
        slide(x, layer, (to, from, at) => {
            for (let c = 0; c < channels; c++)
                out.data[to * channels + c] += x.data[from * channels + c] * layer.weights[at * channels + c];
        });
        return out;
    },
    // The skip connection: the block's input is added to its output.
    add(x, layer, outputs) {
        const out = featureMap(x.height, x.width, x.channels);
        const skip = outputs[layer.skip].data;
        for (let i = 0; i < out.data.length; i++) out.data[i] = x.data[i] + skip[i];
        return out;
    },
    // Global average pooling: the mean of each channel.
    pool(x) {
        const out = featureMap(1, 1, x.channels);
        for (let i = 0; i < x.data.length; i++) out.data[i % x.channels] += x.data[i] / (x.height * x.width);
        return out;
    },
    // The classifier is a 1x1 convolution of a single position.
    dense(x, layer) {
        return LAYERS.pointwise(x, layer);
    },
};

// The whole network: each layer takes what the one before has given. Returns every layer's output by its name.
function forward(layers, image, progress = () => {}) {
    const outputs = {};
    let x = image;
    layers.forEach((layer, number) => {
        x = LAYERS[layer.kind](x, layer, outputs);
        if (layer.relu6) x = relu6(x);
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

// Where a class was found. The classifier's sum over channels can be taken before the mean over positions.
function classActivationMap(features, classifier, number) {
    const map = featureMap(features.height, features.width, 1);
    for (let i = 0; i < features.data.length; i++) {
        const weight = classifier.weights[(i % features.channels) * classifier.bias.length + number];
        map.data[Math.floor(i / features.channels)] += features.data[i] * weight;
    }
    return map;
}
