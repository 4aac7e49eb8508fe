// Places the bars of jobs in the lanes of workers or tasks; those of jobs that run grow.

import { replaceContent } from "../js/swap.js";
import { now } from "../js/times.js";

const SHOWN = 60; // seconds
const EVERY = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 200; // milliseconds
const CLICKED = ".bar, h3 > a";
const keyOf = ({ dataset, href }) => dataset.id ?? href;
const nameOf = ({ dataset, textContent }) =>
  [dataset.state, dataset.since, dataset.until, dataset.row, textContent].join();

export class Lanes {
  constructor(body) {
    this.body = body;
    setInterval(() => document.hidden || this.place(), EVERY);
  }

  // What has not changed stays the same element, or a click in this moment would be lost.
  show(html) {
    const before = new Map([...this.body.querySelectorAll(CLICKED)].map((link) => [keyOf(link), link]));
    replaceContent(this.body, html);
    for (const link of this.body.querySelectorAll(CLICKED)) {
      const old = before.get(keyOf(link));
      if (old && link !== document.activeElement && nameOf(old) === nameOf(link)) link.replaceWith(old);
    }
    this.place();
  }

  place() {
    const begin = now() - SHOWN;
    const share = (at) => Math.min(1, Math.max(0, (at - begin) / SHOWN)) * 100;
    for (const { style, dataset } of this.body.querySelectorAll(".bar")) {
      const from = share(Number(dataset.since));
      style.left = `${from}%`;
      style.width = `${dataset.until ? share(Number(dataset.until)) - from : 100 - from}%`;
      style.setProperty("--row", dataset.row);
    }
    for (const { style, dataset } of this.body.querySelectorAll(".lane")) {
      style.setProperty("--rows", dataset.rows);
    }
  }
}
