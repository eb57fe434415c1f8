/** Show predictions: tags and entities in the text, trees, labels of texts, and differences. */

import { count, directionOf, el, english, hidden, kindOf, nameOf, percent, scroller, tagOf } from "./dom.js";
import { tree } from "./tree.js";

const HUES = 8, MOST_LABELS = 5;

/** Hues by what words do, for the tags of Universal Dependencies. */
const UPOS_HUES = {
  NOUN: 1, PROPN: 8, PRON: 4, VERB: 2, AUX: 2, ADJ: 3, ADV: 7, NUM: 3, DET: 4, ADP: 5, PART: 5,
  CCONJ: 5, SCONJ: 5, INTJ: 7, PUNCT: 0, SYM: 0, X: 0, _: 0,
};

export const DOES = {
  tagging: "tags of words", spans: "entities", parsing: "dependency trees",
  classification: "labels of texts", pairs: "labels of pairs of texts",
};

/** The hue of a label, 0 for none: of its own while there are enough. */
function hueOf(task, label) {
  const types = [...new Set(task.labels.map((one) => one.replace(/^[BI]-/, "")))].filter((one) => one !== "O");
  if (types.every((type) => type in UPOS_HUES)) return UPOS_HUES[label] ?? 0;
  return 1 + (types.indexOf(label) % HUES);
}

/** What is compared of a prediction: one entry for each word, or one for the text. */
const outcome = ({ label, labels, heads }) =>
  labels ? labels.map((one, place) => (heads ? `${heads[place]} ${one}` : one)) : [label];

/** A test of whether the other language's prediction differs at a place. */
function differences(prediction, other) {
  if (!other) return () => false;
  const [mine, others] = [outcome(prediction), outcome(other)];
  return (place) => mine[place] !== others[place];
}

/** Show an answer, one block for each task. */
export function showAnswer(answer, grid) {
  return answer.tasks.map((task) => {
    const columns = answer.languages.length;
    const rows = answer.texts.map((_, place) => {
      const predictions = answer.predictions[task.name][place];
      const bodies = predictions.map((prediction, at) =>
        el("div", { class: "body" }, columns > 1 ? el("p", { class: "whose" }, answer.languages[at].name) : null, body(task, prediction, columns > 1 ? predictions[1 - at] : null, answer, place, at)));
      return el("div", { class: "row" }, bodies);
    });
    const heads = answer.languages.map((language, at) =>
      head(task, columns > 1 ? nameOf(language) : null, answer.predictions[task.name][0][at], grid));
    return el(
      "article", { class: columns > 1 ? "block two" : "block", "data-task": task.name },
      el("div", { class: "top" },
        el("h3", {}, task.name, " ", el("small", {}, DOES[task.type] ?? task.type)),
        columns > 1 ? summary(answer, task) : heads[0]),
      columns > 1 ? el("div", { class: "row heads" }, heads) : null,
      rows,
    );
  });
}

/** Say how much two languages' predictions differ. */
function summary(answer, task) {
  let total = 0, different = 0;
  for (const [prediction, other] of answer.predictions[task.name]) {
    const differs = differences(prediction, other);
    const places = outcome(prediction);
    total += places.length;
    different += places.filter((_, place) => differs(place)).length;
  }
  const noun = task.type === "classification" || task.type === "pairs" ? "text" : "word";
  const verb = different === 1 ? "differs" : "differ";
  return el("span", { class: different ? "sum some" : "sum" }, different ? `${different} of ${count(total, noun)} ${verb}` : "no differences");
}

/** Say which cell a column is of, and how far to trust it. */
function head(task, name, prediction, grid) {
  const cell = grid.cells.find((one) => one.task === task.name && one.language === prediction.language);
  const { expected } = prediction;
  const facts = [kindOf(prediction.kind)];
  if (prediction.language_source !== "not used") facts.push(el("span", {}, `language: ${prediction.language_source}`));
  if (cell?.score !== undefined && cell.score !== null) {
    facts.push(el("span", {}, el("b", {}, cell.score.toFixed(1)), ` ${task.metric} on test data`));
  }
  if (expected) {
    const { metric, score, low, high, source } = expected;
    const why = source === "request" ? "from these texts" : "from the evaluation";
    facts.push(el("span", {}, "expect ", el("b", {}, score.toFixed(0)), ` ${metric} (${low.toFixed(0)}–${high.toFixed(0)}), ${why}`));
  }
  return el("div", {}, name && el("h4", {}, name), el("p", { class: "facts" }, facts));
}

function body(task, prediction, other, answer, place, at) {
  const language = answer.languages[at];
  const frame = {
    lang: tagOf(prediction.language),
    dir: directionOf(prediction.text, language),
  };
  const differs = differences(prediction, other);
  const elsewhere = other ? answer.languages[1 - at].name : "";
  if (prediction.label !== undefined) {
    const text = answer.texts.length > 1 ? el("p", { ...frame, class: "source" }, prediction.text) : null;
    return [text, labelled(prediction, differs(0))];
  }
  if (!prediction.words.length) return el("p", { class: "hint" }, "There are no words.");
  const shown =
    task.type === "parsing" ? parsed(prediction, differs, frame, answer, place, at)
    : task.type === "spans" ? entities(task, prediction, other, differs, frame, elsewhere)
    : tagged(task, prediction, other, differs, frame, elsewhere);
  return [shown, asTable(prediction, differs)];
}

