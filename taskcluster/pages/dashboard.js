// The page: asks once a second what is new, and brings table and charts up to date.

import { Chart, colors, element, shown } from "./charts.js";
import { againstStep, alike, beside, byLayer, chosen, compared, layerByCondition, learning, map, mapped, path } from "./kinds.js";
import { Store } from "./store.js";
import { ROWS, Table, stateClass } from "./table.js";
import { Tsne } from "./tsne.js";
import { MOST, View } from "./view.js";

const PERIOD = 1000; // milliseconds between questions
const PATIENCE = 15_000; // milliseconds for an answer
const NEAR = "150px"; // charts within this of the screen are drawn

const $ = (id) => document.getElementById(id);
const store = new Store();
const view = new View();
const darkness = matchMedia("(prefers-color-scheme: dark)");
const context = { store, view, zoom: throttled((steps) => view.set({ steps: steps ? steps.map(round) : null })), tooltip };

const table = new Table($("runs"), view, (run) => {
  view.set({ tsne: run, at: null });
  $("tsne").scrollIntoView();
});
const tsne = new Tsne(context);
const layer = element("select", { ariaLabel: "layer" });
const across = new Map(); // what tells them apart -> charts of all conditions
const each = new Map(); // condition id and kind -> its chart
const charts = () => [...across.values(), ...each.values()];

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const chart = charts().find(({ card }) => card === target);
    if (!chart) continue;
    chart.near = isIntersecting;
    if (isIntersecting) busy(chart.draw());
    else chart.drop();
  }
}, { rootMargin: NEAR });

// ---- asking

async function ask() {
  const changes = await answer(`changes?since=${store.version}&epoch=${store.epoch}`);
  if (changes) connected("live");
  try {
    if (changes) await busy(take(changes));
  } finally {
    setTimeout(ask, PERIOD); // a chart that cannot be drawn must not end the rest
  }
}

// What the server says, null if it does not, which is shown.
async function answer(address) {
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(response.statusText);
    return await response.json();
  } catch (error) {
    connected("lost", error);
    return null;
  }
}

async function take(changes) {
  const begin = performance.now();
  const news = store.take(changes);
  if (!news) return;
  if (news.metrics) rewriteMetrics();
  if (news.names) rename();
  writeRuns();
  writeLayers();
  const curves = [...news.points.values()].includes(null); // a condition has others, which may have a map
  if (curves) placeCharts();
  if (news.names || news.metrics || curves) await shown(); // which tells new charts whether they are near
  await Promise.all([...charts().map((chart) => chart.touch(news.points)), tsne.refresh()]);
  performance.measure("update", { start: begin, detail: store.version });
}

function connected(state, error) {
  const text = { live: "live", lost: "connection lost, trying again" }[state];
  const shown = $("connection");
  shown.classList.toggle("lost", state === "lost");
  if (shown.textContent !== text) shown.textContent = text;
  shown.title = error ? String(error) : "asked once a second";
}

// Whether anything is still to be drawn stands at the body, for whoever waits for the page.
let open = 0;
async function busy(work) {
  open += 1;
  document.body.dataset.drawn = "false";
  try {
    return await work;
  } finally {
    open -= 1;
    if (!open) document.body.dataset.drawn = "true";
  }
}

// ---- writing

function rename() {
  context.colors = colors(store.conditions.values());
  document.title = `${store.root.split("/").at(-1)} · taskcluster`;
  for (const place of ["root", "empty-root"]) $(place).textContent = store.root;
  writeConditions();
  placeCharts();
}

function writeRuns() {
  const runs = [...store.runs.values()];
  const shown = runs.filter((run) => {
    const condition = store.conditions.get(run.condition_id);
    return !condition || view.shows(condition);
  });
  $("empty").hidden = runs.length > 0;
  $("layout").hidden = !runs.length;
  $("runs-count").textContent = shown.length === runs.length ? runs.length : `${shown.length} of ${runs.length}`;
  table.write(shown);
  const rest = shown.length > ROWS && `The first ${ROWS} of ${shown.length} runs are listed, in the order of the table, as more would slow the page down: filter the conditions for others.`;
  note("runs-note", rest);
  const counts = new Map();
  for (const run of runs) counts.set(run.state, (counts.get(run.state) ?? 0) + 1);
  const items = [...counts].map(([state, count]) => element("li", { className: `state ${stateClass(state)}`, textContent: `${count} ${state}` }));
  $("counts").replaceChildren(...items);
}

