/** Write an answer as CoNLL-U, CoNLL or JSON. */

const UPOS = new Set("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split(" "));

/** The sentences of an answer: for each text and language, the predictions of all tasks. */
function* sentences(answer) {
  for (const place of answer.texts.keys()) {
    for (const at of answer.languages.keys()) {
      yield answer.tasks.map((task) => ({ ...answer.predictions[task.name][place][at], task }));
    }
  }
}

const overWords = (predictions) => predictions.filter((prediction) => prediction.words?.length);

/** One block a sentence, with trees, tags, and other labels of words under MISC. */
export function conllu(answer) {
  const blocks = [];
  for (const all of sentences(answer)) {
    const words = overWords(all);
    const lines = [`# text = ${all[0].text.replace(/\s+/g, " ")}`, `# language = ${all[0].language}`];
    for (const { task, label } of all) if (label) lines.push(`# ${task.name} = ${label}`);
    const tree = words.find(({ heads }) => heads);
    const upos = words.find(({ task }) => task.type === "tagging" && task.labels.every((label) => UPOS.has(label)));
    const first = words[0];
    first?.words.forEach((form, place) => {
      const misc = words
        .filter((one) => one !== tree && one !== upos)
        .map(({ task, labels }) => `${task.name}=${labels[place]}`);
      if (first.offsets[place + 1]?.[0] === first.offsets[place][1]) misc.push("SpaceAfter=No");
      lines.push([
        place + 1, form, "_", upos?.labels[place] ?? "_", "_", "_",
        tree?.heads[place] ?? "_", tree?.labels[place] ?? "_", "_", misc.join("|") || "_",
      ].join("\t"));
    });
    if (first) blocks.push(lines.join("\n"));
  }
  return `${blocks.join("\n\n")}\n\n`;
}

/** One line a word: the word, then its label for each task of tags or entities. */
export function conll(answer) {
  const blocks = [];
  for (const all of sentences(answer)) {
    const words = overWords(all).filter(({ heads }) => !heads);
    if (!words.length) continue;
    const row = (form, place) => [form, ...words.map(({ labels }) => labels[place])].join("\t");
    blocks.push(words[0].words.map(row).join("\n"));
  }
  return `${blocks.join("\n\n")}\n\n`;
}

export const json = (answer) => `${JSON.stringify(answer.raw, null, 2)}\n`;

/** The formats that an answer can be written in, by name. */
export function formatsOf(answer) {
  const types = answer.tasks.map(({ type }) => type);
  const tags = types.some((type) => type === "tagging" || type === "spans");
  return {
    ...(tags || types.includes("parsing") ? { "CoNLL-U": conllu } : {}),
    ...(tags ? { CoNLL: conll } : {}),
    JSON: json,
  };
}

/** Put a text on the clipboard, in pages without encryption too. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  if (!copied) throw new Error("The browser does not let this page copy.");
}
