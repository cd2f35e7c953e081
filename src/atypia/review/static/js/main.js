/** The page: opens the session, shows views, dispatches keys, shows the state of the connection. */

import { OfflineError, RefusedError, connection } from "./api.js";
import { startBanner } from "./banner.js";
import { ConsensusView } from "./consensus.js";
import { helpDialog, ratersDialog } from "./dialogs.js";
import { button, fill, h, icon, percent, stateBox, whole } from "./dom.js";
import { ExchangeView } from "./exchange.js";
import { GalleryView } from "./gallery.js";
import { LargeView } from "./large.js";
import { DECISIONS } from "./names.js";
import { outbox } from "./outbox.js";
import { applyLook, stepLook, tally, toggleStain } from "./parts.js";
import { ArbitrationView, QueueView } from "./queues.js";
import { setRaterDialog, startReview, undo } from "./review.js";
import { forgetRoute, readRoute, routeHash } from "./route.js";
import { SlidesView } from "./slides.js";
import { store } from "./store.js";

const THEMES = { system: "As the system", light: "Light", dark: "Dark" };
const content = document.getElementById("content");

let large = null;
let current = null;
const views = new Map();

const VIEWS = {
  gallery: { title: "Gallery", make: () => new GalleryView(large) },
  slides: { title: "Slides", make: () => new SlidesView(), isOffered: () => store.session.has.slides },
  queue: { title: "Next", make: () => new QueueView(large), isOffered: () => store.session.queues.length > 0 },
  arbitration: { title: "Arbitration", make: () => new ArbitrationView(large) },
  consensus: { title: "Consensus", make: () => new ConsensusView() },
  files: { title: "Files", make: () => new ExchangeView() },
};

const offered = () => Object.keys(VIEWS).filter((name) => VIEWS[name].isOffered?.() ?? true);

function showTabs(active) {
  fill(
    document.getElementById("tabs"),
    offered().map(
      (name) => h(
        "li", {}, h("a", { href: `#${name}`, "aria-current": name === active ? "page" : null }, VIEWS[name].title)
      )
    )
  );
}

function go() {
  const route = readRoute();
  if (route.get("blind") === "1") store.setBlind(true);
  const name = offered().includes(route.view) ? route.view : "gallery";
  forgetRoute();
  if (name !== route.view) history.replaceState(null, "", routeHash(name));
  if (large.isOpen) {
    large.onclose = () => {};
    large.close();
  }
  if (!views.has(name)) views.set(name, VIEWS[name].make());
  current = views.get(name);
  showTabs(name);
  document.title = `${VIEWS[name].title} – ${store.session.title} – Atypia`;
  fill(content, current.element);
  current.show(name === route.view ? route : readRoute(routeHash(name)));
}

async function chooseRater() {
  const hasRater = await ratersDialog();
  // Back to the figures, so that the next key decides.
  (
    document.querySelector("dialog.large[open] .scope") ?? content.querySelector(".grid, .stage")
  )?.focus({ preventScroll: true });
  return hasRater;
}

