"use strict";
// What all pages do: a button for the theme, and tables that are sorted by a click on a column's name.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  try { // a page opened as a file may have no storage
    const kept = localStorage.getItem("batchcodec-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* the theme of the system it is */ }
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("batchcodec-theme", root.dataset.theme); } catch { /* not kept */ }
    label();
  });
  system.addEventListener("change", label);
  label();

  const collator = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    if (a.dataset.value !== undefined && b.dataset.value !== undefined) return a.dataset.value - b.dataset.value;
    return collator.compare(a.textContent, b.textContent);
  };
  const absent = (cell) => cell.classList.contains("number") && cell.dataset.value === undefined;
  const sort = (table, head) => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const column = head.cellIndex, body = table.tBodies[0];
    const rows = Array.from(body.rows);
    rows.sort((x, y) => {
      const a = x.cells[column], b = y.cells[column];
      if (absent(a) || absent(b)) return absent(a) - absent(b); // what has no value comes last either way
      return ascending ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("table[data-sortable]"))
    for (const head of table.tHead.rows[0].cells)
      head.querySelector("button")?.addEventListener("click", () => sort(table, head));
})();
