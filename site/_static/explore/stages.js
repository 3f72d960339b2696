"use strict";
// The page of Lite0: the five most probable classes, where each was found, stages, channels and the steps of a block.
const TILES = 24; // channels of a stage shown at once
const STEPS = 6; // channels of each step of a block

// --- Classes --------------------------------------------------------------------------------------------------------

function showTop() {
    const best = answer.probabilities.map((value, number) => [value, number]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    find(".top").replaceChildren(...best.map(([probability, number]) => {
        const bar = make("span", { className: "bar" });
        bar.style.width = `${100 * probability}%`;
        const name = NETWORK.classes[number].split(",")[0];
        const text = make("span", {}, `${name} ${percent(probability)}`);
        const button = make("button", { type: "button", ariaPressed: "false" }, bar, text);
        button.dataset.number = number;
        button.onclick = () => {
            if (button.ariaPressed === "true") showPhoto();
            else worker.postMessage({ kind: "locate", number });
        };
        return button;
    }));
}

// The whole photograph, or where a class was found.
function showPhoto(photo = answer.photo, number = -1) {
    draw(find(".photo"), photo);
    for (const button of find(".top").children)
        button.ariaPressed = String(Number(button.dataset.number) === number);
}

// --- Stages and channels --------------------------------------------------------------------------------------------

// The layer that each stage ends with; the stem before the stages, the head after them.
function stageEnds() {
    const names = ["stem_conv"];
    for (let stage = 1; stage <= 7; stage++)
        names.push(NETWORK.layers.findLast(({ name }) => name.startsWith(`block${stage}`)).name);
    return [...names, "top_conv"];
}

function stageTitle(number) {
    if (number === 0) return "Stem";
    return number === 8 ? "Head" : `Stage ${number}`;
}

function askForStage() {
    const layer = stageEnds()[find(".stage").valueAsNumber];
    worker.postMessage({ kind: "maps", layer, first: 0, count: TILES, target: "stage" });
    find(".channel").value = 0;
    askForChannel();
}

function askForChannel() {
    const layer = stageEnds()[find(".stage").valueAsNumber];
    const first = Math.min(Math.max(find(".channel").valueAsNumber || 0, 0), find(".channel").max);
    worker.postMessage({ kind: "maps", layer, first, count: 1, target: "channel" });
}

function tile(shown) {
    const canvas = make("canvas", { role: "img", ariaLabel: `channel ${shown.channel}` });
    draw(canvas, shown);
    return canvas;
}

// --- One block ------------------------------------------------------------------------------------------------------

function blockSteps(block) {
    const titles = { expand_conv: "expand", dwconv: "depthwise", project_conv: "project", add: "add" };
    return Object.entries(titles)
        .map(([end, title]) => ({ title, layer: `${block}_${end}` }))
        .filter(({ layer }) => NETWORK.layers.some(({ name }) => name === layer));
}

function askForBlock() {
    const steps = blockSteps(find(".block").value);
    find(".steps").replaceChildren(...steps.map(({ title, layer }) => {
        const caption = make("p", { className: "caption" }, title);
        return make("div", { id: `step-${layer}` }, caption, make("div", { className: "grid" }));
    }));
    for (const { layer } of steps) worker.postMessage({ kind: "maps", layer, first: 0, count: STEPS, target: "step" });
}

function fillBlocks() {
    for (const { name } of NETWORK.layers.filter(({ name }) => name.endsWith("_project_conv"))) {
        const block = name.replace("_project_conv", "");
        const chosen = block === "block2b"; // the first one with a skip connection
        find(".block").append(new Option(block.replace("block", ""), block, chosen, chosen));
    }
}

// --- What the worker says -------------------------------------------------------------------------------------------

const MAPS = {
    stage({ height, width, channels, shown }) {
        const title = stageTitle(find(".stage").valueAsNumber);
        find(".stage-name").textContent = `${title}: ${channels} channels of ${height} × ${width}`;
        find(".channel").max = channels - 1;
        find(".stage-maps").replaceChildren(...shown.map((each) => {
            const button = make("button", { type: "button", title: `channel ${each.channel}` }, tile(each));
            button.onclick = () => {
                find(".channel").value = each.channel;
                askForChannel();
            };
            return button;
        }));
    },
    channel({ shown: [one] }) {
        draw(find(".one"), one);
        find(".channel-name").textContent =
            `Channel ${one.channel}: black is ${one.low.toFixed(1)}, white is ${one.high.toFixed(1)}`;
    },
    step({ layer, height, width, channels, shown }) {
        const step = find(`#step-${layer}`);
        if (!step) return; // a different block was chosen meanwhile
        step.querySelector(".caption").textContent += `: ${channels} channels of ${height} × ${width}`;
        step.querySelector(".grid").replaceChildren(...shown.map(tile));
    },
};

RECEIVED.classified = (data) => {
    answer = data;
    say(`Computed in ${Math.round(data.milliseconds)} ms on your machine.`);
    for (const section of root.querySelectorAll("section")) section.hidden = false;
    showTop();
    showPhoto();
    askForStage();
    askForBlock();
};
RECEIVED.located = ({ photo, number }) => {
    showPhoto(photo, number);
    say("In colours: where the class was found. Press the class again to see the whole photograph.");
};
RECEIVED.maps = (data) => MAPS[data.target](data);

find(".stage").oninput = askForStage;
find(".channel").oninput = askForChannel;
find(".block").onchange = askForBlock;
loadNetwork("lite0.js", fillBlocks);
