/** The page: choose tasks and languages, ask the service, show what it answers. */

import { DOES, showAnswer } from "./answers.js";
import { LanguageBox } from "./combobox.js";
import { byId, count, directionOf, el, nameOf } from "./dom.js";
import { copy, formatsOf } from "./formats.js";
import { markChosen, showCells, showKinds } from "./grid.js";

const PATIENCE = 120_000;
const TOKEN = "hyperlect token";

let grid, languages, first, second, running;

// --- the service

/** A failure in words for the reader. */
class Failure extends Error {}

async function call(path, options = {}) {
  const token = byId("token").value.trim();
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
    if (response.ok) {
      if (token) sessionStorage.setItem(TOKEN, token);
      return { content: await response.json(), response };
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const slow = error.name === "TimeoutError";
    throw new Failure(slow ? "The service took too long. Try a shorter text." : "The service does not answer. Check that it runs, then try again.");
  }
  throw new Failure(await reason(response));
}

async function reason(response) {
  const problem = await response.json().catch(() => ({}));
  const wait = response.headers.get("Retry-After");
  const again = wait ? `Try again in ${count(Number(wait), "second")}.` : "Try again later.";
  switch (response.status) {
    case 401:
      byId("token-field").hidden = false;
      return byId("token").value ? "The service does not accept this token. Check it and try again." : "This service needs a token. Enter it and try again.";
    case 413: return "The text is too long for one request.";
    case 429: return `The service is busy. ${again}`;
    case 503: return `The service has no room at the moment. ${again}`;
    case 504: return "The service took too long. Try a shorter text.";
    case 422: {
      const details = (problem.errors ?? []).map(({ detail }) => detail);
      return [...new Set(details)].join(" ") || problem.detail || "The service does not accept this request.";
    }
    default: return `The service failed: ${problem.detail ?? response.statusText}`;
  }
}

function say(status, error = "") {
  byId("status").textContent = status;
  byId("error").textContent = error;
}

// --- choices

const chosenTasks = () => grid.tasks.filter(({ name }) => byId(`task-${name}`).checked);
const chosenLanguages = () => [first.value, second.value].filter(Boolean);
const kindFor = (language) => language.kinds[(chosenTasks()[0] ?? grid.tasks[0])?.name];

function changed() {
  const tasks = chosenTasks();
  byId("pair-field").hidden = !tasks.some(({ type }) => type === "pairs");
  for (const id of ["text", "pair"]) byId(id).dir = directionOf(byId(id).value, first.value);
  markChosen(byId("cells"), tasks.map(({ name }) => name), chosenLanguages().map(({ code }) => code));
}

function pickCell(task, code) {
  for (const { name } of grid.tasks) byId(`task-${name}`).checked = name === task;
  first.set(languages.get(code));
  changed();
  byId("text").focus({ preventScroll: true });
  byId("form").scrollIntoView();
  if (byId("text").value.trim()) ask();
  else say(`${task} in ${languages.get(code).name} is chosen. Type a text.`);
}

// --- asking

const linesOf = (id) => byId(id).value.split("\n").map((line) => line.trim()).filter(Boolean);

/** Return the items of a request, with the task and the place of each of their predictions. */
function itemsOf(texts, pairs, tasks, chosen) {
  const items = [], places = [];
  chosen.forEach((language, at) => texts.forEach((text, place) => {
    const single = tasks.filter(({ type }) => type !== "pairs");
    const paired = tasks.filter(({ type }) => type === "pairs");
    for (const [group, more] of [[single, {}], [paired, { pair: pairs[place] }]]) {
      if (!group.length) continue;
      items.push({ text, ...more, task: group.map(({ name }) => name), language: language.code });
      places.push(group.map(({ name }) => ({ name, place, at })));
    }
  }));
  return { items, places };
}

