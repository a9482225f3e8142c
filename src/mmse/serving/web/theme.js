// The theme that was chosen here before, set before anything is drawn. Not a module: a module would run too late.
(() => {
  try {
    const kept = localStorage.getItem("mmse-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch {
    // Storage is closed to this page: the theme of the system stands.
  }
})();
