"use strict";
// The page around the network: photographs in, answers and feature maps out. All computing is done in the worker.
const root = document.querySelector("#explore");
const find = (selector) => root.querySelector(selector);
const TILES = 24; // channels of a stage shown at once
const STEPS = 6; // channels of each step of a block
let worker = null;
let layers = [];
let answer = null;

function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
}

function say(text) {
    find(".status").textContent = text;
}

// The worker's program is the text shown on this page and worker.js: a page in a folder cannot start one from a file.
function startWorker() {
    const shown = document.querySelector(".highlight-javascript pre").textContent;
    const source = `${shown}\n(${exploreWorker})();`;
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => RECEIVED[data.kind](data);
    worker.onerror = (event) => say(`The network stopped: ${event.message}`);
    worker.postMessage({ kind: "network", network: NETWORK });
    layers = NETWORK.layers;
}

async function classify(source, name) {
    let bitmap = null;
    try {
        bitmap = await createImageBitmap(source, { imageOrientation: "from-image" });
    } catch {
        say(`${name} cannot be read as an image. Try a JPEG, PNG or WebP file.`);
        return;
    }
    say(`Looking at ${name} …`);
    worker.postMessage({ kind: "classify", bitmap }, [bitmap]);
}

function drawPixels(canvas, height, width, colour) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let at = 0; at < height * width; at++) image.data.set([...colour(at), 255], 4 * at);
    [canvas.width, canvas.height] = [width, height];
    context.putImageData(image, 0, 0);
}

// The photograph in greys where a class was not found, in colours where it was.
function drawPhoto(map) {
    const size = NETWORK.size;
    const heat = map ? upsampled(map, size) : null;
    drawPixels(find(".photo"), size, size, (at) => {
        const pixel = answer.pixels.subarray(3 * at, 3 * at + 3);
        if (!heat) return pixel;
        const grey = 0.35 * (pixel[0] + pixel[1] + pixel[2]) / 3 + 130;
        return [0, 1, 2].map((i) => heat[at] * pixel[i] + (1 - heat[at]) * grey);
    });
}

// A small map enlarged linearly, from 0 (nothing, or against the class) to 1 (the largest value).
function upsampled({ height, width, data }, size) {
    const largest = Math.max(...data, 1e-9);
    const value = (row, column) => Math.max(data[row * width + column], 0) / largest;
    const out = new Float32Array(size * size);
    for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++) {
            const row = Math.min(Math.max(((y + 0.5) * height) / size - 0.5, 0), height - 1);
            const column = Math.min(Math.max(((x + 0.5) * width) / size - 0.5, 0), width - 1);
            const [top, left] = [Math.min(Math.floor(row), height - 2), Math.min(Math.floor(column), width - 2)];
            const [down, right] = [row - top, column - left];
            out[y * size + x] =
                (1 - down) * ((1 - right) * value(top, left) + right * value(top, left + 1)) +
                down * ((1 - right) * value(top + 1, left) + right * value(top + 1, left + 1));
        }
    return out;
}

function percent(probability) {
    return probability < 0.005 ? "< 1 %" : `${Math.round(100 * probability)} %`;
}

