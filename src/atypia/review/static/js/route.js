/** The URL stores the state of the page: `#gallery?sort=p&case=a&figure=17`. */

/** @returns {{view: string, get: function(string): ?string, all: function(string): string[]}} */
export function readRoute(hash = location.hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split("?");
  const parameters = new URLSearchParams(query);
  return {
    view: view || "gallery",
    get: (name) => parameters.get(name),
    all: (name) => parameters.getAll(name),
  };
}

/** The hash of a view and its parameters; empty ones are left out, arrays are repeated, true is 1. */
export function routeHash(view, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one === true) query.append(name, "1");
      else if (one !== null && one !== undefined && one !== "" && one !== false) query.append(name, String(one));
    }
  }
  const text = query.toString();
  return text ? `#${view}?${text}` : `#${view}`;
}

let timer = 0;

/**
 * Writes the state into the URL without a new history entry. Writes are bundled because browsers limit their rate.
 * Once a link has named another view, the old one writes nothing: the page would stay there.
 */
export function replaceRoute(view, parameters) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (readRoute().view === view) history.replaceState(null, "", routeHash(view, parameters));
  }, 120);
}

/** Drops a waiting write: another view is now shown. */
export const forgetRoute = () => clearTimeout(timer);
