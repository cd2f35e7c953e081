/** OpenSeadragon, loaded when a slide is first shown. */

/** The viewer itself could not be loaded. */
export class ViewerError extends Error {}

const SCRIPT = "/static/vendor/openseadragon/openseadragon.min.js";
let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    // The library would add its own style element, which the page's policy refuses; it skips
    // this if it finds one. An unknown element is found, and has no effect.
    const stand = document.createElementNS("urn:atypia", "style");
    stand.setAttribute("data-openseadragon-mobile-css", "true");
    document.head.append(stand);
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.addEventListener("load", () => resolve(window.OpenSeadragon));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      stand.remove();
      reject(new ViewerError("the slide viewer could not be loaded"));
    });
    document.head.append(script);
  });
  return loading;
}

/**
 * A viewer of one element, without its own controls and keys.
 * @param {HTMLElement} element
 * @returns {Promise<Object>} OpenSeadragon's viewer
 */
export async function makeViewer(element) {
  const OpenSeadragon = await load();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const viewer = OpenSeadragon({
    element,
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "BOTTOM_RIGHT",
    navigatorSizeRatio: 0.16,
    animationTime: calm ? 0 : 0.5,
    springStiffness: 8,
    maxZoomPixelRatio: 6,
    minZoomImageRatio: 0.7,
    visibilityRatio: 0.4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { dblTapToZoom: true },
    timeout: 60000,
  });
  for (const tracker of [viewer.innerTracker, viewer.outerTracker]) {
    tracker.keyDownHandler = null;
    tracker.keyHandler = null;
  }
  return viewer;
}

/** Screen px per slide px, and the slide's origin on the screen; null while no slide is open. */
export function placement(viewer) {
  const item = viewer?.world.getItemAt(0);
  if (!item) return null;
  const OpenSeadragon = window.OpenSeadragon;
  const [a, b] = [0, 1000].map(
    (at) => viewer.viewport.viewportToViewerElementCoordinates(
      item.imageToViewportCoordinates(new OpenSeadragon.Point(at, at), true)
    )
  );
  return { scale: (b.x - a.x) / 1000, x: a.x, y: a.y };
}

/** Moves the view to a figure; `close` also zooms so that the figure fills about a quarter. */
export function goTo(viewer, figure, close) {
  const item = viewer.world.getItemAt(0);
  if (!item) return;
  const OpenSeadragon = window.OpenSeadragon;
  const centre = item.imageToViewportCoordinates(new OpenSeadragon.Point(figure.x_px, figure.y_px));
  if (close) {
    const half = 2 * figure.side_px;
    const box = item.imageToViewportRectangle(figure.x_px - half, figure.y_px - half, 2 * half, 2 * half);
    viewer.viewport.fitBounds(box);
  } else viewer.viewport.panTo(centre);
}
