"use strict";
(() => {
  const text = (cell) => cell.textContent.trim();
  // Undefined values stand last in either direction.
  const compare = (column, sign) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    const [p, q] = [x.dataset.v, y.dataset.v];
    if (p !== undefined || q !== undefined) {
      const known = (v) => v !== undefined && v !== "nan";
      if (!known(p) || !known(q)) return known(q) - known(p);
      return sign * (Number(p) - Number(q));
    }
    if (!text(x) || !text(y)) return !text(x) - !text(y);
    return sign * text(x).localeCompare(text(y), "en", { numeric: true });
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[0].cells);
    const top = Number(table.dataset.top);
    const count = body.rows.length;
    let open = count <= top + 2;

    const fold = () => {
      Array.from(body.rows).forEach((row, index) => { row.classList.toggle("folded", !open && index >= top && !row.classList.contains("own")); });
    };
    if (!open) {
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      const show = () => {
        more.textContent = open ? `Show the first ${top} rows` : `Show all ${count} rows`;
        more.setAttribute("aria-expanded", String(open));
        fold();
      };
      more.addEventListener("click", () => { open = !open; show(); });
      table.parentElement.after(more);
      show();
    }
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending" ||
          (head.getAttribute("aria-sort") === null && !head.classList.contains("number"));
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        body.append(...Array.from(body.rows).sort(compare(column, up ? 1 : -1)));
        fold();
      });
    });
    table.classList.add("ready");
  }
})();
