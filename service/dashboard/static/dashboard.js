// Keeps the dashboard as it is now: its parts come from the server, whole, when they change.

import { Charts } from "./charts.js";
import { showConnection } from "../../static/js/connection.js";
import { Follower } from "../../static/js/follow.js";
import { replaceContent } from "../../static/js/swap.js";
import { localTimes } from "../../static/js/times.js";

const TYPING = 200; // milliseconds without a key until a search begins

const query = new URLSearchParams(location.search);
const form = document.querySelector(".filter");
const charts = new Charts();
const follower = new Follower({
  address: () => `${document.getElementById("charts").dataset.updates}?${query}`,
  waits: false,
  onState: showConnection,
  onData: ({ fragments, points }) => {
    for (const [name, html] of Object.entries(fragments)) {
      const element = document.querySelector(`[data-fragment="${name}"]`);
      if (element) replaceContent(element, html);
    }
    charts.add(points);
  },
});

function choose(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  showOrder();
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
  const link = event.target.closest("a[data-sort], a[data-page]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.sort) choose({ sort: link.dataset.sort, order: link.dataset.order, page: "" });
  else choose({ page: link.dataset.page });
});

localTimes();
follower.restart();
