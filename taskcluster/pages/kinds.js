// What the charts of the page show: each kind names a specification of the server, and what is put into it.

import { lastCommonStep, lastLayer } from "./store.js";

// What a chart is made of. name: of the specification; metrics: that it shows; title; file: name of what is downloaded;
// apart: whether each metric has a panel and an axis of its own, and otherwise each split or place of one; told: words
// for a metric, by the field of the specification that has them; steps: of a condition that are shown, all if left out;
// layer: of a condition that is shown, all if left out; only: the condition of a chart of its own; tiles: what maps
// have besides: the field of their panels, the height of one, and the width of the words beside them; columns: how many
// panels are beside each other, where that is none of these; legend: its width.
export function againstStep(condition) {
  return {
    name: "against_step",
    only: condition.id,
    metrics: chosen,
    title: (context) => `${condition.name} · ${titled(chosen(context)[0])}`,
    file: (context) => `${chosen(context)[0].key}-${condition.name}`,
  };
}

export const layerByCondition = {
  name: "layer_by_condition",
  metrics: chosen,
  title: (context) => `${titled(chosen(context)[0])} · ${context.view.layer === "last" ? "last layer" : `layer ${context.view.layer}`}`,
  file: (context) => `${chosen(context)[0].key}-layer-${context.view.layer}`,
  layer: (context, condition) => (context.view.layer === "last" ? lastLayer(condition, chosen(context)[0]) : context.view.layer),
};

export const learning = {
  name: "learning",
  metrics: ({ store }) => store.shown("curves", false),
  title: ({ store }) => capital(listed(store.shown("curves", false).map(({ name }) => name))),
  file: () => "learning",
  apart: true,
};

// of: metrics of one axis, as `alike` gives them.
export function byLayer(of) {
  return {
    name: "by_layer",
    metrics: () => of,
    told: () => ({ where: ({ where }) => where }),
    title: () => `${capital(of[0].name)} by layer at the last step that all seeds have reached`,
    file: () => `${of[0].key}-by-layer`,
    unzoomed: true,
    steps: (condition) => [lastCommonStep(condition)],
  };
}

// By layer and step, of one condition.
export function map(condition) {
  return {
    name: "map",
    only: condition.id,
    metrics: ({ store }) => mapped(store, condition, "map"),
    title: () => `${condition.name} · by layer and step, on validation`,
    file: () => `map-${condition.name}`,
    unzoomed: true,
    told: () => ({ where: ({ short }) => capital(short) }),
    tiles: { panel: "where", height: () => 130, beside: 0 },
  };
}

// By position and layer, of one condition.
export function path(condition) {
  const own = ({ store }) => store.shown("path", true).map(({ key }) => key);
  const place = ({ places }, { position }) => places[position] ?? position;
  const name = (context, { name, where, position }) => {
    const alike = mapped(context.store, condition, "path").filter((other) => other.name === name);
    const said = new Set(alike.map((other) => other.where.replace(place(context, other), "")));
    return said.size === 1 ? name + [...said][0] : name;
  };
  return {
    name: "path",
    only: condition.id,
    metrics: ({ store }) => mapped(store, condition, "path"),
    title: () => `${condition.name} · by position and layer, last step`,
    file: () => `path-${condition.name}`,
    unzoomed: true,
    steps: (_, context) => [lastCommonStep(condition, own(context))],
    told: (context) => ({ name: (metric) => name(context, metric), place: (metric) => place(context, metric) }),
    tiles: { panel: "name", height: (metrics) => 32 * new Set(metrics.map(({ position }) => position)).size, beside: 110 },
  };
}

// Metrics beside what they are compared with, of one condition: "baseline", or "nuisance" for other labels.
export function beside(condition, kind) {
  const grouped = ({ store }) => compared(store, condition, kind);
  const told = (context) => {
    const of = new Map(grouped(context).flatMap((group) => group.map((metric) => [metric.key, group[0]])));
    const itself = (metric) => of.get(metric.key).key === metric.key;
    const name = kind === "baseline" ? "trained network" : "task";
    return {
      label: (metric) => (itself(metric) ? name : metric.where),
      where: (metric) => of.get(metric.key).where,
      role: (metric) => (itself(metric) ? "itself" : "beside"),
    };
  };
  return {
    name: "beside",
    id: kind,
    only: condition.id,
    metrics: (context) => grouped(context).flat(),
    title: () => `${condition.name} · ${kind === "baseline" ? "beside baselines" : "what clusters are of"}`,
    file: () => `${kind}-${condition.name}`,
    unzoomed: true,
    steps: (_, context) => [lastCommonStep(condition, grouped(context).flatMap((group) => group.slice(1).map(({ key }) => key)))],
    told,
    columns: (context) => grouped(context).length,
    legend: 130,
  };
}

// Groups of a metric that a condition has and those of a kind that are compared with it, as in compared.groups.
export function compared(store, condition, kind) {
  const measured = new Set(condition.curves.map(({ metric }) => metric));
  const others = store.metrics.filter((metric) => metric.kind === kind && metric.views.includes("beside") && measured.has(metric.key));
  const of = store.metrics.filter(({ key }) => measured.has(key) && others.some((other) => other.of === key));
  return of.map((metric) => [metric, ...others.filter((other) => other.of === metric.key)]);
}

// The metrics of a map that a condition has, and the curves of what was measured at their positions, as in
// metrics.mapped.
export function mapped(store, condition, view) {
  const measured = new Set(condition.curves.map(({ metric }) => metric));
  const own = store.shown(view, true).filter(({ key }) => measured.has(key));
  const positions = new Set(own.map(({ position }) => position));
  const effects = new Set([...store.shown("map", true), ...store.shown("path", true)]);
  const curves = store.shown("curves", true).filter((metric) => measured.has(metric.key) && !effects.has(metric));
  return [...own, ...curves.filter(({ position }) => positions.has(position))];
}

// The metric that is chosen, in a list, which is empty where no run has any by layer.
export function chosen({ store, view }) {
  const all = store.shown("curves", true);
  return [all.find(({ key }) => key === view.metric) ?? all[0]].filter(Boolean);
}

// Metrics in groups that one axis serves, as in charts.alike.
export function alike(metrics) {
  return [...Map.groupBy(metrics, ({ name, axis, low, high }) => JSON.stringify([name, axis, low, high])).values()];
}

const titled = ({ name, where }) => capital(`${name} ${where}`.trim());
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const listed = (words) => words.join(", ").replace(/, ([^,]*)$/, " and $1");
