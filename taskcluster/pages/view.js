// What is looked at: kept in the address after #, so that a link leads to the same view.

// metric: key of the metric by layer that charts show, the first if it is none of them.
const DEFAULTS = { metric: "", layer: "last", filter: "", hide: [], steps: null, tsne: "", at: null, theme: "", sort: "" };

export const MOST = 200; // conditions in charts: more can neither be told apart nor drawn in time

export class View extends EventTarget {
  constructor() {
    super();
    Object.assign(this, DEFAULTS, read());
    addEventListener("hashchange", () => this.#change(read()));
  }

  // Change some of it; listeners of "change" are told the names of what did.
  set(changes) {
    if (this.#change(changes)) history.replaceState(null, "", this.#hash() || location.pathname + location.search);
  }

  shows(condition) {
    const words = this.filter.toLowerCase().split(/\s+/);
    return !this.hide.includes(condition.id) && words.every((word) => condition.name.toLowerCase().includes(word));
  }

  // Of all conditions those that charts show: the first MOST of those that are shown at all.
  charted(conditions) {
    const found = [];
    for (const condition of conditions) {
      if (this.shows(condition)) found.push(condition);
      if (found.length === MOST) break;
    }
    return found;
  }

  #change(changes) {
    const changed = Object.keys(changes).filter((key) => String(this[key]) !== String(changes[key]));
    for (const key of changed) this[key] = changes[key];
    if (changed.length) this.dispatchEvent(new CustomEvent("change", { detail: new Set(changed) }));
    return changed.length > 0;
  }

  #hash() {
    const parts = Object.keys(DEFAULTS).filter((key) => String(this[key]) !== String(DEFAULTS[key]));
    return parts.length ? "#" + parts.map((key) => `${key}=${encodeURIComponent(String(this[key]))}`).join("&") : "";
  }
}

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const text = (key) => given.get(key) ?? DEFAULTS[key];
  const steps = text("steps")?.split(",").map(Number);
  return {
    metric: text("metric"),
    layer: /^\d+$/.test(text("layer")) ? Number(text("layer")) : "last",
    filter: text("filter"),
    hide: given.get("hide")?.split(",").filter(Boolean) ?? [],
    steps: steps?.length === 2 && steps[0] < steps[1] ? steps : null,
    tsne: text("tsne"),
    at: /^\d+$/.test(given.get("at") ?? "") ? Number(given.get("at")) : null,
    theme: ["light", "dark"].includes(given.get("theme")) ? given.get("theme") : "",
    sort: text("sort"),
  };
}
