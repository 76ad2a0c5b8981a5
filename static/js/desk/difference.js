// What differs between two texts, word by word: the longest common subsequence, within bounds.

const MOST_CELLS = 4_000_000; // 4 MB, and some tens of milliseconds

const wordsOf = (text) => text.match(/\s+|[\p{L}\p{N}\p{M}_]+(?:['’-][\p{L}\p{N}\p{M}]+)*|[^\s]/gu) ?? [];
const linesOf = (text) => text.match(/[^\n]*\n|[^\n]+/g) ?? [];

// Which of the tokens on each side have no partner on the other: two arrays of booleans, or null when it takes too long.
function unpaired(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && left[head] === right[head]) head += 1;
  let tail = 0;
  while (tail < left.length - head && tail < right.length - head && left.at(-1 - tail) === right.at(-1 - tail)) tail += 1;
  const rows = left.length - head - tail;
  const columns = right.length - head - tail;
  if (rows * columns > MOST_CELLS) return null;
  const steps = new Uint8Array(rows * columns); // 1: a pair, 2: go down, 3: go right
  let below = new Uint32Array(columns + 1);
  for (let row = rows - 1; row >= 0; row -= 1) {
    const here = new Uint32Array(columns + 1);
    for (let column = columns - 1; column >= 0; column -= 1) {
      const pair = left[head + row] === right[head + column];
      here[column] = pair ? below[column + 1] + 1 : Math.max(below[column], here[column + 1]);
      steps[row * columns + column] = pair ? 1 : below[column] >= here[column + 1] ? 2 : 3;
    }
    below = here;
  }
  const alone = [left.map((_, place) => place >= head && place < head + rows), right.map((_, place) => place >= head && place < head + columns)];
  for (let row = 0, column = 0; row < rows && column < columns;) {
    const step = steps[row * columns + column];
    if (step === 1) alone[0][head + row] = alone[1][head + column] = false;
    if (step !== 3) row += 1;
    if (step !== 2) column += 1;
  }
  return alone;
}

// Runs of text, each with whether the other side lacks it.
function runsOf(tokens, alone) {
  const runs = [];
  tokens.forEach((token, place) => {
    const last = runs.at(-1);
    // White space between two lone words belongs to them.
    const lone = alone[place] || (/^\s+$/.test(token) && alone[place - 1] && alone[place + 1]);
    if (last && last.lone === Boolean(lone)) last.text += token;
    else runs.push({ text: token, lone: Boolean(lone) });
  });
  return runs;
}

// Two lists of {text, lone}; by lines where words are too many; null when even those are.
export function differ(left, right) {
  for (const split of [wordsOf, linesOf]) {
    const [a, b] = [split(left), split(right)];
    const alone = unpaired(a, b);
    if (alone) return [runsOf(a, alone[0]), runsOf(b, alone[1])];
  }
  return null;
}