function showTools() {
  const rater = h(
    "button", { type: "button", class: "rater", title: "Change or add a rater", on: { click: () => chooseRater() } }
  );
  const blind = button(
    h("span", { class: "words" }, "Blind"), () => store.setBlind(!store.blind),
    { name: "blind", label: "Blind mode", title: "Blind mode: hide predictions and other raters' decisions (B)" }
  );
  const theme = button("", () => nextTheme(), { name: "system", label: "Theme" });
  const help = button("", () => helpDialog(), { label: "Keys (?)" });
  help.textContent = "?";
  const showRater = () => {
    const { figures } = store.session;
    if (store.rater === null) fill(rater, icon("person"), h("span", { class: "who" }, "Choose a rater"));
    else {
      const { decided } = store.progress(store.rater);
      fill(rater, icon("person"), h("span", { class: "who" }, store.rater), h(
        "span", { class: "number" }, `${whole(decided)} / ${whole(figures)}`
      ),
        h("progress", { max: figures || 1, value: decided, "aria-label": `${percent(decided, figures)} decided` }), h("span", { class: "number share" }, percent(decided, figures)));
    }
  };
  const showBlind = () => {
    blind.setAttribute("aria-pressed", String(store.blind));
    blind.firstElementChild.replaceWith(icon(store.blind ? "blind" : "seeing"));
  };
  const showTheme = () => {
    const name = store.preferences.theme;
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.replaceChildren(icon({ system: "system", light: "sun", dark: "moon" }[name] ?? "system"));
    theme.setAttribute("aria-label", `Theme: ${THEMES[name]}`);
    theme.title = `Theme: ${THEMES[name]}`;
  };
  const nextTheme = () => {
    const names = Object.keys(THEMES);
    store.prefer({ theme: names[(names.indexOf(store.preferences.theme) + 1) % names.length] });
  };
  for (const event of ["rater", "raters", "added"]) store.addEventListener(event, showRater);
  store.addEventListener("blind", showBlind);
  store.addEventListener("preferences", showTheme);
  store.addEventListener("preferences", applyLook);
  fill(document.getElementById("tools"), tally(), rater, blind, theme, help);
  showRater();
  showBlind();
  showTheme();
  applyLook();
}

const TYPING = "input:not([type=checkbox], [type=range]), textarea, select";
const isTyping = (target) => target.closest(TYPING) !== null;

const COMMON = {
  h: () => toggleStain(),
  b: () => store.setBlind(!store.blind),
  z: () => undo(),
  "?": () => helpDialog(),
  "[": () => stepLook("brightness", -1),
  "]": () => stepLook("brightness", 1),
  ",": () => stepLook("contrast", -1),
  ".": () => stepLook("contrast", 1),
};

function keyed(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "a" && !isTyping(event.target) && !large?.isOpen
    && !document.querySelector("dialog[open]") && current?.workspace?.element.isConnected) {
    current.workspace.chooseAll();
    event.preventDefault();
    return;
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const dialog = document.querySelector("dialog[open]:not(.large)");
  if (dialog || !current) return;
  // Enter and Space belong to the button or link that has the focus.
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, a, summary, input, label")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.length > 1 && event.target.closest("[type=range]")) return; // arrows move the slider
  // While a view hides its figures (blind mode, an error), they cannot be decided.
  const target = current.workspace?.element.isConnected ? current.workspace : current;
  const decision = DECISIONS.find((one) => one.key === key);
  let taken = true;
  if (decision && target.decide) target.decide(decision.name);
  else if (key === "c" && target.decide) target.decide(null);
  else if (key === "t" && target.note) target.note();
  else if (/^[1-9]$/.test(key) && target.tag && store.session.tags[Number(key) - 1]) target.tag(store.session.tags[Number(key) - 1]);
  else if (key in COMMON) COMMON[key]();
  else taken = large.isOpen ? large.key(event.key) : current.key(event.key, event.shiftKey);
  if (taken) event.preventDefault();
}

async function start() {
  try {
    await store.open();
  } catch (error) {
    if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
    const isLocked = error instanceof RefusedError && error.status === 401;
    fill(
      content,
      stateBox(
        isLocked ? "A token is needed" : "The session could not be opened",
        isLocked ? "Open the address that `atypia serve` printed, with its token." : error.message,
        button("Try again", start, { name: "reload" })
      )
    );
    return;
  }
  document.getElementById("title").textContent = store.session.title;
  document.getElementById("title").title = `${store.session.title} (Atypia ${store.session.version})`;
  large = new LargeView();
  setRaterDialog(chooseRater);
  startReview();
  showTools();
  startBanner();
  connection.addEventListener("up", () => current?.workspace?.list?.retry());
  outbox.restore();
  window.addEventListener("hashchange", go);
  window.addEventListener("beforeunload", (event) => {
    if (outbox.items.length && !outbox.isKept) event.preventDefault();
  });
  document.addEventListener("keydown", keyed);
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    content.focus();
  });
  go();
}

start();
