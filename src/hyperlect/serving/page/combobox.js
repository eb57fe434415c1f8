/** Choose a language: an editable combobox with a list, after the ARIA authoring practices. */

import { byId, el, hidden, markOf, nameOf, tagOf } from "./dom.js";

const MOST = 100;
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim();
const showOf = (language) =>
  language.name === language.code ? language.code : `${language.name} (${language.code})`;

export class LanguageBox {
  /**
   * @param id of the input; its list has the id with "-list".
   * @param languages all that can be chosen; `trained` are those of the run.
   * @param optional whether none may be chosen.
   * @param kindOf the kind of a language's cell, for its sign.
   * @param changed is called after each choice.
   */
  constructor(id, { languages, optional = false, kindOf, changed }) {
    this.input = byId(id);
    this.list = byId(`${id}-list`);
    this.entries = languages.map((language) => ({
      language,
      codes: [language.code, tagOf(language.code).toLowerCase()],
      names: [fold(language.name), fold(language.autonym)],
    }));
    Object.assign(this, { optional, kindOf, changed, value: null, active: -1, options: [] });
    this.input.addEventListener("input", () => this.open(this.input.value));
    this.input.addEventListener("click", () => this.list.hidden && this.open(""));
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("blur", () => this.settle());
    this.input.addEventListener("keydown", (event) => this.key(event));
    // A press on the list must not take the focus from the input.
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.pick(this.options[[...this.list.children].indexOf(option)]);
    });
  }

  set(language) {
    this.value = language;
    this.input.value = language ? showOf(language) : "";
    this.close();
  }

  pick(language) {
    this.set(language);
    this.changed();
  }

  /** Return the languages that a query fits: whole code or name, beginning, then anywhere. */
  matches(query) {
    const folded = fold(query);
    const rank = ({ codes, names }) => {
      if (codes.includes(folded) || names.includes(folded)) return 0;
      if (names.some((name) => name.startsWith(folded))) return 1;
      if (codes.some((code) => code.startsWith(folded))) return 2;
      return names.some((name) => name.includes(folded)) ? 3 : 4;
    };
    return this.entries
      .map((entry) => ({ entry, rank: folded ? rank(entry) : 0 }))
      .filter(({ rank }) => rank < 4)
      .sort((a, b) => a.rank - b.rank || b.entry.language.trained - a.entry.language.trained)
      .map(({ entry, rank }) => ({ language: entry.language, whole: rank === 0 }));
  }

  open(query) {
    const matches = this.matches(query);
    this.options = matches.slice(0, MOST).map(({ language }) => language);
    const typed = query.trim();
    if (typed && !matches.some(({ whole }) => whole)) this.options.push(unlisted(typed));
    if (!typed && this.optional) this.options.unshift(null);
    this.list.replaceChildren(...this.options.map((language, place) => this.option(language, place)));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    const chosen = this.options.findIndex((language) => language?.code === this.value?.code);
    this.activate(typed ? 0 : chosen);
  }

  option(language, place) {
    const attributes = {
      role: "option",
      id: `${this.list.id}-${place}`,
      class: language?.code === this.value?.code ? "chosen" : null,
    };
    if (!language) return el("li", attributes, "no other language");
    if (language.asTyped) return el("li", attributes, `Use “${language.code}” as it is`);
    const kind = this.kindOf(language);
    return el(
      "li", attributes,
      kind ? markOf(kind) : null,
      nameOf(language),
      el("code", {}, language.code),
      language.trained ? null : hidden(" not of this model"),
    );
  }

  activate(place) {
    this.active = place;
    const options = [...this.list.children];
    options.forEach((option, at) => option.setAttribute("aria-selected", String(at === place)));
    if (options[place]) {
      this.input.setAttribute("aria-activedescendant", options[place].id);
      options[place].scrollIntoView({ block: "nearest" });
    } else this.input.removeAttribute("aria-activedescendant");
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.active = -1;
  }

  key(event) {
    const closed = this.list.hidden;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (closed) this.open("");
      const last = this.options.length - 1;
      if (event.altKey) return;
      if (closed && this.active >= 0) return;
      const next = this.active + step;
      this.activate(next > last ? 0 : next < 0 ? last : next);
    } else if (event.key === "Enter" && !closed && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      if (this.active >= 0) this.pick(this.options[this.active]);
      else this.close();
    } else if (event.key === "Escape" && !closed) {
      event.preventDefault();
      this.set(this.value);
    }
  }

  /** On leaving: take a typed language that fits wholly, else what was chosen before. */
  settle() {
    const typed = this.input.value.trim();
    if (this.value && typed === showOf(this.value)) return this.close();
    if (!typed) return this.optional && this.value ? this.pick(null) : this.set(this.value);
    const [match] = this.matches(typed);
    if (match?.whole) return this.pick(match.language);
    return this.list.hidden ? this.set(this.value) : this.pick(this.options[Math.max(this.active, 0)]);
  }
}

/** A language that the list lacks; the service knows thousands more by their codes. */
const unlisted = (typed) => ({
  code: typed, name: typed, autonym: typed, direction: "ltr", asTyped: true, trained: false, kinds: {},
});
