// The controls of the desk: keys, looks, dialogs. Letters act, digits and yes/no answer; which key does what is the rater's
// choice.

const typing = (element) => element.matches("textarea, select, input:not([type='radio'], [type='checkbox'])");
const answered = (group) => group.querySelector(":checked") !== null;
const ANSWERS = { y: "yes", n: "no" };
const inputOf = (group, key) => [...group.querySelectorAll("input")].find((one) => !one.disabled && (key in ANSWERS ? one.value === ANSWERS[key] : one.dataset.key === key));

// The row that an answer goes to: the one with the focus, else the first without an answer, else the last. A row that is
// put aside (data-aside) takes keys only while it has the focus.
function groupFor(groups, key) {
  const able = groups.filter((group) => inputOf(group, key));
  const main = able.filter((group) => !("aside" in group.dataset));
  return able.find((group) => group.contains(document.activeElement)) ?? main.find((group) => !answered(group)) ?? main.at(-1);
}

function pressAnswer(scope, key) {
  const groups = [...scope.querySelectorAll("[data-group]")].filter((group) => group.checkVisibility());
  const group = groupFor(groups, key);
  if (!group) return false;
  const input = inputOf(group, key);
  input.click();
  input.focus({ preventScroll: true });
  if (input.type === "checkbox") return true;
  const later = groups.slice(groups.indexOf(group) + 1).find((one) => !answered(one) && !("aside" in one.dataset));
  later?.querySelector("input")?.focus();
  return true;
}

// On keyboards whose digits need Shift (French, Czech), the digit's own key will do.
function keyOf(event, actions) {
  const key = event.key.toLowerCase();
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  return digit && !event.shiftKey && !/^\d$/.test(key) && !actions.has(key) ? digit : key;
}

function print(keys) {
  for (const printed of document.querySelectorAll("kbd[data-for]")) printed.textContent = keys[printed.dataset.for]?.toUpperCase() ?? "";
  for (const input of document.querySelectorAll("#desk [data-key], #desk-skip [data-key]")) {
    // The words of an option may be those of anything that every object has.
    const key = input.dataset.key in ANSWERS ? keys[ANSWERS[input.dataset.key]] : keys[`answer_${input.dataset.key}`];
    const printed = input.closest("label")?.querySelector("kbd");
    if (printed && key) printed.textContent = key.toUpperCase();
  }
}

// keys: {action: key}. act(name) does it and says whether it did; submit(form) sends.
export function listenToKeys(keys, act, submit) {
  const actions = new Map(Object.entries(keys).map(([name, key]) => [key, name]));

  function press(scope, name, dialog) {
    if (name.startsWith("answer_")) return pressAnswer(scope, name.slice("answer_".length));
    if (name === "yes" || name === "no") return pressAnswer(scope, name[0]);
    return !dialog && act(name);
  }

  function pressEnter(form, target) {
    if (!form || target.closest("button, a, summary")) return false;
    submit(form);
    return true;
  }

  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const dialog = document.querySelector("dialog[open]");
    const form = dialog ? dialog.closest("form") : document.getElementById("desk-form");
    if (event.isComposing || event.altKey || event.repeat || event.defaultPrevented) return;
    if (typing(target)) {
      if (event.key === "Escape" && !dialog) document.getElementById("desk-heading").focus();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && pressEnter(form, target)) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    const name = actions.get(keyOf(event, actions));
    const used = event.key === "Enter" ? pressEnter(form, target)
      : event.key === "Escape" ? !dialog && act("escape")
      : name ? press(dialog ?? form ?? document.body, name, dialog) : false;
    if (used) event.preventDefault();
  });
}

function openDialog(id) {
  const dialog = document.getElementById(id);
  dialog?.showModal();
  return Boolean(dialog);
}

function openMore(selector) {
  const control = document.querySelector(`#desk ${selector}`);
  if (!control) return false;
  control.closest("details")?.setAttribute("open", "");
  control.focus();
  return true;
}

function toggleGuidelines() {
  const guidelines = document.querySelector("#desk .guidelines");
  if (guidelines) guidelines.open = !guidelines.open;
  return Boolean(guidelines);
}

// What of the desk is the same whatever it shows: dress(element) gives a new item the rater's keys and looks; act(name)
// does what a key or a button asks for.
export function openControls(page, words) {
  const keys = JSON.parse(page.keys);
  const look = { raw: false, difference: false, together: "scrollTogether" in page };

  // Formulas, differences and raw text come when they are wanted.
  async function dress(element) {
    print(keys);
    for (const button of element.querySelectorAll("[data-look]")) button.setAttribute("aria-pressed", String(look[button.dataset.look]));
    if (element.querySelector(".math")) (await import("./formulas.js")).showFormulas(element, page);
    if (look.raw || look.difference || look.together || "looks" in element.dataset) {
      (await import("./reading.js")).dressResponses(element, look, words);
    }
    if (element.querySelector("[data-board]")) (await import("../ranking.js")).showBoard(element);
    if (element.querySelector("[data-marks], [data-rewrite]")) (await import("../spans.js")).takeSpans(element);
  }

  function switchLook(name) {
    const desk = document.getElementById("desk");
    if (!desk.querySelector(`[data-look="${name}"]`)) return false;
    look[name] = !look[name];
    if (look[name] && name === "raw") look.difference = false;
    if (look[name] && name === "difference") look.raw = false;
    dress(desk);
    return true;
  }

  function act(name) {
    if (name in look) return switchLook(name);
    if (name === "skip") return openDialog("skip-dialog");
    if (name === "help") return openDialog("keys-dialog");
    if (name === "flag") return openMore("input[name='flags']");
    if (name === "write") return openMore("textarea[name='rationale']");
    return name === "guidelines" && toggleGuidelines();
  }

  return { keys, dress, act };
}
