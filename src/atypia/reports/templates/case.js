"use strict";
(() => {
  const grid = document.getElementById("crops");
  const controls = document.getElementById("controls");
  const order = document.getElementById("order");
  const count = document.getElementById("count");
  const cards = Array.from(grid.children);
  if (cards.length === 0) return;

  // Cards without the number stand last in either direction.
  const byNumber = (key, sign) => (a, b) => {
    const [x, y] = [a.dataset[key], b.dataset[key]];
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (Number(x) - Number(y));
  };
  const orders = {
    "p-down": byNumber("p", -1),
    "p-up": byNumber("p", 1),
    "uncertainty-down": byNumber("uncertainty", -1),
    "novelty-down": byNumber("novelty", -1),
    "figure-up": (a, b) => a.dataset.figure.localeCompare(b.dataset.figure, "en", { numeric: true }),
  };

  const sort = () => {
    for (const card of cards.slice().sort(orders[order.value])) grid.append(card);
  };
  const filter = () => {
    const calls = new Set(new FormData(controls).getAll("call"));
    let visible = 0;
    for (const card of cards) {
      card.hidden = !calls.has(card.dataset.call);
      visible += card.hidden ? 0 : 1;
    }
    count.textContent = `${visible} of ${cards.length} crops`;
  };

  // Only the first rows at first, so that the numbers are near; a print shows all.
  const all = document.getElementById("all");
  if (all && cards.length > 12) {
    grid.classList.add("few");
    all.hidden = false;
    all.textContent = `Show all ${cards.length} crops`;
    all.addEventListener("click", () => {
      grid.classList.remove("few");
      all.hidden = true;
    });
  }

  const enlarge = (card) => {
    const dialog = document.createElement("dialog");
    const crop = card.querySelector(".crop").cloneNode(true);
    crop.removeAttribute("tabindex");
    const text = document.createElement("p");
    text.textContent = card.querySelector("figcaption").textContent.replace(/\s+/g, " ").trim();
    dialog.append(crop, text);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  for (const card of cards) {
    const crop = card.querySelector?.(".crop");
    if (!crop) continue;
    crop.tabIndex = 0;
    crop.setAttribute("role", "button");
    crop.setAttribute("aria-label", `Enlarge ${card.dataset.figure}`);
    crop.addEventListener("click", () => enlarge(card));
    crop.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        enlarge(card);
      }
    });
  }

  order.addEventListener("change", sort);
  controls.addEventListener("change", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  // A browser may restore choices of an earlier visit.
  sort();
  filter();
  controls.hidden = false;
})();
