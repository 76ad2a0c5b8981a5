// Formulas, by KaTeX, which comes only when a text has some. What KaTeX refuses stays as it was written.

const MOST_FORMULAS = 500;
const OPTIONS = { output: "html", throwOnError: true, strict: "ignore", trust: false, maxExpand: 200, maxSize: 20 };
let loading = null;

function load({ katexStyle, katexScript }) {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = katexStyle;
  const styled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
  document.head.append(style);
  return Promise.all([import(katexScript), styled]).then(() => globalThis.katex);
}

// The formula without the signs around it.
const bare = (text) => text.replace(/^(?:\$\$|\\\(|\\\[|\$)/, "").replace(/(?:\$\$|\\\)|\\\]|\$)$/, "").trim();

export async function showFormulas(element, page) {
  loading ??= load(page);
  const katex = await loading;
  for (const place of [...element.querySelectorAll(".math:not([role])")].slice(0, MOST_FORMULAS)) {
    const source = place.textContent;
    const drawn = document.createElement("span");
    try {
      katex.render(bare(source), drawn, { ...OPTIONS, displayMode: place.dataset.display === "true" });
    } catch {
      continue; // No formula that KaTeX knows.
    }
    place.setAttribute("role", "math");
    place.setAttribute("aria-label", bare(source));
    place.replaceChildren(drawn);
  }
}
