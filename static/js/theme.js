// Runs before the first paint, so that a chosen theme never flashes. No choice: the rater's preference or the system decides.
try {
  const theme = localStorage.getItem("ratchet-theme");
  if (theme === "system") delete document.documentElement.dataset.theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is forbidden here: the system's theme is used.
}
