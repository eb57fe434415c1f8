/** Draw a dependency tree: words on a line, an arc from each head to its dependent. */

import { svg } from "./dom.js";

const STEP = 24, GAP = 16, FOOT = 7, RADIUS = 8;
const canvas = document.createElement("canvas").getContext("2d");

function widthOf(text, size, weight = 400) {
  canvas.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  return canvas.measureText(text).width;
}

/**
 * @param words with heads counted from 1 and relations, one of each a word.
 * @param tags to write under the words, or null.
 * @param differs whether a word's arc differs from the other tree.
 * @param rightToLeft whether the first word is at the right.
 */
export function tree({ words, heads, relations, tags, differs, rightToLeft }) {
  const labels = relations.map((relation, place) => (differs(place) ? `≠\u2002${relation}` : relation));
  const labelWidths = labels.map((label) => widthOf(label, 12) + 8);
  const xs = positions(words, tags, heads, labelWidths);
  const width = xs.total;
  const x = (place) => (rightToLeft ? width - xs[place] : xs[place]);
  const arcs = levelled(heads);
  const levels = Math.max(1, ...arcs.map((arc) => arc.level));
  const base = levels * STEP + 22;
  const height = base + (tags ? 46 : 28);
  const shift = shifts(arcs);
  const drawing = svg("svg", { width: Math.ceil(width), height, viewBox: `0 0 ${Math.ceil(width)} ${height}`, role: "img", class: "tree" });
  drawing.append(svg("title", {}, `Dependency tree of ${words.length} words; the table below says the same`));
  const relationTexts = [];
  for (const arc of arcs) {
    const end = x(arc.dependent), y = base - FOOT - arc.level * STEP;
    const toward = Math.sign(x(arc.dependent) - x(arc.head));
    const group = svg("g", { class: differs(arc.dependent) ? "arc differs" : "arc" });
    let middle = end;
    if (arc.head < 0) group.append(svg("path", { d: `M${end} ${y}V${base - FOOT}` }));
    else {
      const start = x(arc.head) + toward * shift.get(arc);
      const r = toward * Math.min(RADIUS, Math.abs(end - start) / 2);
      middle = (start + end) / 2;
      group.append(svg("path", { d: `M${start} ${base - 2}V${y + RADIUS}Q${start} ${y} ${start + r} ${y}H${end - r}Q${end} ${y} ${end} ${y + RADIUS}V${base - FOOT}` }));
    }
    group.append(svg("path", { class: "tip", d: `M${end} ${base}l-4 -8h8z` }));
    drawing.append(group);
    relationTexts.push(svg("text", { x: middle, y: y + 4, class: differs(arc.dependent) ? "relation differs" : "relation" }, labels[arc.dependent]));
  }
  drawing.append(...relationTexts);  // above all arcs, so that none crosses them out
  words.forEach((word, place) => {
    drawing.append(svg("text", { x: x(place), y: base + 18, class: "form" }, word));
    if (tags) drawing.append(svg("text", { x: x(place), y: base + 36, class: "under" }, tags[place]));
  });
  return drawing;
}

/** Place words so that they, and the labels between neighbours, do not touch. */
function positions(words, tags, heads, labelWidths) {
  const halves = words.map((word, place) => {
    const root = heads[place] === 0 ? labelWidths[place] : 0;
    return Math.max(widthOf(word, 16), tags ? widthOf(tags[place], 12) : 0, root, 18) / 2;
  });
  const xs = [];
  words.forEach((_, place) => {
    if (!place) return xs.push(halves[0] + GAP / 2);
    let step = halves[place - 1] + GAP + halves[place];
    if (heads[place] === place) step = Math.max(step, labelWidths[place] + 22);
    if (heads[place - 1] === place + 1) step = Math.max(step, labelWidths[place - 1] + 22);
    return xs.push(xs[place - 1] + step);
  });
  xs.total = (xs.at(-1) ?? 0) + (halves.at(-1) ?? 0) + GAP / 2;
  return xs;
}

/** Give each arc a level above all shorter arcs that it spans or crosses. */
function levelled(heads) {
  const arcs = heads.map((head, dependent) => {
    const other = head ? head - 1 : dependent;
    return { head: head - 1, dependent, low: Math.min(other, dependent), high: Math.max(other, dependent) };
  });
  const done = [];
  const roots = arcs.filter((arc) => arc.head < 0);
  const others = arcs.filter((arc) => arc.head >= 0).sort((a, b) => a.high - a.low - b.high + b.low);
  for (const arc of [...others, ...roots]) {
    const below = done.filter((one) => (arc.head < 0
      ? one.low <= arc.low && arc.high <= one.high
      : one.low < arc.high && arc.low < one.high));
    arc.level = 1 + Math.max(0, ...below.map((one) => one.level));
    done.push(arc);
  }
  return done;
}

/** Let the arcs of a head leave it beside each other: the higher, the nearer to its middle. */
function shifts(arcs) {
  const shift = new Map();
  for (const head of new Set(arcs.map((arc) => arc.head))) {
    for (const left of [true, false]) {
      const side = arcs.filter((arc) => arc.head === head && arc.dependent < head === left);
      side.sort((a, b) => b.level - a.level).forEach((arc, rank) => shift.set(arc, 4 + 3 * Math.min(rank, 4)));
    }
  }
  return shift;
}
