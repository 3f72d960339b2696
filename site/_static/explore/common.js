"use strict";
// What both pages with a network share: photographs in, one worker that computes, answers out.
const root = document.querySelector("#explore");
const find = (selector) => root.querySelector(selector);
let worker = null;
let answer = null; // what the worker last said about a photograph

function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
}

function say(text) {
    find(".status").textContent = text;
}

function draw(canvas, { height, width, pixels }) {
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}

function percent(probability) {
    return probability < 0.005 ? "< 1 %" : `${Math.round(100 * probability)} %`;
}

// --- The worker -----------------------------------------------------------------------------------------------------

// What the worker says, by its kind; each page adds to it.
const RECEIVED = {
    ready() {
        for (const part of root.querySelectorAll(".photos button, .own input, .own button")) part.disabled = false;
        find(".photos button").click();
    },
    progress({ part }) {
        find("progress").value = part;
    },
    failed({ text }) {
        say(`This could not be computed: ${text}.`);
    },
};

// The worker's program is the text shown on the page and worker.js: a page in a folder cannot start one from a file.
function startWorker() {
    const shown = document.querySelector(".highlight-javascript pre").textContent;
    const source = `${shown}\n(${exploreWorker})();`;
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => RECEIVED[data.kind](data);
    worker.onerror = (event) => say(`The network stopped: ${event.message}`);
    worker.postMessage({ kind: "network", network: NETWORK });
}

// The parameters come last: five megabytes, while the page is already there.
function loadNetwork(file, then) {
    const script = make("script", { src: `_static/explore/${file}` });
    script.onload = () => {
        then();
        startWorker();
    };
    script.onerror = () => say(`The network's parameters, ${file}, are missing: make docs writes them.`);
    document.body.append(script);
}

// --- Photographs ----------------------------------------------------------------------------------------------------

async function classify(source, name) {
    let bitmap = null;
    try {
        bitmap = await createImageBitmap(source);
    } catch {
        const still = answer ? " Below you still see the photograph before." : "";
        say(`${name} is not an image that this browser can read. Try a JPEG, PNG or WebP file.${still}`);
        return;
    }
    say(`Looking at ${name} …`);
    worker.postMessage({ kind: "classify", bitmap }, [bitmap]);
}

function addPhotographs() {
    for (const [name, address] of Object.entries(PHOTOS)) {
        const image = make("img", { src: address, alt: `Photograph: ${name}`, width: 96, height: 96 });
        const button = make("button", { type: "button", disabled: true }, image);
        button.onclick = async () => {
            const response = await fetch(address); // which holds the photograph itself: nothing is requested
            classify(await response.blob(), `our photograph “${name}”`);
        };
        find(".photos").append(button);
    }
}

// The first press shows what the camera sees, the second takes the photograph and switches the camera off.
async function useCamera() {
    const video = find("video");
    const button = find(".camera");
    if (video.srcObject) {
        await classify(video, "the camera's photograph");
        for (const track of video.srcObject.getTracks()) track.stop();
        video.srcObject = null;
    } else {
        try {
            video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        } catch (error) {
            say(`The camera cannot be used: ${error.message}.`);
            return;
        }
        await video.play();
    }
    video.hidden = !video.srcObject;
    button.textContent = video.srcObject ? "Take the photograph" : "Use the camera";
}

function listen() {
    find("input[type=file]").onchange = ({ target }) => {
        if (target.files.length) classify(target.files[0], target.files[0].name);
        target.value = ""; // so that the same file can be chosen again
    };
    document.ondragover = (event) => event.preventDefault();
    document.ondrop = (event) => {
        event.preventDefault();
        const [file] = event.dataTransfer.files;
        if (!worker) return;
        if (file) classify(file, file.name);
        else say("That was not a file. Drop a photograph from a folder.");
    };
    find(".camera").hidden = !(window.isSecureContext && navigator.mediaDevices);
    find(".camera").onclick = useCamera;
}

addPhotographs();
listen();
