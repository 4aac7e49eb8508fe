// Puts new HTML from our server in the place of old, without taking the focus from the reader.

import { localTimes } from "./times.js";

// What has the focus, in a way that finds it again in the new HTML.
function focusedIn(element) {
  const active = document.activeElement;
  if (!active || !element.contains(active)) return null;
  if (active.id) return `#${CSS.escape(active.id)}`;
  if (active.dataset.action) return "[data-action]";
  const href = active.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : null;
}

function scrolledIn(element) {
  return [...element.querySelectorAll(".scroll, pre")].map((box) => [box.scrollLeft, box.scrollTop]);
}

const foldsIn = (element) => [...element.querySelectorAll("details")];

function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html; // our server escapes every value in it
  localTimes(template.content);
  return template.content;
}

function keepPlace(before, change) {
  const selector = focusedIn(before);
  const scrolled = scrolledIn(before);
  const open = foldsIn(before).filter((fold) => fold.open).map((fold) => fold.id);
  const after = change();
  for (const fold of foldsIn(after)) if (fold.id && open.includes(fold.id)) fold.open = true;
  after.querySelectorAll(".scroll, pre").forEach((box, index) => {
    if (scrolled[index]) [box.scrollLeft, box.scrollTop] = scrolled[index];
  });
  if (selector) after.querySelector(selector)?.focus({ preventScroll: true });
  return after;
}

// Replace an element by HTML, or by another element; returns the new one.
export function replaceElement(element, html) {
  return keepPlace(element, () => {
    const fresh = typeof html === "string" ? fragment(html).firstElementChild : html;
    element.replaceWith(fresh);
    return fresh;
  });
}

// Replace what is inside an element.
export function replaceContent(element, html) {
  keepPlace(element, () => {
    element.replaceChildren(fragment(html));
    return element;
  });
}

export function appendHtml(element, html) {
  element.append(fragment(html.trim()));
}

export function makeElement(html) {
  return fragment(html).firstElementChild;
}

export function makeRows(html) {
  return [...fragment(html).querySelectorAll("tr[data-id]")];
}

export function makeText(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
