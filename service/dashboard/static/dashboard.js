// Keeps the dashboard as it is now: its parts come from the server, whole, when they change.

import { Charts } from "./charts.js";
import { Lanes } from "./lanes.js";
import { Rows } from "./rows.js";
import { showConnection } from "../js/connection.js";
import { Follower } from "../js/follow.js";
import { replaceContent } from "../js/swap.js";
import { localTimes, setClock } from "../js/times.js";

const TYPING = 200; // milliseconds without a key until a search begins

let query = new URLSearchParams(location.search);
const form = document.querySelector(".filter");
const charts = new Charts();
const lanes = new Lanes(document.querySelector("[data-fragment=lanes]"));
const rows = new Rows(document.querySelector("[data-fragment=jobs]"), document.querySelector(".newer"));
const follower = new Follower({
  address: () => `${document.getElementById("charts").dataset.updates}?${query}`,
  waits: false,
  onState: showConnection,
  onData: ({ at, fragments, chart }) => {
    setClock(at);
    lanes.place();
    for (const [name, html] of Object.entries(fragments)) {
      const element = document.querySelector(`[data-fragment="${name}"]`);
      if (name === "jobs") rows.show(html);
      else if (name === "lanes") lanes.show(html);
      else if (element) replaceContent(element, html);
    }
    charts.add(chart, query.get("span") ?? "hour");
  },
});

function choose(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  ask();
}

function ask() {
  for (const name of ["done", "number"]) query.delete(name);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  showOrder();
  rows.expectOthers();
  follower.restart();
}

function showOrder() {
  const sort = query.get("sort") ?? "queued";
  const falling = query.get("order") !== "asc";
  for (const link of document.querySelectorAll("[data-sort]")) {
    const head = link.closest("th");
    if (link.dataset.sort === sort) head.ariaSort = falling ? "descending" : "ascending";
    else head.removeAttribute("aria-sort");
    link.dataset.order = link.dataset.sort === sort && falling ? "asc" : "desc";
  }
  form.elements.sort.value = sort;
  form.elements.order.value = falling ? "desc" : "asc";
}

function onFilter() {
  choose({ q: form.elements.q.value.trim(), state: form.elements.state.value, page: "" });
}

let typing;
form.elements.q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(onFilter, TYPING);
});
form.elements.state.addEventListener("change", onFilter);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  onFilter();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-sort], a[data-page], a[data-set]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.sort) {
    choose({ sort: link.dataset.sort, order: link.dataset.order, page: "" });
    return;
  }
  const before = query;
  query = new URLSearchParams(link.search);
  for (const name of ["span", "lanes"]) {
    if (before.has(name) && link.dataset.set !== name) query.set(name, before.get(name));
  }
  form.elements.q.value = query.get("q") ?? "";
  form.elements.state.value = query.get("state") ?? "";
  ask();
  const stays = link.closest(".spans") || form.parentElement.contains(link);
  if (!stays) document.getElementById("jobs-title").scrollIntoView();
});

localTimes();
follower.restart();
