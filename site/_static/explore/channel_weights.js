"use strict";
// The page of B0 on CIFAR-10: ten classes, the SE weights of every block, and switches that change the network.
let before = {}; // the channel weights for the photograph or the switches before

function accuracyText(accuracy) {
    return `${(100 * accuracy).toFixed(1)} %`;
}

// --- The answer -----------------------------------------------------------------------------------------------------

function showClasses() {
    const largest = Math.max(...answer.probabilities);
    find(".classes").replaceChildren(...answer.probabilities.map((probability, number) => {
        const bar = make("span", { className: "bar" });
        bar.style.width = `${100 * probability}%`;
        const text = make("span", {}, `${NETWORK.classes[number]} ${percent(probability)}`);
        return make("li", { className: probability === largest ? "best" : "" }, bar, text);
    }));
}

// --- SE -------------------------------------------------------------------------------------------------------------

function mean(values) {
    return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// One bar for each channel, in a picture that is one unit high and one unit wide for each channel.
function bars(weights) {
    const name = "http://www.w3.org/2000/svg";
    const path = document.createElementNS(name, "path");
    path.setAttribute("d", Array.from(weights, (weight, channel) => `M${channel} 1V${1 - weight}h1V1`).join(""));
    const picture = document.createElementNS(name, "svg");
    picture.setAttribute("viewBox", `0 0 ${weights.length} 1`);
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("aria-hidden", "true"); // its caption says what it shows
    picture.append(path);
    return picture;
}

function showChannelWeights() {
    const off = switchedOff();
    find(".weights").replaceChildren(...Object.entries(answer.channelWeights).map(([block, weights]) => {
        const [low, high] = [Math.min(...weights), Math.max(...weights)].map((value) => value.toFixed(2));
        let text = `: ${weights.length} channels, ${low} to ${high}, mean ${mean(weights).toFixed(2)}`;
        if (before[block]) {
            const change = mean(weights.map((weight, channel) => Math.abs(weight - before[block][channel])));
            text += `, changed by ${change.toFixed(2)}`;
        }
        if (off.includes(block)) text = ": switched off";
        const title = make("strong", {}, block.replace("block", "Block "));
        const className = off.includes(block) ? "off" : "";
        return make("figure", { className }, make("figcaption", {}, title, text), bars(weights));
    }));
    before = answer.channelWeights;
}

// --- Switches -------------------------------------------------------------------------------------------------------

function addSwitches() {
    const { int8, relu, without } = NETWORK.accuracy;
    find(".with-swish").textContent = accuracyText(int8);
    find(".with-relu").textContent = accuracyText(relu);
    for (const [block, accuracy] of Object.entries(without)) {
        const box = make("input", { type: "checkbox", value: block, checked: true });
        const text = ` ${block.replace("block", "")} (without it ${accuracyText(accuracy)})`;
        find(".switches").append(make("label", {}, box, text));
    }
    for (const input of root.querySelectorAll(".change input")) input.onchange = change;
}

function switchedOff() {
    return [...root.querySelectorAll(".switches input:not(:checked)")].map(({ value }) => value);
}

function change() {
    const activation = find(".change input[type=radio]:checked").value;
    worker.postMessage({ kind: "change", activation, off: switchedOff() });
}

RECEIVED.classified = (data) => {
    answer = data;
    say(`Computed in ${Math.round(data.milliseconds)} ms on your machine.`);
    for (const section of root.querySelectorAll("section")) section.hidden = false;
    draw(find(".photo"), answer.photo);
    showClasses();
    showChannelWeights();
};

loadNetwork("b0_cifar10.js", addSwitches);
