// The page: asks once a second what is new, and brings table and charts up to date.

import { Chart, colors, element, shown } from "./chart.js";
import { Store } from "./store.js";
import { ROWS, Table } from "./table.js";
import { Tsne } from "./tsne.js";
import { MOST, View } from "./view.js";

const PERIOD = 1000; // milliseconds between questions
const PATIENCE = 15_000; // milliseconds for an answer
const NEAR = "150px"; // charts within this of the screen are drawn

const $ = (id) => document.getElementById(id);
const store = new Store();
const view = new View();
const darkness = matchMedia("(prefers-color-scheme: dark)");
const zoom = settled((steps) => view.set({ steps: steps ? steps.map((step) => Number(step.toPrecision(5))) : null }));
const context = { store, view, zoom, tooltip, charts: [], metrics: [] }; // and what the server sends as charts

const table = new Table($("runs"), view, (run) => {
  view.set({ tsne: run, at: null });
  $("tsne").scrollIntoView();
});
const tsne = new Tsne(context);
const layer = element("select", { ariaLabel: "layer" });
const charts = new Map(); // part of the page, entry and condition -> the chart
const all = () => [...charts.values()];

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const chart = all().find(({ card }) => card === target);
    if (!chart) continue;
    chart.near = isIntersecting;
    if (isIntersecting) busy(chart.draw());
    else chart.drop();
  }
}, { rootMargin: NEAR });

async function ask() {
  const news = await answer(`view?since=${store.version}`);
  if (news) connected("live");
  try {
    if (news) await busy(take(news));
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
    connected("connection lost, trying again", error);
    return null;
  }
}

async function take(answered) {
  const begin = performance.now();
  const news = store.take(answered);
  if (!news) return;
  table.setMetrics(store.columns);
  if (news.names) rename();
  writeRuns();
  writeLayers();
  if (news.metrics) busy(prepare());
  const curves = [...news.points.values()].includes(null); // of a condition are others, of which may be other charts
  const charted = news.names || curves || growing !== [...store.conditions.values()].filter(grows).length;
  if (charted) placeCharts();
  if (charted) await shown(); // which tells new charts whether they are near
  await Promise.all([...all().map((chart) => chart.touch(news.points)), tsne.refresh()]);
  performance.measure("update", { start: begin, detail: store.version });
}

// Vega, and what is drawn with it. The table does not wait for either.
async function prepare() {
  const library = window.vegaEmbed ?? new Promise((resolve) => $("library").addEventListener("load", resolve));
  const charts = await answer("charts");
  await library;
  if (!charts) return setTimeout(prepare, PERIOD);
  Object.assign(context, charts);
  for (const entry of context.charts) entry.id = JSON.stringify(entry);
  writeMetrics();
  placeCharts();
  await busy(Promise.all([...all().map((chart) => chart.draw()), tsne.refresh()]));
}

function connected(text, error) {
  const there = $("connection");
  there.classList.toggle("lost", Boolean(error));
  if (there.textContent !== text) there.textContent = text;
  there.title = error ? String(error) : "asked once a second";
}

// Whether anything is still to be drawn is said at the body, for whoever waits for the page.
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

function rename() {
  context.colors = colors(store.conditions.values());
  document.title = `${store.root.split("/").at(-1)} · taskcluster`;
  for (const place of ["root", "empty-root"]) $(place).textContent = store.root;
  writeConditions();
}

function writeRuns() {
  const runs = [...store.runs.values()];
  const condition = (run) => store.conditions.get(run.condition_id);
  const listed = runs.filter((run) => !condition(run) || view.shows(condition(run)));
  $("empty").hidden = runs.length > 0;
  $("layout").hidden = !runs.length;
  $("runs-count").textContent = part(listed, runs);
  table.write(listed);
  note("runs-note", listed.length > ROWS && `The first ${ROWS} of ${listed.length} runs are listed, in the order of the
    table, as more would slow the page down: filter the conditions for others.`);
  const counts = Map.groupBy(runs, ({ state }) => state);
  $("counts").replaceChildren(...[...counts].map(([state, { length }]) => {
    return element("li", { className: `state ${state}`, textContent: `${length} ${state}` });
  }));
}

