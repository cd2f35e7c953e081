/** Files: exports, import of another rater's decisions, crops to classify. */

import { OfflineError, RefusedError, fetchFile, get, send } from "./api.js";
import { callTag } from "./card.js";
import { fill, fixed, h, whole } from "./dom.js";
import { NAME_LENGTH } from "./review.js";
import { replaceRoute } from "./route.js";
import { store } from "./store.js";

const BY_SLIDE = "decisions.geojson";
const REPORTS = [
  [
    "report.html", "Final report",
    "Final counts and rate, who decided what, what is open, crops with scale bars. Open it in a browser; it prints on A4."
  ],
  ["report.csv", "Joined table", "One line per figure: model, each rater, consensus, arbitration, position, tags, notes."],
  ["report.json", "Report for programs", "The same in a documented form."],
];
const EXPORTS = [
  [
    "manifest.parquet", "Data set",
    "All labelled figures, with votes, soft labels and labels updated by all decisions; to train on."
  ],
  ["manifest.parquet?decided=true", "Decided figures", "The same, with only the figures that reviewers decided."],
  [
    "decisions.csv", "Decisions",
    "Current decisions and notes, one line per figure and rater. Other copies of this page can import it."
  ],
  ["log.csv", "Log", "All decisions ever made, with time, rater and previous decision."],
  [BY_SLIDE, "QuPath", "The figures of a slide with the consensus, as GeoJSON."],
];

const fileName = (address) => address.split("?")[0];

