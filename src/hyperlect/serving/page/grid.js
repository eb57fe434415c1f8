/** The grid of tasks × languages as a heat map, and what each kind of cell scores. */

import { el, hidden, kindOf, markOf, nameOf, scroller } from "./dom.js";

const isNumber = (value) => value !== null && value !== undefined;

/** The kinds with their meaning and the average score of each task. */
export function showKinds(grid) {
  const scored = grid.cells.some(({ score }) => isNumber(score));
  const average = (kind, task) => {
    const scores = grid.cells.filter((cell) => cell.kind === kind && cell.task === task.name && isNumber(cell.score)).map(({ score }) => score);
    if (!scores.length) return el("td", { class: "none" }, "–");
    const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
    return el("td", {}, mean.toFixed(1), el("small", {}, ` (${scores.length})`));
  };
  const rows = Object.keys(grid.kinds).map((kind) => el("tr", {},
    el("th", { scope: "row" }, kindOf(kind), el("small", {}, grid.kinds[kind])),
    scored ? grid.tasks.map((task) => average(kind, task)) : null));
  const head = el("thead", {}, el("tr", {},
    el("th", { scope: "col" }, scored ? "Average score (cells)" : "Kind of cell"),
    scored ? grid.tasks.map((task) => el("th", { scope: "col" }, task.name, el("small", {}, task.metric))) : null));
  return scroller("Kinds of cells", el("table", { class: "averages" }, head, el("tbody", {}, rows)));
}

/** The table of cells; `picked` gets the task and the language of one that is chosen. */
export function showCells(grid, languages, picked) {
  const byKey = new Map(grid.cells.map((cell) => [`${cell.task} ${cell.language}`, cell]));
  const ranges = new Map(grid.tasks.map(({ name }) => {
    const scores = grid.cells.filter(({ task, score }) => task === name && isNumber(score)).map(({ score }) => score);
    return [name, { low: Math.min(...scores), high: Math.max(...scores) }];
  }));
  const rows = grid.languages.map((code) => {
    const language = languages.get(code);
    return el("tr", {},
      el("th", { scope: "row" }, nameOf(language)),
      grid.tasks.map((task) => cellOf(byKey.get(`${task.name} ${code}`), task, language, ranges.get(task.name), picked)));
  });
  const table = el("table", { class: "heat", role: "grid", "aria-labelledby": "grid-title" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Language"),
      grid.tasks.map((task) => el("th", { scope: "col" }, task.name, el("small", {}, task.metric))))),
    el("tbody", {}, rows));
  roving(table);
  return el("div", { class: "scroll tall" }, table);
}

function cellOf(cell, task, language, { low, high }, picked) {
  if (!cell) return el("td", { class: "none" }, hidden("does not apply"));
  const known = isNumber(cell.score);
  const share = known ? (high > low ? (cell.score - low) / (high - low) : 1) : null;
  const estimate = known || !cell.expected ? null : `~${cell.expected.score.toFixed(0)}`;
  const name = `${task.name} in ${language.name}, ${cell.kind}: ${known ? cell.score.toFixed(1) : estimate ? `about ${cell.expected.score.toFixed(0)} expected` : "not measured"}`;
  const button = el("button", {
    type: "button", tabindex: "-1", "aria-label": name, title: name,
    "data-task": task.name, "data-language": language.code,
    onclick: () => picked(task.name, language.code),
  }, markOf(cell.kind), el("span", {}, known ? cell.score.toFixed(1) : estimate ?? "–"));
  return el("td", { class: known ? "scored" : null, "--share": known ? `${Math.round(100 * share)}%` : null }, button);
}

/** Let the arrow keys move between the cells, of which one is in the order of Tab. */
function roving(table) {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1).map((cell) => cell.querySelector("button")));
  const first = rows.flat().find(Boolean);
  if (first) first.tabIndex = 0;
  const focus = (button) => {
    table.querySelectorAll("button[tabindex='0']").forEach((one) => { one.tabIndex = -1; });
    button.tabIndex = 0;
    button.focus();
  };
  table.addEventListener("focusin", ({ target }) => target.tabIndex < 0 && focus(target));
  table.addEventListener("keydown", (event) => {
    let row = rows.findIndex((buttons) => buttons.includes(event.target));
    if (row < 0) return;
    let column = rows[row].indexOf(event.target);
    const last = rows[row].length - 1;
    const steps = {
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      PageDown: [10, 0], PageUp: [-10, 0],
      Home: [event.ctrlKey ? -row : 0, -column], End: [event.ctrlKey ? rows.length : 0, last - column],
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [down, across] = steps[event.key];
    do {
      row = Math.max(0, Math.min(rows.length - 1, row + down));
      column += across;
    } while (rows[row]?.[column] === null && column > 0 && column < last && across);
    if (rows[row]?.[column]) focus(rows[row][column]);
  });
}

/** Show which cells are chosen. */
export function markChosen(root, tasks, codes) {
  for (const button of root.querySelectorAll("button[data-task]")) {
    const chosen = tasks.includes(button.dataset.task) && codes.includes(button.dataset.language);
    button.toggleAttribute("data-chosen", chosen);
    button.closest("td").setAttribute("aria-selected", String(chosen));
  }
}