function writeConditions() {
  let sweep = null;
  const items = [];
  for (const condition of store.conditions.values()) {
    if (condition.sweep !== sweep) items.push(element("li", { className: "sweep", textContent: condition.sweep }));
    sweep = condition.sweep;
    const box = element("input", { type: "checkbox", checked: !view.hide.includes(condition.id) });
    box.addEventListener("change", () => {
      const others = view.hide.filter((id) => id !== condition.id);
      view.set({ hide: box.checked ? others : [...others, condition.id] });
    });
    const swatch = element("span", { className: "swatch", ariaHidden: "true" });
    swatch.style.background = context.colors.get(condition.id);
    const name = element("span", { className: "name", textContent: condition.label, title: condition.name });
    const count = element("span", { className: "quiet", textContent: condition.runs, title: "runs" });
    const item = element("li", {}, element("label", {}, box, swatch, name, count));
    item.dataset.condition = condition.id;
    items.push(item);
  }
  $("conditions").replaceChildren(...items);
  filterConditions();
}

function filterConditions() {
  const all = [...store.conditions.values()];
  for (const item of $("conditions").querySelectorAll("[data-condition]")) {
    const condition = store.conditions.get(item.dataset.condition);
    item.querySelector("input").checked = !view.hide.includes(condition.id);
    item.classList.toggle("faint", !view.shows(condition));
  }
  const shown = all.filter((condition) => view.shows(condition)).length;
  $("shown-count").textContent = shown === all.length ? all.length : `${shown} of ${all.length}`;
  note("charts-note", shown > MOST && `Charts show the first ${MOST} of ${shown} conditions, as more cannot be told apart: filter the conditions for others.`);
}

// What is left out, in a sentence; nothing where all is there.
function note(id, sentence) {
  $(id).hidden = !sentence;
  if (sentence) $(id).textContent = sentence;
}

function writeLayers() {
  let most = 0;
  for (const { curves } of store.conditions.values()) for (const curve of curves) most = Math.max(most, curve.layer ?? 0);
  const values = ["last", ...Array.from({ length: most + 1 }, (_, k) => k)];
  if (layer.options.length !== values.length) {
    layer.replaceChildren(...values.map((value) => element("option", { value, textContent: value === 0 ? "0 (embedding)" : value })));
  }
  layer.value = view.layer;
}

function rewriteMetrics() {
  table.setMetrics(store.metrics);
  const made = store.shown("curves", true).map(({ key, short, name, where }) => {
    const radio = element("input", { type: "radio", name: "metric", value: key });
    radio.addEventListener("change", () => view.set({ metric: key }));
    return element("label", { title: `${name} ${where}` }, radio, element("span", { textContent: short }));
  });
  $("metrics").replaceChildren(...made);
  $("metrics").parentElement.hidden = made.length < 2;
  const once = store.shown("curves", false).length ? [["learning", () => new Chart(learning, context)]] : [];
  const both = store.shown("layers", true).filter(({ views }) => views.includes("curves"));
  const grouped = alike(both).map((group) => [JSON.stringify(group), () => new Chart(byLayer(group), context)]);
  const layers = made.length ? [["layer", () => new Chart(layerByCondition, context, "layer ", layer)]] : [];
  place(across, $("across"), [...layers, ...once, ...grouped]);
  placeCharts();
  showMetric(); // of the controls only this: what is being typed into the others stays
}

function placeCharts() {
  const shown = view.charted(store.conditions.values());
  const kinds = (condition) => [
    ...(chosen(context).length ? [againstStep(condition)] : []),
    ...[map, path].map((kind) => kind(condition)).filter(({ name }) => mapped(store, condition, name).length),
    ...["baseline", "nuisance"].filter((kind) => compared(store, condition, kind).length).map((kind) => beside(condition, kind)),
  ];
  const wanted = shown.flatMap(kinds).map((kind) => [`${kind.only} ${kind.id ?? kind.name}`, () => new Chart(kind, context)]);
  $("each-title").parentElement.hidden = !wanted.length && !chosen(context).length;
  place(each, $("each"), wanted);
  const several = wanted.length > shown.length; // of a condition, which then begins a row
  for (const condition of shown) each.get(`${condition.id} against_step`)?.card.classList.toggle("starts", several);
}

// Make the charts of a part of the page those that are wanted: [id, how it is made if it is not there].
function place(there, part, wanted) {
  const ids = new Set(wanted.map(([id]) => id));
  for (const [id, chart] of there) {
    if (ids.has(id)) continue;
    seen.unobserve(chart.card);
    chart.drop();
    chart.card.remove();
    there.delete(id);
  }
  wanted.forEach(([id, make], k) => {
    if (!there.has(id)) {
      there.set(id, make());
      seen.observe(there.get(id).card);
    }
    const { card } = there.get(id);
    if (part.children[k] !== card) part.insertBefore(card, part.children[k] ?? null);
  });
}

// ---- the view

