(function () {
  var root = document.documentElement, button = document.getElementById("theme");
  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function say() {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", "Switch to " + (dark() ? "light" : "dark") + " colours");
  }
  try { root.dataset.theme = localStorage.getItem("codistill-theme") || ""; } catch (error) { /* a page from a disk may not keep anything */ }
  button.hidden = false;
  button.onclick = function () {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("codistill-theme", root.dataset.theme); } catch (error) { /* as above */ }
    say();
  };
  say();
})();