// Not a plain link, because a link would save an error message under the name of the file.
async function download(address, result, name = fileName(address)) {
  result.textContent = "Preparing the file …";
  try {
    const blob = await fetchFile(`/exports/${address}`);
    const local = URL.createObjectURL(blob);
    h("a", { href: local, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(local), 60000);
    result.textContent = `${name} was saved.`;
  } catch (error) {
    if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
    result.textContent = `The file is not available: ${error.message}`;
  }
}

export class ExchangeView {
  constructor() {
    this.body = h("div", { class: "page" });
    this.element = h("div", { class: "view" }, this.body);
    store.addEventListener("rater", () => this.element.isConnected && this.#show());
    store.addEventListener("blind", () => this.element.isConnected && this.#show());
  }

  show() {
    replaceRoute("files", { blind: store.blind });
    this.#show();
  }

  key() {
    return false;
  }

  #show() {
    fill(this.body, this.#exports(), !store.blind && this.#calibrate(), this.#imports(), this.#predict());
  }

  #exports() {
    const result = h("output", { class: "result", role: "status" });
    const told = h("output", { class: "result", role: "status" });
    const slide = h("select", { "aria-label": "Slide of the GeoJSON" });
    if (store.session.has.slides) this.#offerSlides(slide);
    const card = ([address, title, text]) => h(
      "button", {
        type: "button", class: "file",
        on: {
          click: () => download(
            address === BY_SLIDE ? `${address}?slide=${slide.value || 0}` : address,
            address.startsWith("report.") ? told : result
          )
        }
      },
      h("strong", {}, title), h("span", { class: "faint" }, address.includes("decided") ? `${fileName(address)}, decided only` : fileName(address)), h("small", {}, text),
    );
    return h(
      "section", { "aria-labelledby": "f-export" },
      h("h2", { id: "f-export" }, "Report"),
      h("div", { class: "box" }, h("div", { class: "files" }, REPORTS.map(card)), told),
      h("h2", { class: "next" }, "Export"),
      store.blind && h(
        "p", { class: "faint" }, "These files contain the decisions of all raters: open them only after you have finished yours."
      ),
      h("div", { class: "box" },
        h(
          "div", { class: "files" },
          EXPORTS.filter(([name]) => name !== BY_SLIDE || store.session.has.slides).map(card)
        ),
        store.session.has.slides && h("label", { class: "slide-choice" }, "Slide for QuPath ", slide), result),
    );
  }

  /** The next command, with the name of the file that the button saves. */
  #calibrate() {
    const box = h("div", { class: "box" }, h("p", { class: "faint" }, "Counting …"));
    this.#fillCalibration(box);
    return h("section", { "aria-labelledby": "f-calibrate" },
      h("h2", { id: "f-calibrate" }, "Calibrate the model on these decisions"), box);
  }

  async #fillCalibration(box) {
    try {
      const next = await get("/calibration");
      const result = h("output", { class: "result", role: "status" });
      const save = () => download("manifest.parquet?decided=true", result, next.file);
      const copy = async () => {
        await navigator.clipboard.writeText(next.command);
        result.textContent = "The command was copied.";
      };
      fill(box,
        h("p", {}, h("b", {}, `${whole(next.atypical)} atypical and ${whole(next.normal)} normal figures`),
          " are decided. Save them, and run the command in the folder of the file; it says how good the model is here, and adjusts its threshold as far as they justify it."),
        next.notes.length > 0 && h("ul", { class: "faint" }, next.notes.map((text) => h("li", {}, text))),
        h("pre", { class: "command" }, h("code", {}, next.command)),
        h("div", { class: "line-up" },
          h("button", { type: "button", class: "primary", disabled: next.atypical + next.normal === 0, on: { click: save } }, `Save ${next.file}`),
          navigator.clipboard && h("button", { type: "button", on: { click: copy } }, "Copy the command"),
          h("a", { href: "#queue?kind=calibration" }, "Figures that are most useful to decide")),
        result);
    } catch (error) {
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
      fill(box, h("p", { class: "faint" }, `The command could not be made: ${error.message}`));
    }
  }

  async #offerSlides(select) {
    try {
      const slides = await get("/slides");
      fill(select, slides.map((one) => h("option", { value: one.slide }, one.name)));
    } catch (error) {
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
      fill(select, h("option", { value: 0 }, "the first slide"));
    }
  }

  #form(id, title, text, fields, submit, action) {
    const result = h("output", { class: "result", role: "status" });
    const press = h("button", { type: "submit", class: "primary" }, submit);
    const form = h("form", { class: "line-up" }, fields, press);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      press.disabled = true;
      result.textContent = "Working …";
      try {
        fill(result, await action(new FormData(form)));
      } catch (error) {
        if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
        result.textContent = `This failed: ${error.message}`;
      } finally {
        press.disabled = false;
      }
    });
    return h(
      "section", { "aria-labelledby": id }, h("h2", { id }, title),
      h("div", { class: "box" }, h("p", { class: "faint" }, text), form, result)
    );
  }

  #imports() {
    const file = h("input", { type: "file", name: "file", accept: ".csv,text/csv", required: true });
    const rater = h(
      "input",
      {
        type: "text", name: "rater", required: true, maxlength: NAME_LENGTH, value: store.rater ?? "",
        list: "known-raters"
      }
    );
    const known = h("datalist", { id: "known-raters" }, store.raters.map(({ name }) => h("option", { value: name })));
    return this.#form(
      "f-import", "Import",
      "Decisions of a rater from a CSV file with the columns figure_id, decision and, if there are any, note and tags. They are added to the log under the rater's name.",
      [h("label", {}, "File", file), h("label", {}, "Rater", rater), known], "Import",
      async (form) => {
        const answer = await send("/imports", form);
        await store.loadRaters();
        store.emit("imported"); // lists still show the earlier decisions
        return `${whole(answer.taken)} taken, ${whole(answer.skipped)} skipped (no decision, or nothing new), ${whole(answer.unknown)} for unknown figures.`;
      },
    );
  }

  #predict() {
    if (!store.session.model) {
      return h(
        "section", { "aria-labelledby": "f-predict" }, h("h2", { id: "f-predict" }, "Classify"),
        h(
          "div", { class: "box" },
          h("p", { class: "faint" }, "No classifier is loaded. Start with --model NAME to classify crops here.")
        )
      );
    }
    const files = h(
      "input",
      {
        type: "file", name: "files", multiple: true, required: true,
        accept: "image/png,image/jpeg,image/tiff,.tif,.tiff"
      }
    );
    return this.#form(
      "f-predict", "Classify", `Crops (PNG, JPEG, TIFF) or stacks of them, centred on a mitotic figure, by ${store.session.model}. Research use only; not a medical device.`,
      [h("label", {}, "Images", files)], "Classify",
      async (form) => {
        const answer = await send("/predict", form);
        return [
          h(
            "p", {},
            `${whole(answer.rows.length)} ${answer.rows.length === 1 ? "figure" : "figures"}, threshold ${fixed(answer.threshold, 2)}`
          ),
          h("div", { class: "scrolls" }, h("table", { "aria-label": "Predictions" },
            h(
              "thead", {},
              h(
                "tr", {},
                ["crop", "figure", "the model says", "probability of atypical", "why refused"].map(
                  (title) => h("th", { scope: "col" }, title)
                )
              )
            ),
            h(
              "tbody", {},
              answer.rows.map(
                (row) => h(
                  "tr", {},
                  h(
                    "td", { class: "left" },
                    row.crop && h("img", { src: row.crop, alt: `crop of ${row.figure_id}`, class: "upload-crop" })
                  ),
                  h("th", { scope: "row" }, row.figure_id), h("td", {}, callTag(row.call)),
                  h("td", {}, fixed(row.p_atypical, 2)), h("td", { class: "left" }, row.reason ?? "")
                )
              )
            ))),
        ];
      },
    );
  }
}
