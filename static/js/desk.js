// The rating desk. Without this file it is a plain form.
//
// An answer goes into the outbox and the next item, already in the page, takes its place at once. The desk says "Saved"
// only when the server has said so; until then it says what is true.
import { ask, dropDraft, dropOldDrafts, filledIn, openClock, openOutbox, presentToken, restoreDraft, saveDraft } from "./desk/outbox.js";
import { listenToKeys, openControls } from "./desk/controls.js";

const $ = (id) => document.getElementById(id);
const page = $("desk-page").dataset;
const words = $("desk-words").dataset;
const controls = openControls(page, words);
const AUTO_ADVANCE = 350;
const DRAFT_PAUSE = 250;

const untouched = new WeakMap(); // desk element -> what its form said when it came
let next = null; // the element of the item that follows
let asking = false;
let emptied = false; // the server has said that nothing follows
let busy = false; // the item shown is answered, and none is at hand
let aside = null; // what was on the desk when an earlier answer was taken back
let undoAsked = false;
let said = "";
let advanceTimer = 0;
let draftTimer = 0;

const desk = () => $("desk");
const leaseOf = (element) => element?.dataset.lease ?? "";
const clock = openClock(desk);

// The state of the answers, in one line; and once, aloud, when it changes for the worse.

function showState() {
  const { waiting, sending, trouble, durable } = outbox.state();
  const form = $("desk-form");
  const touched = form && !busy && JSON.stringify(filledIn(form)) !== untouched.get(desk());
  const kind = trouble ? "waiting" : sending || waiting ? "saving" : touched ? "unsaved" : said ? "saved" : "";
  const text = { waiting: words.waiting.replace("{number}", waiting), saving: words.saving, unsaved: words.unsaved, saved: said, "": "" }[kind];
  const state = $("desk-state");
  if (state.dataset.state !== kind || state.textContent !== text) {
    state.dataset.state = kind;
    state.textContent = text;
  }
  const notice = $("desk-trouble");
  const why = trouble ? `${words[trouble]} ${durable ? words.kept : words.notkept}` : "";
  if (notice.hidden !== !why) notice.hidden = !why;
  if (notice.querySelector("p").textContent !== why) notice.querySelector("p").textContent = why;
}

const speak = (text) => { $("desk-status").textContent = text; };

function tell(text) {
  const notice = $("desk-notice");
  notice.querySelector("p").textContent = text;
  notice.hidden = !text;
}

// Showing items

function parse(html) {
  const element = new DOMParser().parseFromString(html, "text/html").getElementById("desk");
  if (element && element.dataset.account !== page.account) location.reload(); // Somebody else signed in meanwhile.
  return element && document.adoptNode(element);
}

function show(element, { refused = false } = {}) {
  clock.stop();
  clearTimeout(advanceTimer);
  const guidelines = desk().querySelector(".guidelines")?.open;
  const progress = desk().querySelector("#desk-progress");
  if (element !== aside && !refused && progress) element.querySelector("#desk-progress")?.replaceWith(progress.cloneNode(true));
  desk().replaceWith(element);
  busy = false;
  const beside = element.querySelector(".guidelines");
  if (beside && guidelines !== undefined) beside.open = guidelines;
  clock.start();
  arrive(element, refused);
}

function arrive(element, refused = false) {
  const form = $("desk-form");
  for (const scripted of document.querySelectorAll("[data-needs-script]")) scripted.hidden = false;
  if (form && !untouched.has(element)) {
    untouched.set(element, refused ? "" : JSON.stringify(filledIn(form)));
    const spent = refused || element.dataset.revises ? null : restoreDraft(page.account, leaseOf(element), form);
    if (spent) clock.set(element, spent);
  }
  controls.dress(element);
  document.dispatchEvent(new CustomEvent("desk:shown"));
  showState();
  const error = refused && element.querySelector(".errorlist");
  if (error) {
    tell(`${words.refused422} ${error.textContent.trim()}`);
    const place = error.closest("fieldset, .field") ?? error.parentElement.previousElementSibling ?? form;
    place?.querySelector("input, textarea")?.focus();
    return;
  }
  const heading = $("desk-heading");
  speak(heading.textContent.trim());
  heading.focus({ preventScroll: true });
  window.scrollTo({ top: 0, behavior: "instant" });
}

// The next item

const held = (sent) => [...new Set([
  ...(busy ? [] : [leaseOf(desk()), leaseOf(aside)]), leaseOf(next),
  ...outbox.entries().filter((entry) => entry.name !== sent?.name).map((entry) => entry.lease),
])].filter((lease) => lease && lease !== sent?.lease);

async function fetchNext() {
  if (next || asking || emptied || (!busy && !leaseOf(desk())) || outbox.state().waiting) return;
  asking = true;
  try {
    const query = held().map((lease) => `held=${lease}`).join("&");
    const answer = await ask(`${page.judge}?${query}`, page.account);
    if (answer.desk === "1") offer(parse(answer.html));
  } catch {
    // The answer to this item will bring the next one.
  } finally {
    asking = false;
  }
}

// An item that the server handed out: shown if the desk waits for one, else kept at hand.
function offer(element) {
  if (!element) return;
  const lease = leaseOf(element);
  emptied = !lease;
  if (busy && (lease ? true : !outbox.state().waiting)) show(element);
  else if (lease && lease !== leaseOf(desk()) && lease !== leaseOf(aside)) next ??= element;
}

