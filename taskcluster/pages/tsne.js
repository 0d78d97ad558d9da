// Hidden states of one run, flattened by t-SNE, checkpoint by checkpoint. Fetched only for the run that is chosen.

import { button, element, embed, save, saveTable } from "./chart.js";

export class Tsne {
  constructor(context) {
    Object.assign(this, { context, steps: [], run: "" });
    this.slider = element("input", { type: "range", min: 0, max: 0, ariaLabel: "checkpoint" });
    this.label = element("output");
    this.plot = element("div", { className: "plot" });
    this.note = element("p", { className: "quiet note" });
    const files = ["PNG", "SVG", "CSV"].map((kind) => button(kind, `download as ${kind}`, () => this.#save(kind)));
    const left = element("span", { className: "card-controls" }, this.slider, this.label);
    const head = element("div", { className: "card-head" }, left, ...files);
    this.card = element("article", { className: "card" }, head, this.note, this.plot);
    this.controls = [this.slider, ...files];
    this.slider.addEventListener("input", () => context.view.set({ at: this.steps[this.slider.value] }));
    this.draw();
  }

  // Runs may have come, and the run that is looked at may be another.
  async refresh() {
    const run = this.context.store.runs.get(this.context.view.tsne);
    const wanted = run?.has_tsne ? run.id : "";
    if (!wanted) this.note.textContent = "Finished runs have a button for these in the table.";
    if (wanted !== this.run && this.context.tsne) await this.#load(wanted);
  }

  // Another checkpoint, or another theme.
  async draw(again = false) {
    const { view, store, tsne } = this.context;
    const at = Math.max(0, this.steps.includes(view.at) ? this.steps.indexOf(view.at) : this.steps.length - 1);
    for (const control of this.controls) control.disabled = !this.steps.length;
    if (!this.steps.length) return;
    Object.assign(this.slider, { max: this.steps.length - 1, value: at });
    this.label.textContent = `step ${this.steps[at]} (${at + 1} of ${this.steps.length})`;
    const points = this.#points(this.steps[at]);
    if (this.embedded && !again) return this.embedded.view.data("points", points).runAsync();
    const specification = structuredClone(tsne);
    const layers = new Set(this.points.map((point) => point.layer)).size;
    const side = Math.max(90, Math.min(210, Math.floor((this.plot.clientWidth - 40) / layers) - 22));
    Object.assign(specification.spec, { width: side, height: side });
    specification.spec.encoding.color.scale.domain = [0, this.n_tasks];
    specification.title = store.runs.get(this.run)?.name ?? "";
    const old = this.embedded;
    this.embedded = await embed(this.plot, specification, this.context, points);
    old?.finalize();
  }

  async #load(run) {
    this.embedded?.finalize();
    Object.assign(this, { run, embedded: null, steps: [], points: [] });
    this.plot.replaceChildren();
    this.label.textContent = "";
    if (run) {
      this.note.textContent = "Each point is an instruction, each colour a task.";
      try {
        const answer = await (await fetch(`runs/${encodeURIComponent(run)}/tsne`)).json();
        if (run !== this.run) return; // another was chosen meanwhile
        this.steps = [...new Set(answer.points.map((point) => point.step))].sort((one, other) => one - other);
        Object.assign(this, answer);
      } catch (error) {
        this.note.textContent = `This run's t-SNE cannot be shown: ${error.message}.`;
      }
    }
    await this.draw();
  }

  #points(step) {
    return this.points.filter((point) => point.step === step).map((point) => ({ ...point }));
  }

  #save(kind) {
    const step = this.steps[this.slider.value];
    const name = `tsne-${this.context.store.runs.get(this.run)?.name}-step-${step}`;
    return kind === "CSV" ? saveTable(this.#points(step), name) : save(this.embedded, kind, name);
  }
}