function writeConditions() {
  const items = [];
  for (const [sweep, conditions] of Map.groupBy(store.conditions.values(), ({ sweep }) => sweep)) {
    items.push(element("li", { className: "sweep", textContent: sweep }), ...conditions.map(conditionItem));
  }
  $("conditions").replaceChildren(...items);
  filterConditions();
}

function conditionItem({ id, label, name, runs }) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => {
    const others = view.hide.filter((hidden) => hidden !== id);
    view.set({ hide: box.checked ? others : [...others, id] });
  });
  const swatch = element("span", { className: "swatch", ariaHidden: "true" });
  swatch.style.background = context.colors.get(id);
  const title = element("span", { className: "name", title: name });
  label.split(/(?<==)/).forEach((part) => title.append(part, element("wbr", {}))); // broken before a value, not in it
  const count = element("span", { className: "quiet", textContent: runs.length, title: "runs" });
  const item = element("li", {}, element("label", {}, box, swatch, title, count));
  item.dataset.condition = id;
  return item;
}

function filterConditions() {
  const conditions = [...store.conditions.values()];
  for (const item of $("conditions").querySelectorAll("[data-condition]")) {
    const { condition: id } = item.dataset;
    item.querySelector("input").checked = !view.hide.includes(id);
    item.classList.toggle("faint", !view.shows(store.conditions.get(id)));
  }
  const listed = conditions.filter((condition) => view.shows(condition));
  $("shown-count").textContent = part(listed, conditions);
  note("charts-note", listed.length > MOST && `Charts show the first ${MOST} of ${listed.length} conditions, as more
    cannot be told apart: filter the conditions for others.`);
}

const part = (some, whole) => (some.length === whole.length ? whole.length : `${some.length} of ${whole.length}`);

// What is left out, in a sentence; nothing if all is there.
function note(id, sentence) {
  Object.assign($(id), { hidden: !sentence, textContent: sentence || "" });
}

function writeLayers() {
  const layers = [...store.conditions.values()].flatMap(({ curves }) => curves.map((curve) => curve.layer ?? 0));
  const most = layers.reduce((one, other) => Math.max(one, other), 0);
  const values = ["last", ...Array.from({ length: most + 1 }, (_, k) => k)];
  if (layer.options.length !== values.length) {
    const text = (value) => (value === 0 ? "0 (embedding)" : value);
    layer.replaceChildren(...values.map((value) => element("option", { value, textContent: text(value) })));
  }
  layer.value = view.layer;
}

function writeMetrics() {
  const made = context.metrics.map(({ key, short, title }) => {
    const radio = element("input", { type: "radio", name: "metric", value: key });
    radio.addEventListener("change", () => view.set({ metric: key }));
    return element("label", { title }, radio, element("span", { textContent: short }));
  });
  $("metrics").replaceChildren(...made);
  $("metrics").parentElement.hidden = made.length < 2;
  showControls();
}

// The metric by layer that is chosen, or the first.
function chosen() {
  const keys = context.metrics.map(({ key }) => key);
  return keys.includes(view.metric) ? view.metric : keys[0];
}

// Whether a condition was measured at several steps: what has one is shown by layer, not as dots over it.
const grows = ({ steps }) => steps.size > 1;
let growing = 0; // conditions

