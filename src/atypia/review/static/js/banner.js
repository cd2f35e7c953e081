/** The bar at the top: shown while the server is unreachable or decisions wait to be sent. */

import { OfflineError, connection } from "./api.js";
import { announce, button, h, whole } from "./dom.js";
import { outbox } from "./outbox.js";

const FORMULA = /^[=+\-@\t\r\n＝＋－＠']/;
const WAIT = "The server does not answer.";

// In blind mode figures are named by a number that imports do not know: such decisions stay in the browser.
const canBeSaved = () =>
  outbox.items.some((item) => item.kind === "decision") && !outbox.items.some((item) => item.blind);

function saveUnsent() {
  // An apostrophe prevents spreadsheets from running a text as a formula; an import removes it.
  const shield = (text) => (FORMULA.test(text) ? `'${text}` : text);
  const quote = (text) => `"${shield(String(text ?? "")).replaceAll('"', '""')}"`;
  const rows = outbox.items.filter((item) => item.kind === "decision");
  const lines = rows.map((item) => [item.figure_id, item.decision, item.note, item.rater].map(quote).join(","));
  const text = ["figure_id,decision,note,rater", ...lines, ""].join("\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  h("a", { href: address, download: "unsent-decisions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

function sentence() {
  const waiting = outbox.items.length;
  const isOff = !connection.up || outbox.trouble instanceof OfflineError;
  const why = isOff ? WAIT : `The server could not keep a decision: ${outbox.trouble.message}.`;
  if (!waiting) return why;
  const how = outbox.isKept ? "; they survive a reload of this page" : ", as long as this page stays open";
  return `${why} ${whole(waiting)} ${waiting === 1 ? "entry waits" : "entries wait"} here and will be sent${how}.`;
}

/** Starts the bar; its parts stay the same elements, so that a press on a button is never lost to a redraw. */
export function startBanner() {
  const banner = document.getElementById("banner");
  const text = h("span");
  const again = button("Try again", () => (connection.up ? outbox.pump() : connection.probe()), { name: "reload" });
  const save = button("Save as a file", saveUnsent);
  const discard = button("Discard", () => outbox.discard());
  banner.append(text, again, save, discard);
  const show = () => {
    const isTrouble = !connection.up || (outbox.items.length > 0 && outbox.trouble !== null);
    if (!isTrouble && !banner.hidden) announce("The server is back.");
    banner.hidden = !isTrouble;
    if (!isTrouble) return;
    const said = sentence();
    if (text.textContent !== said) text.textContent = said;
    save.hidden = !canBeSaved();
    discard.hidden = !connection.up || outbox.trouble instanceof OfflineError;
  };
  for (const event of ["change", "idle"]) outbox.addEventListener(event, show);
  for (const event of ["up", "down"]) connection.addEventListener(event, show);
  show();
}
