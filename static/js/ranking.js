// The board of a ranking: every response lies on its place, and is moved to another by drag. The radios beneath hold the
// answer; the board only shows and presses them, so that keys, drafts and the plain form know of nothing else.

const FIELD = /^rank_(\d+)$/;

function ranksIn(form) {
  const ranks = new Map();
  for (const input of form.querySelectorAll("input[type='radio'][name^='rank_']")) {
    const number = FIELD.exec(input.name)?.[1];
    if (!number) continue;
    if (!ranks.has(number)) ranks.set(number, []);
    ranks.get(number).push(input);
  }
  return ranks;
}

function makeChip(number, words) {
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.dataset.number = number;
  chip.textContent = words.replace("{number}", number);
  return chip;
}

function makePlaces(board, count) {
  const places = Array.from({ length: count + 1 }, (_, place) => {
    const line = document.createElement("li");
    line.dataset.place = place;
    const label = document.createElement("span");
    label.className = "place";
    label.textContent = place || "–";
    line.append(label);
    return line;
  });
  board.replaceChildren(...places.slice(1), places[0]);
}

// Where the pointer is while a chip is held, in the board's lines.
function lineAt(board, x, y) {
  return document.elementsFromPoint(x, y).find((one) => one.parentElement === board);
}

function letDrag(board, ranks) {
  board.addEventListener("pointerdown", (event) => {
    const chip = event.target.closest(".chip");
    if (!chip || event.button) return;
    event.preventDefault();
    const from = { x: event.clientX, y: event.clientY };
    const over = (line) => {
      for (const one of board.children) one.toggleAttribute("data-over", one === line);
    };
    const move = ({ clientX, clientY }) => {
      chip.toggleAttribute("data-held", true);
      chip.style.translate = `${clientX - from.x}px ${clientY - from.y}px`;
      over(lineAt(board, clientX, clientY));
    };
    const drop = ({ type, clientX, clientY }) => {
      const line = type === "pointerup" && lineAt(board, clientX, clientY);
      stop.abort();
      chip.removeAttribute("data-held");
      chip.style.translate = "";
      over(null);
      const radio = line && ranks.get(chip.dataset.number).find((input) => input.value === line.dataset.place);
      if (radio && !radio.checked) radio.click();
    };
    const stop = new AbortController();
    document.addEventListener("pointermove", move, { signal: stop.signal });
    for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, drop, { signal: stop.signal });
  });
}

// Put the board of this item on the page; once for each.
export function showBoard(element) {
  const board = element.querySelector("[data-board]");
  const form = board?.closest("form");
  const ranks = form && ranksIn(form);
  if (!ranks?.size || board.dataset.shown) return;
  board.dataset.shown = "true";
  makePlaces(board, ranks.size);
  const chips = new Map([...ranks.keys()].map((number) => [number, makeChip(number, board.dataset.response)]));
  const lay = () => {
    for (const [number, inputs] of ranks) {
      const place = inputs.find((input) => input.checked)?.value ?? "0";
      board.querySelector(`[data-place="${place}"]`)?.append(chips.get(number));
    }
  };
  form.addEventListener("change", lay);
  letDrag(board, ranks);
  lay();
  board.hidden = false;
}