// Make the charts of the page those that are wanted.
function placeCharts() {
  const entries = context.charts.filter((entry) => !entry.chosen || entry.chosen === chosen());
  const has = ({ metrics }, { needs }) => needs.some((key) => metrics.has(key));
  const conditions = view.charted(store.conditions.values());
  const [across, each] = ["across", "each"].map((name) => entries.filter(({ part }) => part === name));
  const over = conditions.some(grows);
  const fits = (one, entry) => has(one, entry) && (entry.last || grows(one));
  const wanted = {
    across: across.filter(({ last }) => last || over).map((entry) => [entry, ""]),
    each: conditions.flatMap((one) => each.filter((entry) => fits(one, entry)).map((entry) => [entry, one.id])),
  };
  growing = [...store.conditions.values()].filter(grows).length;
  const before = new Map(charts);
  charts.clear();
  for (const [name, pairs] of Object.entries(wanted)) {
    pairs.forEach(([entry, id], k) => {
      const key = `${id} ${entry.id}`;
      charts.set(key, before.get(key) ?? new Chart(entry, context, id, entry.one_layer ? ["layer ", layer] : []));
      const { card } = charts.get(key);
      const first = name === "each" && pairs[k - 1]?.[1] !== id && pairs.length > conditions.length;
      card.classList.toggle("starts", first); // a row, if conditions have several charts
      if ($(name).children[k] !== card) $(name).insertBefore(card, $(name).children[k] ?? null);
      if (!before.delete(key)) seen.observe(card);
    });
  }
  for (const chart of before.values()) {
    seen.unobserve(chart.card);
    chart.drop();
    chart.card.remove();
  }
  $("each-title").parentElement.hidden = !wanted.each.length;
  $("each-title").textContent = over ? "Each condition: every layer while it trains" : "Each condition";
  $("controls").hidden = !over;
}

function showControls() {
  for (const radio of $("metrics").querySelectorAll("input")) radio.checked = radio.value === chosen();
  layer.value = view.layer;
  if ($("filter").value !== view.filter) $("filter").value = view.filter;
  context.dark = view.theme ? view.theme === "dark" : darkness.matches;
  document.documentElement.dataset.theme = context.dark ? "dark" : "light";
  $("theme").textContent = context.dark ? "light" : "dark";
}

async function showView(changed) {
  const any = (...names) => names.some((name) => changed.has(name));
  showControls();
  if (any("filter", "hide")) filterConditions();
  if (any("filter", "hide", "metric")) placeCharts();
  if (any("filter", "hide", "sort")) writeRuns();
  const work = all().map((chart) => (any("steps") ? chart.zoom(view.steps) : null));
  work.push(...all().map((chart) => chart.draw()));
  if (any("tsne")) work.push(tsne.refresh());
  if (any("at", "theme")) work.push(tsne.draw(any("theme")));
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
  const draw = settled(() => busy(Promise.all([...all().map((chart) => chart.draw()), tsne.draw(true)])));
  addEventListener("resize", draw);
}

function tooltip(event, point) {
  const shown = $("tooltip");
  shown.hidden = !point;
  if (!point) return;
  const number = (value) => (typeof value !== "number" || Number.isInteger(value) ? value : value.toFixed(3));
  const { mean, lower, upper, n } = point;
  const ends = lower === upper ? "the same in all runs" : `${number(lower)} to ${number(upper)}`;
  const interval = mean == null ? null : lower == null ? "too few runs" : ends;
  const facts = ["condition", "split", "layer", "other_layer", "step", "task"].map((key) => [key, point[key]]);
  facts.push(["mean", mean], ["95 % interval", interval], ["runs", n]);
  shown.replaceChildren(...facts.filter(([, value]) => value != null).flatMap(([key, value]) => [
    element("span", { className: "quiet", textContent: key }), element("span", { textContent: number(value) }),
  ]));
  const { width, height } = shown.getBoundingClientRect();
  shown.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
  shown.style.top = `${event.clientY + height + 22 > innerHeight ? event.clientY - height - 10 : event.clientY + 14}px`;
}

// Called with the last arguments, once a tenth of a second has passed without others.
function settled(act) {
  let waiting;
  return (...given) => {
    clearTimeout(waiting);
    waiting = setTimeout(act, 100, ...given);
  };
}

showControls();
listen();
$("tsne").append(tsne.card);
busy(Promise.all([ask(), prepare()]));
