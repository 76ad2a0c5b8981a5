// Marks in a response, and a better response begun from one. The plain fields hold the answer: this fills them from the
// selection, and shows the marked words in the text without touching it.

const MOST = 10;
const bare = (text) => text.replace(/[\s*_`#>~|[\]()\\$]/g, "");

// The selected words, and how often they come before in the same response.
function selected(response) {
  const selection = document.getSelection();
  const text = response.querySelector(".raw:not([hidden])") ?? response.querySelector(".prose");
  if (!selection?.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!text?.contains(range.commonAncestorContainer)) return null;
  const before = document.createRange();
  before.setStart(text, 0);
  before.setEnd(range.startContainer, range.startOffset);
  const words = bare(range.toString());
  const start = bare(before.toString()).length;
  const whole = bare(text.textContent);
  let nth = 0;
  for (let at = whole.indexOf(words); at >= 0 && at < start; at = whole.indexOf(words, at + 1)) nth += 1;
  return words ? { passage: range.toString().trim(), nth, range: range.cloneRange() } : null;
}

const part = (row, name) => row.querySelector(`[name$="_${name}"]`);

// The first row that is empty; a new one made of the last where there is none.
function emptyRow(marks) {
  const rows = [...marks.querySelectorAll("[data-mark]")];
  const empty = rows.find((row) => !part(row, "passage").value);
  if (empty || rows.length >= MOST) return empty;
  const row = rows.at(-1).cloneNode(true);
  for (const control of row.querySelectorAll("[name]")) {
    control.name = control.name.replace(/^(mark_\d+_)\d+/, `$1${rows.length}`);
    control.id = `answer_${control.name}`;
    control.value = "";
    control.closest(".field")?.querySelector("label")?.setAttribute("for", control.id);
  }
  for (const error of row.querySelectorAll(".errorlist")) error.remove();
  const label = part(row, "passage").closest(".field").querySelector("label");
  label.textContent = label.textContent.replace(/\d+/, String(rows.length + 1));
  rows.at(-1).after(row);
  return row;
}

function highlight(range, verdict) {
  if (!CSS.highlights) return;
  const name = `marked-${verdict}`;
  if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
  CSS.highlights.get(name).add(range);
}

function mark(button) {
  const marks = button.closest("[data-marks]");
  const found = selected(button.closest(".response"));
  const row = found && emptyRow(marks);
  if (!row) return;
  part(row, "passage").value = found.passage;
  part(row, "nth").value = found.nth;
  part(row, "verdict").value = button.dataset.markAs;
  highlight(found.range, button.dataset.markAs);
  part(row, "reason").focus();
  row.dispatchEvent(new Event("input", { bubbles: true }));
}

function beginWith(button, element) {
  const text = element.querySelector("[name='rewrite']");
  const raw = element.querySelector(`[data-position="${button.dataset.rewriteFrom}"] .raw`);
  if (!text || !raw) return;
  text.focus();
  text.select();
  // As if it were typed, so that the browser's own undo takes it back.
  if (!document.execCommand("insertText", false, raw.textContent)) text.value = raw.textContent;
}

// Listen on this item; once for each.
export function takeSpans(element) {
  if (element.dataset.spans) return;
  element.dataset.spans = "true";
  CSS.highlights?.clear();
  element.addEventListener("pointerdown", (event) => {
    if (event.target.closest("[data-mark-as]")) event.preventDefault(); // Or the press would take the selection away.
  });
  element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-mark-as], [data-rewrite-from]");
    if (button?.dataset.markAs) mark(button);
    else if (button) beginWith(button, element);
  });
}
