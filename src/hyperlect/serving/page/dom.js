/** Small helpers for elements, languages and numbers. */

export const byId = (id) => document.getElementById(id);

/** Make an HTML element; children are nodes or texts, and null is left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const hidden = (text) => el("span", { class: "vh" }, text);

/** English in the midst of a text of another language or direction. */
export const english = (tag, attributes, ...children) =>
  el(tag, { lang: "en", dir: "ltr", ...attributes }, ...children);

/** The shortest tag of a language, which browsers know: "is" for "isl". */
export function tagOf(code) {
  try {
    return Intl.getCanonicalLocales(code)[0];
  } catch {
    return "und";
  }
}

/** The direction of a text: that of its letters, or of the language if they are mixed or none. */
export function directionOf(text, language) {
  const rightToLeft = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}\p{Script=Mandaic}\p{Script=Samaritan}\p{Script=Hanifi_Rohingya}\p{Script=Yezidi}]/u;
  const letters = text.match(/\p{L}/gu) ?? [];
  const share = letters.filter((letter) => rightToLeft.test(letter)).length / letters.length;
  return { 0: "ltr", 1: "rtl" }[share] ?? language.direction;
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** The sign of a kind, a disc as full as training was. */
export const markOf = (kind) =>
  el("i", { class: "mark", "data-kind": kind, "aria-hidden": "true" });
export const kindOf = (kind) => el("span", { class: "kind" }, markOf(kind), kind);

/** The names of a language: in English and, where it is another, in the language itself. */
export const nameOf = ({ name, autonym, code }) => [
  el("span", {}, name),
  autonym === name ? null : [" ", el("bdi", { lang: tagOf(code), class: "autonym" }, autonym)],
];

/** A part of the page that scrolls sideways, by keyboard too. */
export const scroller = (name, ...children) =>
  el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": name }, ...children);