/** Mark a label that differs, by a sign and for screen readers by words. */
const difference = (differs, what) =>
  differs ? [english("b", { class: "not", "aria-hidden": "true" }, "≠"), english("span", { class: "vh" }, ` (${what})`)] : [];

function tagged(task, prediction, other, differs, frame, elsewhere) {
  const items = prediction.words.map((word, place) => {
    const label = prediction.labels[place];
    const confidence = prediction.confidences[place];
    return el("li", { class: differs(place) ? "word differs" : "word", "data-hue": hueOf(task, label), title: `${label}, ${percent(confidence)}` },
      el("bdi", {}, word), " ",
      english("span", { class: "tag" }, difference(differs(place), `${elsewhere}: ${other?.labels[place]}`), label),
      el("i", { class: "bar", "aria-hidden": "true", "--share": `${100 * confidence}%` }));
  });
  return el("ul", { ...frame, class: "words" }, items);
}

/** The text with its entities marked; words that are one only in the other language, too. */
function entities(task, prediction, other, differs, frame, elsewhere) {
  const letters = [...prediction.text];
  const text = (from, to) => letters.slice(from, to).join("");
  const pieces = [];
  let done = 0;
  const byStart = new Map(prediction.spans.map((span) => [span.start, span]));
  for (let place = 0; place < prediction.words.length;) {
    const span = byStart.get(place);
    const end = span ? span.end : place + 1;
    const [from, to] = [prediction.offsets[place][0], prediction.offsets[end - 1][1]];
    pieces.push(text(done, from));
    done = to;
    const places = Array.from({ length: end - place }, (_, step) => place + step);
    const different = places.some(differs);
    const others = [...new Set(places.map((at) => other?.labels[at] === "O" ? "no entity" : other?.labels[at].slice(2)))].join(", ");
    if (span) {
      pieces.push(el("mark", { class: different ? "entity differs" : "entity", "data-hue": hueOf(task, span.label), title: `${span.label}, ${percent(span.confidence)}` },
        el("bdi", {}, text(from, to)), "\u00a0",
        english("span", { class: "tag" }, difference(different, `${elsewhere}: ${others === span.label ? "other words" : others}`), span.label, " ", el("small", {}, percent(span.confidence)))));
    } else if (different) {
      pieces.push(el("span", { class: "missed" }, text(from, to), difference(true, `${elsewhere}: ${others}`)));
    } else pieces.push(text(from, to));
    place = end;
  }
  pieces.push(text(done));
  const none = prediction.spans.length ? null : el("p", { class: "hint" }, "No entities.");
  return el("div", {}, el("p", { ...frame, class: "running" }, pieces), none);
}

function parsed(prediction, differs, frame, answer, place, at) {
  const tagging = answer.tasks.find(({ type }) => type === "tagging");
  const tags = tagging && answer.predictions[tagging.name][place][at].labels;
  const rightToLeft = frame.dir === "rtl";
  const drawing = tree({
    words: prediction.words, heads: prediction.heads, relations: prediction.labels, tags, differs, rightToLeft,
  });
  const shown = scroller("Dependency tree", drawing);
  shown.lang = frame.lang;
  shown.dir = frame.dir;
  return shown;
}

function labelled(prediction, differs) {
  const scores = Object.entries(prediction.scores).sort(([, a], [, b]) => b - a);
  const row = ([label, score]) => {
    const best = label === prediction.label;
    return el("tr", { class: best ? "best" : null },
      el("th", { scope: "row" }, best && differs ? [el("b", { class: "not", "aria-hidden": "true" }, "≠"), "\u00a0", hidden("differs: ")] : null, label),
      el("td", { class: "meter", "aria-hidden": "true" }, el("i", { "--share": `${100 * score}%` })),
      el("td", {}, percent(score)));
  };
  const table = (rows, name) => el("table", { class: "labels", "aria-label": name }, el("tbody", {}, rows.map(row)));
  const rest = scores.slice(MOST_LABELS);
  return [
    table(scores.slice(0, MOST_LABELS), "Labels with confidence"),
    rest.length ? el("details", {}, el("summary", {}, count(rest.length, "more label")), table(rest, "Other labels with confidence")) : null,
  ];
}

/** The same for screen readers and for exact numbers; built when it is opened. */
function asTable(prediction, differs) {
  const { words, labels, heads, confidences } = prediction;
  const details = el("details", {}, el("summary", {}, "Words as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const names = ["#", "word", heads ? "relation" : "label", ...(heads ? ["head"] : []), "confidence"];
    const rows = words.map((word, place) => {
      const head = heads && (heads[place] ? `${heads[place]} ${words[heads[place] - 1]}` : "root");
      return el("tr", { class: differs(place) ? "differs" : null },
        el("td", {}, place + 1), el("th", { scope: "row" }, el("bdi", { lang: tagOf(prediction.language) }, word)),
        el("td", {}, differs(place) ? el("b", { class: "not" }, "≠") : null, labels[place]), heads ? el("td", {}, el("bdi", {}, head)) : null,
        el("td", {}, percent(confidences[place])));
    });
    details.append(scroller("Words", el("table", { class: "data" },
      el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows))));
  });
  return details;
}