// Answering

function submit(form, submitter) {
  if (busy || !form || (form.id === "desk-form" && !form.reportValidity())) return;
  clearTimeout(advanceTimer);
  clearTimeout(draftTimer);
  const element = desk();
  const body = new URLSearchParams([...new FormData(form, submitter)].filter(([name]) => name !== "csrfmiddlewaretoken"));
  if (body.has("seconds")) body.set("seconds", (clock.read(element) / 1000).toFixed(1));
  form.querySelector("dialog[open]")?.close();
  tell("");
  said = "";
  dropDraft(page.account, leaseOf(element));
  const entry = { url: form.getAttribute("action"), body: body.toString(), lease: leaseOf(element) };
  if (aside) {
    const back = aside;
    aside = null;
    show(back);
  } else if (next) {
    const ready = next;
    next = null;
    show(ready);
  } else {
    setBusy();
  }
  outbox.add(entry);
}

function setBusy() {
  clock.stop();
  busy = true;
  desk().setAttribute("aria-busy", "true");
  for (const control of desk().querySelectorAll("fieldset, textarea, button, select")) control.disabled = true;
}

function arrived(entry, { desk: mark, status, html }) {
  const element = mark === "1" ? parse(html) : null;
  said = element?.dataset.said ?? "";
  if (mark === "gone") tell(words.gone);
  if (status === 409) tell(said);
  if (status === 409 || mark === "gone") said = "";
  if (!element) return busy && location.reload(); // The item is gone, and the desk waits for another.
  const progress = element.querySelector("#desk-progress");
  if (progress) desk().querySelector("#desk-progress")?.replaceWith(progress.cloneNode(true));
  if (status === 422) return refuse(element);
  return offer(element);
}

// The server found the answer unfit: it comes back with what is wrong, and the item on the desk waits.
function refuse(element) {
  if (!busy && leaseOf(desk())) {
    keepDraft();
    next = desk();
  }
  aside = null;
  show(element, { refused: true });
}

function keepDraft() {
  const form = $("desk-form");
  if (!form || busy || desk().dataset.revises) return;
  saveDraft(page.account, leaseOf(desk()), form, clock.read(desk()), untouched.get(desk()));
}

// Taking back

async function undo() {
  if (desk().dataset.revises) return keepAsItWas();
  if (outbox.state().waiting) {
    undoAsked = true;
    speak(words.undolater);
    return true;
  }
  keepDraft();
  try {
    const answer = await ask(page.undo, page.account, new URLSearchParams());
    const element = answer.desk === "1" ? parse(answer.html) : null;
    if (!element?.dataset.revises) tell(element?.dataset.said || words.noundo);
    else if (!outbox.state().waiting) {
      aside = desk();
      show(element);
      tell("");
    }
  } catch {
    tell(words.noundo);
  }
  return true;
}

function keepAsItWas() {
  if (!aside) return false;
  const back = aside;
  aside = null;
  show(back);
  return true;
}

const outbox = openOutbox(page.account, {
  held,
  arrived,
  changed: showState,
  drained() {
    if (undoAsked) {
      undoAsked = false;
      undo();
    }
    fetchNext();
  },
});

// Keys and clicks

function act(name) {
  if (name === "undo") return undo();
  if (name === "escape") return keepAsItWas();
  return !(busy && name === "skip") && controls.act(name);
}

listenToKeys(controls.keys, act, (form) => submit(form));

document.addEventListener("submit", (event) => {
  if (event.target.id === "desk-undo") undo();
  else if (event.target.id === "desk-form" || event.target.id === "desk-skip") submit(event.target, event.submitter);
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-look], [data-act]");
  if (button && act(button.dataset.look ?? button.dataset.act)) event.preventDefault();
});

document.addEventListener("input", () => {
  showState();
  clearTimeout(draftTimer);
  draftTimer = setTimeout(keepDraft, DRAFT_PAUSE);
});

document.addEventListener("change", (event) => {
  clearTimeout(advanceTimer);
  const form = event.target.closest?.("#desk-form");
  const needed = event.target.closest?.("[data-group], fieldset")?.querySelector("[required]");
  if (!form || !needed || !("autoAdvance" in page) || desk().dataset.revises || !form.checkValidity()) return;
  advanceTimer = setTimeout(() => submit(form), AUTO_ADVANCE);
});
for (const kind of ["keydown", "pointerdown"]) document.addEventListener(kind, () => clearTimeout(advanceTimer), true);

document.addEventListener("visibilitychange", () => {
  clock.stop();
  clock.start();
  if (document.hidden) keepDraft();
});

window.addEventListener("pagehide", () => {
  keepDraft();
  if (next) navigator.sendBeacon(page.release, new URLSearchParams({ csrfmiddlewaretoken: presentToken() }));
});

// A page that comes back from the browser's memory shows what was; the server knows what is.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

dropOldDrafts();
const answered = outbox.entries().some((entry) => entry.lease === leaseOf(desk()));
arrive(desk());
if (desk().dataset.status === "422") arrive(desk(), true);
if (answered) setBusy();
if (outbox.entries().length) outbox.insist();
else fetchNext();
