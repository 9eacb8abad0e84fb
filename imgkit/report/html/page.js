"use strict";
// What both pages share: the switch between light and dark, tables that sort and search, details open in print.
(() => {
  const root = document.documentElement;

  const theme = document.getElementById("theme");
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("imgkit-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wanted.matches);
  const label = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("imgkit-theme", root.dataset.theme); } catch { /* a page from disk may have none */ }
    label();
    root.dispatchEvent(new Event("themechange"));
  });
  wanted.addEventListener("change", () => { label(); root.dispatchEvent(new Event("themechange")); });
  label();

  const collator = new Intl.Collator("en", { numeric: true });
  const keyOf = (cell) => {
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = text === "" ? NaN : Number(text);
    return { text: text.toLowerCase(), number };
  };

  function sortBy(table, header, column) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, ...keyOf(row.cells[column]) }));
    const told = rows.filter((one) => one.text !== "");
    const numeric = told.every((one) => !Number.isNaN(one.number));
    const first = numeric && told.length ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const way = header.getAttribute("aria-sort") === first ? other : first;
    const sign = way === "ascending" ? 1 : -1;
    const compare = numeric
      ? (a, b) => sign * (a.number - b.number)
      : (a, b) => sign * collator.compare(a.text, b.text);
    // Empty cells come last, whichever way.
    rows.sort((a, b) => (a.text === "") - (b.text === "") || (a.text === "" ? 0 : compare(a, b)));
    body.append(...rows.map((one) => one.row));
    for (const one of header.parentElement.cells) if (one.hasAttribute("aria-sort")) one.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", way);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = table.tHead.rows[table.tHead.rows.length - 1].cells;
    [...headers].forEach((header, column) => {
      if (header.hasAttribute("data-fixed")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", header.getAttribute("aria-sort") ?? "none");
      button.addEventListener("click", () => sortBy(table, header, column));
    });
    if (table.hasAttribute("data-search")) addSearch(table);
  }

  function addSearch(table) {
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
    const tools = document.createElement("div");
    const box = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("span");
    tools.className = "tools";
    input.type = "search";
    input.autocomplete = "off";
    count.setAttribute("role", "status");
    box.append(`${table.dataset.search || "Search"} `, input);
    tools.append(box, count);
    table.closest(".region").before(tools);
    input.addEventListener("input", () => {
      const wantedText = input.value.trim().toLowerCase();
      let shown = 0;
      for (const { row, text } of rows) {
        const match = text.includes(wantedText);
        if (row.hidden === match) row.hidden = !match;
        shown += match;
      }
      count.textContent = wantedText ? `${shown} of ${rows.length} rows` : "";
    });
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not([data-long])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  // A page that reads itself again while training goes on keeps what its reader opened, sorted and looked for.
  if (document.querySelector('meta[http-equiv="refresh"]')) {
    const key = `imgkit-place ${location.pathname}`;
    const ways = ["ascending", "descending"];
    const labelOf = (table) => table.closest(".region")?.getAttribute("aria-label");
    const headersOf = (table) => [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const tables = [...document.querySelectorAll("table.sortable")];
    // By what stays of their summaries while counts grow: "What was asked for otherwise: 3 values".
    const folds = new Map();
    for (const one of document.querySelectorAll("details")) {
      const name = one.querySelector("summary").textContent.replace(/\d+/g, "");
      folds.set(`${name} ${[...folds.keys()].filter((key) => key.startsWith(name)).length}`, one);
    }
    const searchOf = (table) => table.closest(".region").previousElementSibling?.querySelector('input[type="search"]');
    addEventListener("pagehide", () => {
      const place = {
        top: scrollY,
        open: [...folds].filter(([, one]) => one.open).map(([name]) => name),
        words: tables.map((table) => [labelOf(table), searchOf(table)?.value ?? ""]),
        sorted: tables.map((table) => {
          const column = headersOf(table).findIndex((one) => ways.includes(one.getAttribute("aria-sort")));
          return [labelOf(table), column, column < 0 ? "" : headersOf(table)[column].getAttribute("aria-sort")];
        }),
      };
      try { sessionStorage.setItem(key, JSON.stringify(place)); } catch { /* a page from disk may have none */ }
    });
    let place = null;
    try { place = JSON.parse(sessionStorage.getItem(key)); } catch { /* none, or not ours */ }
    if (place) {
      for (const name of place.open) if (folds.has(name)) folds.get(name).open = true;
      for (const [label, column, way] of place.sorted) {
        const table = tables.find((one) => labelOf(one) === label);
        const header = table && headersOf(table)[column];
        for (let turn = 0; way && turn < 2 && header?.getAttribute("aria-sort") !== way; turn += 1) {
          header?.querySelector("button.sort")?.click();
        }
      }
      for (const [label, text] of place.words) {
        const table = tables.find((one) => labelOf(one) === label);
        const input = text && table && searchOf(table);
        if (!input) continue;
        input.value = text;
        input.dispatchEvent(new Event("input"));
      }
      scrollTo({ top: place.top, behavior: "instant" });
    }
  }
})();
