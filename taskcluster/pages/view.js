// What is looked at: kept in the address after #, so that a link leads to the same view.

// metric: key of the metric by layer that charts show, the first if it is none of them.
const DEFAULTS = {
  metric: "", layer: "last", filter: "", hide: [], steps: null, tsne: "", at: null, theme: "", sort: "",
};

export const MOST = 200; // conditions in charts: more can neither be told apart nor drawn in time

export class View extends EventTarget {
  constructor() {
    super();
    Object.assign(this, DEFAULTS, read());
    addEventListener("hashchange", () => this.#change(read()));
  }

  // Change some of it; listeners of "change" get the names of what did.
  set(changes) {
    if (this.#change(changes)) history.replaceState(null, "", this.#hash() || location.pathname + location.search);
  }

  shows({ id, name }) {
    const words = this.filter.toLowerCase().split(/\s+/);
    return !this.hide.includes(id) && words.every((word) => name.toLowerCase().includes(word));
  }

  // The conditions that charts show.
  charted(conditions) {
    return [...conditions].filter((condition) => this.shows(condition)).slice(0, MOST);
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
  const texts = Object.fromEntries(Object.keys(DEFAULTS).map((key) => [key, given.get(key) ?? DEFAULTS[key]]));
  const steps = given.get("steps")?.split(",").map(Number) ?? [];
  const whole = (key) => (/^\d+$/.test(given.get(key) ?? "") ? Number(given.get(key)) : DEFAULTS[key]);
  return {
    ...texts,
    layer: whole("layer"),
    hide: given.get("hide")?.split(",").filter(Boolean) ?? [],
    steps: steps.length === 2 && steps[0] < steps[1] ? steps : null,
    at: whole("at"),
    theme: ["light", "dark"].includes(texts.theme) ? texts.theme : "",
  };
}
