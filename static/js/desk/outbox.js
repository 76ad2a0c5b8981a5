// What this browser keeps: answers on their way to the server, and drafts.
//
// Each answer waits in this browser's storage, bound to the account and the project, until
// the server has said what became of it: one after another, with its idempotency key, as often as it takes.
// Two files would be two requests before the desk is ready.

const PAUSES = [1000, 2000, 4000, 8000, 15000, 30000];
const PATIENCE = 30_000;

// A sign-in in another tab changes the token; the cookie always has the present one.
export function presentToken() {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith("csrftoken="));
  return cookie ? cookie.slice("csrftoken=".length) : "";
}

// Ask the desk. Resolves to {desk, status, html, redirected}; rejects when there was no whole answer.
export async function ask(url, account, body) {
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    body,
    headers: { "HX-Request": "true", "X-CSRFToken": presentToken(), "X-Ratchet-Account": account },
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const html = await response.text();
  return { desk: response.headers.get("X-Ratchet-Desk"), status: response.status, html, redirected: response.redirected };
}

// Why an answer has to wait, in one word; none when the server has said what became of it.
function obstacle({ desk, status, redirected }) {
  if (desk === "1" || desk === "gone") return "";
  if (desk === "other-account") return "account";
  if (status >= 500 || status === 429) return "offline";
  return redirected ? "signedout" : "refused";
}

// The waiting answers of one account in one project. What cannot be stored is kept in memory, and `durable` says so.
function openShelf(account) {
  const prefix = `ratchet-answer:${account}:`;
  const memory = new Map();
  let count = 0;
  const stored = () => {
    try {
      return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
    } catch {
      return [];
    }
  };
  return {
    get durable() { return memory.size === 0; },
    names: () => [...new Set([...stored(), ...memory.keys()])].sort(),
    read(name) {
      try {
        return memory.get(name) ?? JSON.parse(localStorage.getItem(name));
      } catch {
        return memory.get(name) ?? null;
      }
    },
    put(entry) {
      const name = `${prefix}${String(Date.now()).padStart(15, "0")}-${String(count++).padStart(5, "0")}`;
      try {
        localStorage.setItem(name, JSON.stringify(entry));
      } catch {
        memory.set(name, entry); // Storage is full or forbidden.
      }
    },
    drop(name) {
      memory.delete(name);
      try {
        localStorage.removeItem(name);
      } catch {
        // It was in memory alone.
      }
    },
    owns: (name) => name?.startsWith(prefix),
  };
}

// hooks: held() are the items that the page has at hand; arrived(entry, answer) hears what became of one; changed() is
// called whenever the number waiting, the sending or the obstacle changes; drained() when nothing waits any more.
export function openOutbox(account, hooks) {
  const shelf = openShelf(account);
  const lock = `ratchet-outbox:${account}`;
  let pumping = false;
  let again = false;
  let sending = "";
  let trouble = "";
  let failures = 0;
  let timer = 0;

  const entries = () => shelf.names().map((name) => ({ name, ...shelf.read(name) })).filter((entry) => entry.url);

  async function send(entry) {
    const body = new URLSearchParams(entry.body);
    for (const lease of hooks.held(entry)) body.append("held", lease);
    try {
      const answer = await ask(entry.url, account, body);
      return { trouble: obstacle(answer), answer };
    } catch {
      return { trouble: "offline" };
    }
  }

  async function drain() {
    for (let entry = entries()[0]; entry; entry = entries()[0]) {
      sending = entry.name;
      hooks.changed();
      const outcome = await send(entry);
      sending = "";
      trouble = outcome.trouble;
      if (trouble) {
        timer = setTimeout(pump, PAUSES[Math.min(failures, PAUSES.length - 1)]);
        failures += 1;
        hooks.changed();
        return;
      }
      failures = 0;
      shelf.drop(entry.name);
      hooks.arrived(entry, outcome.answer);
      hooks.changed();
    }
    trouble = "";
    hooks.changed();
    hooks.drained();
  }

  // One tab sends at a time, where the browser can arrange it; if two do, the key keeps the answer single.
  async function pump() {
    if (pumping) {
      again = true;
      return;
    }
    pumping = true;
    clearTimeout(timer);
    try {
      if (navigator.locks) await navigator.locks.request(lock, drain);
      else await drain();
    } finally {
      pumping = false;
    }
    if (again && !trouble) {
      again = false;
      pump();
    }
  }

  const insist = () => {
    failures = 0;
    if (entries().length) pump();
  };
  window.addEventListener("online", insist);
  document.addEventListener("visibilitychange", () => document.hidden || insist());
  window.addEventListener("beforeunload", (event) => {
    if (!shelf.durable) event.preventDefault(); // What is in memory alone would be lost.
  });
  window.addEventListener("storage", (event) => shelf.owns(event.key) && hooks.changed());

  return {
    add(entry) {
      shelf.put(entry);
      hooks.changed();
      pump();
    },
    insist,
    entries,
    state: () => ({ waiting: entries().length, sending: Boolean(sending), trouble, durable: shelf.durable }),
  };
}

