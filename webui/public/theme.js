// Sets the chosen theme before the first paint; a file of its own, because the content security policy allows no
// inline script. `system` (or nothing) leaves the choice to the browser.
(() => {
  try {
    const theme = localStorage.getItem('cell-theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is switched off: the system's theme it is.
  }
})();
