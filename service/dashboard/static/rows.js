// Keeps the rows of jobs still while somebody reads them: new ones are announced, and come when asked for.

import { makeRows, replaceContent, replaceElement } from "../js/swap.js";
import { localTimes } from "../js/times.js";

const MOST = 50; // rows of a page

export class Rows {
  constructor(body, announcement) {
    this.body = body;
    this.announcement = announcement;
    this.button = announcement.querySelector("button");
    this.html = null;
    this.shownAsAsked = false; // whether what comes next is what the reader has just asked for
    this.button.addEventListener("click", () => this.showAll());
    addEventListener("scroll", () => this.isHeld() || this.announcement.hidden || this.showAll(), { passive: true });
  }

  // The reader has asked for other rows.
  expectOthers() {
    this.shownAsAsked = true;
  }

  show(html) {
    this.html = html;
    if (this.shownAsAsked || !this.isHeld()) this.showAll();
    else this.update();
    this.shownAsAsked = false;
  }

  showAll() {
    const focused = document.activeElement === this.button;
    this.announcement.hidden = true;
    replaceContent(this.body, this.html);
    if (focused) this.body.querySelector("a")?.focus({ preventScroll: true });
  }

  // Somebody points at a row, has the focus in one, or has scrolled on from the first one.
  isHeld() {
    if (!this.body.querySelector("[data-id]")) return false;
    const isInUse = this.body.matches(":hover") || this.body.contains(document.activeElement);
    return isInUse || this.body.getBoundingClientRect().top < 0;
  }

  // The rows that are there stay where they are, with what is new of them.
  update() {
    localTimes(this.body); // as in the new ones, with which they are compared
    const before = new Map([...this.body.querySelectorAll("[data-id]")].map((row) => [row.dataset.id, row]));
    let added = 0;
    for (const row of makeRows(this.html)) {
      const old = before.get(row.dataset.id);
      if (!old) added += 1;
      else if (old.outerHTML !== row.outerHTML) replaceElement(old, row);
    }
    this.announcement.hidden = added === 0;
    const words = `${added}${added === MOST ? "+" : ""} new ↑`;
    if (this.button.textContent !== words) this.button.textContent = words;
  }
}