async function ask() {
  const tasks = chosenTasks(), chosen = chosenLanguages();
  const texts = linesOf("text"), pairs = linesOf("pair");
  running?.abort();
  if (!texts.length) return refuse("text", "Type or paste a text first.");
  if (!tasks.length) return refuse(`task-${grid.tasks[0].name}`, "Choose a task first.");
  if (tasks.some(({ type }) => type === "pairs") && pairs.length !== texts.length) {
    return refuse("pair", `A task over pairs needs a second text for each text: ${texts.length}, not ${pairs.length}.`);
  }
  const { items, places } = itemsOf(texts, pairs, tasks, chosen);
  const asked = new AbortController();
  running = asked;
  say("The service works …");
  byId("go").setAttribute("aria-busy", "true");
  try {
    const { content, response } = await call("v1/predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ items }),
      signal: AbortSignal.any([asked.signal, AbortSignal.timeout(PATIENCE)]),
    });
    const predictions = Object.fromEntries(tasks.map(({ name }) => [name, texts.map(() => [])]));
    content.items.forEach((item, number) => item.predictions.forEach((prediction, order) => {
      const { name, place, at } = places[number][order];
      predictions[name][place][at] = prediction;
    }));
    show({ tasks, texts, languages: chosen, predictions, raw: content });
    const time = response.headers.get("X-Total-Time");
    const names = chosen.map(({ name }) => name).join(" and ");
    say(`${tasks.map(({ name }) => name).join(", ")} in ${names}: ${count(texts.length, "text")}${time ? ` in ${time} ms` : ""}.`);
  } catch (error) {
    if (asked.signal.aborted) return;
    fail(error);
  } finally {
    if (running === asked) byId("go").removeAttribute("aria-busy");
  }
}

function refuse(id, sentence) {
  say("", sentence);
  byId(id).focus();
}

function fail(error) {
  if (!(error instanceof Failure)) console.error(error);
  say("", error instanceof Failure ? error.message : `The page failed: ${error.message}`);
}

function show(answer) {
  byId("answer").hidden = byId("to-answer").hidden = false;
  const names = answer.languages.map((language, place) => [place ? " and " : "in ", nameOf(language)]);
  byId("answer-languages").replaceChildren(...names.flat(Infinity).filter(Boolean));
  byId("answers").replaceChildren(...showAnswer(answer, grid));
  const buttons = Object.entries(formatsOf(answer)).map(([name, format]) => el("button", {
    type: "button",
    onclick: () => copy(format(answer)).then(() => say(`Copied as ${name}.`), fail),
  }, `Copy ${name}`));
  byId("copies").replaceChildren(...buttons);
}

// --- the beginning

async function start() {
  try {
    const [answer, known] = await Promise.all([call("v1/grid"), call("v1/languages?every=true")]);
    grid = answer.content;
    const trained = new Set(grid.languages);
    languages = new Map(known.content.languages.map((one) => [one.code, { ...one, trained: trained.has(one.code) }]));
    say("");
  } catch (error) {
    return fail(error);
  }
  document.title = `${grid.name} – hyperlect`;
  byId("about").replaceChildren(el("b", {}, grid.name), ` ${grid.method} on ${grid.backbone}, ${count(grid.tasks.length, "task")}, ${count(grid.languages.length, "language")}`);
  const choices = grid.tasks.map((task, place) => el("label", {},
    el("input", { type: "checkbox", id: `task-${task.name}`, checked: place === 0, onchange: changed }),
    el("span", {}, task.name, " ", el("small", {}, DOES[task.type] ?? task.type))));
  byId("tasks").append(...choices);
  const options = { languages: [...languages.values()], kindOf: kindFor, changed };
  first = new LanguageBox("language", options);
  second = new LanguageBox("second", { ...options, optional: true });
  first.set(firstLanguage());
  byId("kinds").replaceChildren(showKinds(grid));
  byId("cells").replaceChildren(showCells(grid, languages, pickCell));
  byId("grid").hidden = false;
  changed();
}

/** The reader's language if the first task was trained in it, else one in which it was. */
function firstLanguage() {
  const trained = grid.cells.filter(({ task, kind }) => kind === "supervised" && task === grid.tasks[0]?.name);
  const codes = trained.length ? trained.map(({ language }) => language) : [...languages.keys()];
  return languages.get(codes.includes("eng") ? "eng" : codes[0]);
}

byId("token").value = sessionStorage.getItem(TOKEN) ?? "";
byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!grid) await start();
  if (grid) ask();
});
for (const id of ["text", "pair"]) {
  byId(id).addEventListener("input", () => grid && changed());
  byId(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      byId("form").requestSubmit();
    }
  });
}
start();
