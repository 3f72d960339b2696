// The drawing of B0 as a map: press a part, or choose it with the arrow keys and Enter, and read about it below.
// Without this script it is a picture.
const architecture = document.getElementById("architecture");
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function template(part) {
  return architecture.querySelector(`template[data-part="${part.dataset.part}"]`);
}

function show(part) {
  architecture.querySelectorAll(".part").forEach((each) => {
    each.setAttribute("aria-pressed", each.dataset.part === part.dataset.part);
  });
  architecture.querySelector(".about").replaceChildren(template(part).content.cloneNode(true));
}

// Tab leads into the drawing once; within it the arrow keys move the focus.
function focusOn(part, parts) {
  parts.forEach((each) => each.setAttribute("tabindex", each === part ? 0 : -1));
  part.focus();
}

function pressKey(event, parts) {
  const at = parts.indexOf(event.currentTarget);
  if (event.key === "Enter" || event.key === " ") show(parts[at]);
  else if (event.key === "Home") focusOn(parts[0], parts);
  else if (event.key === "End") focusOn(parts.at(-1), parts);
  else if (event.key in STEPS) focusOn(parts[at + STEPS[event.key]] ?? parts[at], parts);
  else return;
  event.preventDefault(); // the page does not scroll
}

// The row and, for narrow screens, the column; only one of them is visible.
architecture.querySelectorAll("svg").forEach((drawing) => {
  const parts = [...drawing.querySelectorAll(".part")];
  drawing.setAttribute("role", "group"); // a picture has no buttons in it
  drawing.setAttribute("aria-describedby", "architecture-hint");
  parts.forEach((part, index) => {
    part.setAttribute("role", "button");
    const seen = [...part.querySelectorAll("text")].map((text) => text.textContent);
    part.setAttribute("aria-label", [template(part).dataset.title, ...seen].join(" ")); // speech input says what it sees
    part.setAttribute("aria-pressed", false);
    part.setAttribute("tabindex", index === 0 ? 0 : -1);
    part.addEventListener("click", () => {
      focusOn(part, parts);
      show(part);
    });
    part.addEventListener("keydown", (event) => pressKey(event, parts));
  });
});
architecture.querySelector(".hint").hidden = false;
