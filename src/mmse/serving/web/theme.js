// The theme that was chosen here before, set before anything is drawn. Not a module: a module would run too late.
(() => {
  try {
    const theme = localStorage.getItem("mmse-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is closed to this page: the theme of the system stands.
  }
})();
