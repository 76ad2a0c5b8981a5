// What every page shares: the theme switch, menus that close, dialogs that confirm, errors of the connection.
(() => {
  "use strict";
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  const themeNow = () => root.dataset.theme || "system";

  function nameThemeSwitch() {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.hidden = false;
      const label = button.dataset[`label${themeNow()[0].toUpperCase()}${themeNow().slice(1)}`];
      button.setAttribute("aria-label", label);
      button.title = label;
    }
  }

  function switchTheme() {
    const next = themes[(themes.indexOf(themeNow()) + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("ratchet-theme", next);
    } catch {
      // Storage is forbidden here: the choice lasts until the next page.
    }
    nameThemeSwitch();
  }

  function closeMenus(except) {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (menu !== except) menu.open = false;
    }
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : root;
    closeMenus(target.closest("details.menu"));
    if (target.closest("[data-theme-switch]")) switchTheme();
    const opener = target.closest("[data-opens]");
    const dialog = opener && document.getElementById(opener.dataset.opens);
    if (dialog instanceof HTMLDialogElement) {
      event.preventDefault();
      dialog.showModal();
    }
    if (target.closest("[data-closes]")) target.closest("dialog")?.close();
    if (target.closest("[data-dismiss]")) target.closest(".notice")?.remove();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // htmx swaps whatever the server answers. Three answers need more than that: none at all, a redirect to a whole
  // page, and a whole page (an error) where a part was asked for.
  const showOffline = (shown) => document.getElementById("offline")?.toggleAttribute("hidden", !shown);

  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && !event.detail.ctx.response) showOffline(true);
  });

  document.addEventListener("htmx:after:request", (event) => {
    showOffline(false);
    const ctx = event.detail.ctx;
    if (ctx.request.headers["HX-Request-Type"] === "full" || !/^\s*<!doctype html/i.test(ctx.text)) return;
    const answer = ctx.response.raw;
    if (answer.redirected) {
      event.preventDefault();
      if (new URL(answer.url).pathname === document.body.dataset.signIn) location.reload();
      else location.assign(answer.url);
    } else {
      ctx.target = document.getElementById("main");
      ctx.select = "#main";
      ctx.swap = "outerHTML";
    }
  });

  nameThemeSwitch();
})();
