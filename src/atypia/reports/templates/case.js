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

  order.addEventListener("change", sort);
  controls.addEventListener("change", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  // A browser may restore choices of an earlier visit.
  sort();
  filter();
  controls.hidden = false;
})();
