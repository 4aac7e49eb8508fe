// Places the bars of jobs in the lanes of workers or tasks; those of jobs that run grow.

import { replaceContent } from "../js/swap.js";

const SHOWN = 60; // seconds
const EVERY = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 200; // milliseconds
const nameOf = ({ dataset, textContent }) =>
  [dataset.state, dataset.since, dataset.until, dataset.row, textContent].join();

export class Lanes {
  constructor(body) {
    this.body = body;
    this.ahead = 0; // of this clock, the server's: seconds
    setInterval(() => document.hidden || this.place(), EVERY);
  }

  setClock(at) {
    this.ahead = at - Date.now() / 1000;
    this.place();
  }

  // Bars that have not changed stay the same elements, or a click in this moment would be lost.
  show(html) {
    const before = new Map([...this.body.querySelectorAll(".bar")].map((bar) => [bar.dataset.id, bar]));
    replaceContent(this.body, html);
    for (const bar of this.body.querySelectorAll(".bar")) {
      const old = before.get(bar.dataset.id);
      if (old && bar !== document.activeElement && nameOf(old) === nameOf(bar)) bar.replaceWith(old);
    }
    this.place();
  }

  place() {
    const begin = Date.now() / 1000 + this.ahead - SHOWN;
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
