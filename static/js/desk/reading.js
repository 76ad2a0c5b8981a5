// Other looks of the responses: raw text, what differs, scrolling together. Texts go into the page as text, never as HTML.
import { differ } from "./difference.js";

const sourceOf = (response) => response.querySelector("pre.raw")?.textContent ?? "";

function setView(part, view) {
  for (const [name, selector] of [["prose", ":scope > .prose"], ["raw", ":scope > pre.raw"], ["difference", ":scope > pre.difference"]]) {
    const element = part.querySelector(selector);
    if (element) element.hidden = name !== view;
  }
}

function addDifference(response, runs) {
  const view = document.createElement("pre");
  view.className = "plain difference";
  view.dir = "auto";
  for (const { text, lone } of runs) {
    const node = document.createElement(lone ? "mark" : "span");
    node.textContent = text;
    view.append(node);
  }
  response.querySelector("pre.raw").after(view);
}

// Each response is compared with the first; of two, the first is compared with the second.
function markDifferences(responses, words) {
  const sources = responses.map(sourceOf);
  responses.forEach((response, place) => {
    if (response.querySelector("pre.difference")) return;
    if (place === 0 && responses.length > 2) return;
    const runs = differ(sources[0], place === 0 ? sources[1] : sources[place]);
    addDifference(response, runs ? runs[place === 0 ? 0 : 1] : [{ text: words.toolong, lone: false }]);
  });
}

function scrollAlong(event) {
  const moved = event.currentTarget;
  const frames = [...document.querySelectorAll("#desk .response > :is(.prose, pre):not([hidden])")];
  if (!moved.matches(":hover, :focus, :focus-within")) return; // Moved by this very function.
  const share = moved.scrollTop / Math.max(1, moved.scrollHeight - moved.clientHeight);
  for (const frame of frames) {
    if (frame !== moved) frame.scrollTop = share * (frame.scrollHeight - frame.clientHeight);
  }
}

function scrollTogether(responses, on) {
  for (const response of responses) {
    for (const frame of response.querySelectorAll(":scope > .prose, :scope > pre")) {
      frame.tabIndex = on ? 0 : -1;
      if (!on) frame.removeAttribute("tabindex");
      frame.removeEventListener("scroll", scrollAlong);
      if (on) frame.addEventListener("scroll", scrollAlong, { passive: true });
    }
  }
}

// Give every response of the desk the looks: look = {raw, difference, together}.
export function dressResponses(desk, look, words) {
  const responses = [...desk.querySelectorAll("article.response")];
  desk.dataset.looks = Object.keys(look).filter((name) => look[name]).join(" ");
  if (look.difference && responses.length > 1) markDifferences(responses, words);
  for (const response of responses) {
    const view = look.raw ? "raw" : look.difference && response.querySelector("pre.difference") ? "difference" : "prose";
    setView(response, view);
  }
  for (const turn of desk.querySelectorAll(".turn")) setView(turn, look.raw ? "raw" : "prose");
  scrollTogether(responses, look.together);
}