function showTop() {
    const best = answer.probabilities.map((value, number) => [value, number]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    find(".top").replaceChildren(
        ...best.map(([probability, number]) => {
            const bar = make("span", { className: "bar" });
            bar.style.width = `${100 * probability}%`;
            const name = NETWORK.classes[number].split(",")[0];
            const button = make("button", { type: "button" }, bar, make("span", {}, `${name} ${percent(probability)}`));
            button.dataset.number = number;
            button.ariaPressed = "false";
            button.onclick = () => {
                if (button.ariaPressed === "true") {
                    button.ariaPressed = "false";
                    drawPhoto(null);
                } else worker.postMessage({ kind: "locate", number });
            };
            return button;
        }),
    );
}

// The layer that each stage ends with, the stem before the stages and the head after them.
function stageEnds() {
    const names = ["stem_conv"];
    for (let stage = 1; stage <= 7; stage++) {
        const inside = layers.filter(({ name }) => name.startsWith(`block${stage}`));
        names.push(inside.at(-1).name);
    }
    return [...names, "top_conv"];
}

function stageTitle(number) {
    return number === 0 ? "stem" : number === 8 ? "head" : `stage ${number}`;
}

function askForStage() {
    const layer = stageEnds()[find(".stage").valueAsNumber];
    worker.postMessage({ kind: "maps", layer, first: 0, count: TILES, target: "stage" });
    find(".channel").value = 0;
    askForChannel();
}

function askForChannel() {
    const layer = stageEnds()[find(".stage").valueAsNumber];
    const first = Math.max(find(".channel").valueAsNumber || 0, 0);
    worker.postMessage({ kind: "maps", layer, first, count: 1, target: "channel" });
}

function blockSteps(block) {
    const titles = { expand_conv: "expand", dwconv: "depthwise", project_conv: "project", add: "add" };
    return Object.entries(titles)
        .map(([end, title]) => ({ title, layer: `${block}_${end}` }))
        .filter(({ layer }) => layers.some(({ name }) => name === layer));
}

function askForBlock() {
    const steps = blockSteps(find(".block").value);
    find(".steps").replaceChildren(
        ...steps.map(({ title, layer }) => {
            const caption = make("p", { className: "caption" }, title);
            return make("div", { className: "step", id: `step-${layer}` }, caption, make("div", { className: "grid" }));
        }),
    );
    for (const { layer } of steps)
        worker.postMessage({ kind: "maps", layer, first: 0, count: STEPS, target: "step" });
}

function tile({ channel, grey }, height, width) {
    const canvas = make("canvas", { role: "img", ariaLabel: `channel ${channel}` });
    drawPixels(canvas, height, width, (at) => [grey[at], grey[at], grey[at]]);
    return canvas;
}

const SHOWN = {
    stage({ height, width, channels, greys }) {
        const number = find(".stage").valueAsNumber;
        find(".stage-name").textContent = `${stageTitle(number)}: ${channels} channels of ${height} × ${width}`;
        find(".channel").max = channels - 1;
        find(".stage-maps").replaceChildren(
            ...greys.map((each) => {
                const button = make("button", { type: "button", title: `channel ${each.channel}` }, tile(each, height, width));
                button.onclick = () => {
                    find(".channel").value = each.channel;
                    askForChannel();
                };
                return button;
            }),
        );
    },
    channel({ height, width, greys }) {
        if (!greys.length) return;
        const [{ channel, low, high, grey }] = greys;
        drawPixels(find(".one"), height, width, (at) => [grey[at], grey[at], grey[at]]);
        find(".channel-name").textContent = `channel ${channel}: black is ${low.toFixed(1)}, white is ${high.toFixed(1)}`;
    },
    step({ layer, height, width, channels, greys }) {
        const step = find(`#step-${layer}`);
        if (!step) return; // another block was chosen meanwhile
        step.querySelector(".caption").textContent += `: ${channels} channels of ${height} × ${width}`;
        step.querySelector(".grid").replaceChildren(...greys.map((each) => tile(each, height, width)));
    },
};

const RECEIVED = {
    ready() {
        say("Ready.");
        for (const part of root.querySelectorAll(".photos button, input[type=file], .camera")) part.disabled = false;
        root.querySelector(".photos button").click();
    },
    progress({ part }) {
        find("progress").value = part;
    },
    classified(data) {
        answer = data;
        say(`Computed in ${Math.round(data.milliseconds)} ms on your machine.`);
        for (const section of root.querySelectorAll("section")) section.hidden = false;
        drawPhoto(null);
        showTop();
        askForStage();
        askForBlock();
    },
    located(map) {
        for (const button of find(".top").children)
            button.ariaPressed = String(Number(button.dataset.number) === map.number);
        drawPhoto(map);
        say("In colours: where the class was found. Press it again to see the whole photograph.");
    },
    maps(data) {
        SHOWN[data.target](data);
    },
};

function addPhotographs() {
    for (const [name, address] of Object.entries(PHOTOS)) {
        const image = make("img", { src: address, alt: `Photograph: ${name}`, width: 96, height: 96 });
        const button = make("button", { type: "button", disabled: true }, image);
        button.onclick = async () => {
            const bytes = Uint8Array.from(atob(address.split(",")[1]), (character) => character.charCodeAt(0));
            classify(new Blob([bytes], { type: "image/jpeg" }), `the photograph “${name}”`);
        };
        find(".photos").append(button);
    }
}

async function photographWithCamera() {
    let stream = null;
    try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
        say(`The camera cannot be used: ${error.message}`);
        return;
    }
    const video = make("video", { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    await classify(video, "the camera's picture");
    for (const track of stream.getTracks()) track.stop();
}

function listen() {
    find("input[type=file]").onchange = ({ target }) => {
        if (target.files.length) classify(target.files[0], target.files[0].name);
    };
    root.ondragover = (event) => event.preventDefault();
    root.ondrop = (event) => {
        event.preventDefault();
        const [file] = event.dataTransfer.files;
        if (file) classify(file, file.name);
    };
    find(".camera").hidden = !(window.isSecureContext && navigator.mediaDevices);
    find(".camera").onclick = photographWithCamera;
    find(".stage").oninput = askForStage;
    find(".channel").oninput = askForChannel;
    find(".block").onchange = askForBlock;
}

function fillBlocks() {
    const names = layers.map(({ name }) => name).filter((name) => name.endsWith("_project_conv"));
    for (const name of names) {
        const block = name.replace("_project_conv", "");
        find(".block").append(make("option", { value: block, selected: block === "block2b" }, block.replace("block", "")));
    }
}

addPhotographs();
listen();
// The parameters come last: five megabytes, while the page is already there.
const script = make("script", { src: "_static/explore/lite0.js" });
script.onload = () => {
    startWorker();
    fillBlocks();
};
script.onerror = () => say("The network's parameters are missing: make docs writes them.");
document.body.append(script);