// Drafts: half-filled answers, one for each assignment, with the time spent on it so far.

const KEPT_DAYS = 7;
const OWN = new Set(["csrfmiddlewaretoken", "idempotency_key", "seconds", "revises", "held"]);

const draftName = (account, lease) => `ratchet-draft:${account}:${lease}`;
const controls = (form) => [...form.elements].filter((one) => one.name && !OWN.has(one.name) && !one.matches("button, fieldset"));

// What the rater has filled in, as [name, value] pairs.
export function filledIn(form) {
  return [...new FormData(form)].filter(([name, value]) => !OWN.has(name) && typeof value === "string");
}

export function saveDraft(account, lease, form, spent, untouched) {
  const fields = filledIn(form);
  if (JSON.stringify(fields) === untouched) return;
  try {
    localStorage.setItem(draftName(account, lease), JSON.stringify({ fields, spent, at: Date.now() }));
  } catch {
    // Storage is full or forbidden: the draft lives as long as the page.
  }
}

export function dropDraft(account, lease) {
  try {
    localStorage.removeItem(draftName(account, lease));
  } catch {
    // There was none.
  }
}

// Fill the form as it was left; returns the milliseconds spent on it before, or null when there is no draft.
export function restoreDraft(account, lease, form) {
  let draft = null;
  try {
    draft = JSON.parse(localStorage.getItem(draftName(account, lease)));
  } catch {
    return null;
  }
  if (!Array.isArray(draft?.fields)) return null;
  for (const control of controls(form)) {
    const values = draft.fields.filter(([name]) => name === control.name).map(([, value]) => value);
    if (control.matches("[type='radio'], [type='checkbox']")) control.checked = values.includes(control.value);
    else if (values.length) control.value = values[0];
  }
  form.dispatchEvent(new CustomEvent("desk:restored", { bubbles: true }));
  return Number(draft.spent) || 0;
}

export function dropOldDrafts() {
  try {
    for (const name of Object.keys(localStorage).filter((one) => one.startsWith("ratchet-draft:"))) {
      const at = JSON.parse(localStorage.getItem(name))?.at ?? 0;
      if (Date.now() - at > KEPT_DAYS * 86_400_000) localStorage.removeItem(name);
    }
  } catch {
    // Storage is forbidden, or holds what is none of ours.
  }
}

// Time on an item, without the time in which the tab is hidden. shown() is the element that is on the desk.
export function openClock(shown) {
  const spent = new WeakMap();
  let since = document.hidden ? null : performance.now();
  const read = (element) => (spent.get(element) ?? 0) + (element === shown() && since !== null ? performance.now() - since : 0);
  return {
    read,
    set: (element, milliseconds) => spent.set(element, milliseconds),
    stop() {
      spent.set(shown(), read(shown()));
      since = null;
    },
    start() { since = document.hidden ? null : performance.now(); },
  };
}