function showMetric() {
  for (const radio of $("metrics").querySelectorAll("input")) radio.checked = radio.value === chosen(context)[0]?.key;
}

function showControls() {
  showMetric();
  layer.value = view.layer;
  if ($("filter").value !== view.filter) $("filter").value = view.filter;
  context.dark = view.theme ? view.theme === "dark" : darkness.matches;
  document.documentElement.dataset.theme = context.dark ? "dark" : "light";
  $("theme").textContent = context.dark ? "light" : "dark";
}

function showSteps() {
  [$("from").value, $("to").value] = view.steps ?? ["", ""];
}

async function showView(changed) {
  showControls();
  if (changed.has("steps")) showSteps(); // and only then, as what is being typed stays
  if (changed.has("filter") || changed.has("hide")) {
    filterConditions();
    placeCharts();
  }
  if (changed.has("filter") || changed.has("hide") || changed.has("sort")) writeRuns();
  const work = charts().map((chart) => (changed.has("steps") ? chart.zoom(view.steps) : null));
  work.push(...charts().map((chart) => chart.draw()));
  if (changed.has("tsne")) work.push(tsne.refresh());
  if (changed.has("at") || changed.has("theme")) work.push(tsne.draw(changed.has("theme")));
  await Promise.all(work);
}

function listen() {
  view.addEventListener("change", ({ detail }) => busy(showView(detail)));
  darkness.addEventListener("change", () => busy(showView(new Set(["theme"]))));
  $("filter").addEventListener("input", () => view.set({ filter: $("filter").value }));
  layer.addEventListener("change", () => view.set({ layer: layer.value === "last" ? "last" : Number(layer.value) }));
  $("all").addEventListener("click", () => view.set({ hide: [], filter: "" }));
  $("none").addEventListener("click", () => view.set({ hide: [...store.conditions.keys()] }));
  $("all-steps").addEventListener("click", () => view.set({ steps: null }));
  $("theme").addEventListener("click", () => view.set({ theme: context.dark ? "light" : "dark" }));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const place of ["from", "to"]) $(place).addEventListener("change", chooseSteps);
  let width = innerWidth;
  addEventListener("resize", throttled(() => {
    if (width !== innerWidth) busy(Promise.all([...charts().map((chart) => chart.draw()), tsne.draw(true)]));
    width = innerWidth;
  }));
}

function chooseSteps() {
  let most = 1;
  for (const { steps } of store.conditions.values()) for (const step of steps.keys()) most = Math.max(most, step);
  const [from, to] = [Number($("from").value || 0), Number($("to").value || most)];
  view.set({ steps: from < to ? [from, to] : null });
}

function tooltip(event, point) {
  const shown = $("tooltip");
  shown.hidden = !point;
  if (!point) return;
  const number = (value) => (typeof value !== "number" ? value : Number.isInteger(value) ? value : value.toFixed(3));
  const said = (ends) => (!ends ? "too few runs" : ends[0] === ends[1] ? "the same in all runs" : ends.map(number).join(" to "));
  const interval = point.mean == null ? [] : [["95 % interval", said(point.lower == null ? null : [point.lower, point.upper])]];
  if (point.together !== undefined) interval.push(["in all cells", said(point.together)]);
  const facts = [
    ...["condition", "split", "layer", "step", "task"].map((key) => [key, point[key]]),
    ["mean", point.mean], ...interval, ["runs", point.n],
  ].filter(([, value]) => value != null);
  shown.replaceChildren(...facts.flatMap(([key, value]) => [
    element("span", { className: "quiet", textContent: key }), element("span", { textContent: number(value) }),
  ]));
  const { width, height } = shown.getBoundingClientRect();
  shown.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
  shown.style.top = `${event.clientY + height + 22 > innerHeight ? event.clientY - height - 10 : event.clientY + 14}px`;
}

// ---- small things

function round(value) {
  return Number(value.toPrecision(5));
}

// Called with the last arguments, at most ten times a second.
function throttled(act) {
  let waiting = null;
  let last;
  return (...given) => {
    last = given;
    waiting ??= setTimeout(() => {
      waiting = null;
      act(...last);
    }, 100);
  };
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Vega, and what is drawn with it. The table does not wait for either.
async function prepare() {
  const library = window.vegaEmbed ?? new Promise((resolve) => $("library").addEventListener("load", resolve));
  let specifications = await answer("charts");
  for (; !specifications; specifications = await answer("charts")) await pause(PERIOD);
  await library;
  Object.assign(context, specifications);
  await Promise.all([...charts().map((chart) => chart.draw()), tsne.refresh()]);
}

showControls();
showSteps();
listen();
$("tsne").append(tsne.card);
busy(Promise.all([ask(), prepare()]));
