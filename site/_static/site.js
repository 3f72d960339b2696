// The theme expects the reader's choice of light and dark, and writes an error where there was none yet.
document.documentElement.dataset.mode ||= "auto";

// A formula that is wider than a phone scrolls; so that it does from the keyboard too, it must be able to have the focus.
if (window.MathJax) {
  window.MathJax.startup = {
    pageReady: () =>
      MathJax.startup.defaultPageReady().then(() => {
        document.querySelectorAll("mjx-container[display]").forEach((formula) => (formula.tabIndex = 0));
      }),
  };
}

// The theme's buttons give up the focus when they are pressed; from the keyboard, the reader would lose the place.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest("button");
    const byKeyboard = event.detail === 0;
    setTimeout(() => byKeyboard && document.activeElement === document.body && button?.focus());
  },
  true,
);

// A folded cell says what it holds: the title in its first line.
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".tag_hide-input").forEach((cell) => {
    const title = cell.querySelector("pre")?.textContent.match(/^# @title (.*)/)?.[1];
    if (!title) return;
    cell.querySelector("summary").removeAttribute("aria-label"); // what is seen is what is read out
    cell.querySelector("summary .collapsed").textContent = `${title} · show code`;
    cell.querySelector("summary .expanded").textContent = `${title} · hide code`;
  });
});

// What a search finds is shown with the text around it; a page's code would be in the way.
addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const textOf = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll("main :is(pre, summary, .live-figure, .math)").forEach((part) => part.remove());
    return textOf(page.documentElement.outerHTML, anchor);
  };
});
