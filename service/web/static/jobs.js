// Keeps the jobs on this page as they are: their cards come from the server, whole.

import { cancelJob, Problem, startJob } from "./api.js";
import { showConnection } from "./connection.js";
import { Follower } from "./follow.js";
import { forget, remember, remembered } from "./memory.js";
import { makeElement, replaceElement } from "./swap.js";

const list = document.getElementById("jobs");
const news = document.getElementById("news");
const keeps = "keep" in list.dataset; // the list of this browser's jobs, or one job's own page
const startUrl = (task) => `/tasks/${encodeURIComponent(task)}`;

const cardOf = (id) => list.querySelector(`[data-id="${CSS.escape(id)}"]`);

let wanted = [];
const follower = new Follower({
  address: () => {
    const query = new URLSearchParams({ view: list.dataset.view });
    for (const id of wanted) query.append("id", id);
    return `${list.dataset.url}?${query}`;
  },
  onData: ({ jobs }) => jobs.forEach(show),
  onState: showConnection,
});

function place(card, id) {
  const order = remembered().map((job) => job.id);
  const rank = order.indexOf(id);
  const next = [...list.children].find((other) => order.indexOf(other.dataset.id) > rank);
  list.insertBefore(card, next ?? null);
}

function show(job) {
  let card = cardOf(job.id);
  if (card?.dataset.state === job.state && card.outerHTML === job.html) return;
  const before = card?.dataset.state;
  if (card) card = replaceElement(card, job.html);
  else {
    card = makeElement(job.html);
    place(card, job.id);
  }
  if (job.ready && before !== job.state && before !== undefined) news.textContent = job.summary;
  prepare(card);
}

// A job can be run again if its arguments are known, from the job itself or from this browser.
function argumentsOf(card) {
  if (card.dataset.arguments) return JSON.parse(card.dataset.arguments);
  return remembered().find((job) => job.id === card.dataset.id)?.values;
}

function prepare(card) {
  const again = card.querySelector("[data-action=again]");
  if (again) again.hidden = argumentsOf(card) === undefined;
}

function tellProblem(card, message) {
  let line = card.querySelector(".problem");
  if (!line) {
    line = document.createElement("p");
    line.className = "problem";
    line.setAttribute("role", "alert");
    card.append(line);
  }
  line.textContent = message;
}

async function act(button) {
  const card = button.closest("[data-id]");
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true"; // `disabled` would take the focus away
  try {
    if (button.dataset.action === "cancel") {
      await cancelJob(card.dataset.resultUrl);
    } else {
      const values = argumentsOf(card);
      const job = await startJob(startUrl(card.dataset.task), values);
      remember({ id: job.id, task: card.dataset.task, values });
      if (keeps) followAlso(job.id);
      else location.assign(job.result_url);
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tellProblem(card, error.message);
  } finally {
    button.ariaDisabled = null;
  }
}

export function followAlso(id) {
  const running = wanted.filter((other) => !cardOf(other) || !("ready" in cardOf(other).dataset));
  wanted = [id, ...running.filter((other) => other !== id)];
  follower.restart();
}

export function followAll() {
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button) act(button);
  });
  for (const card of list.children) {
    if (keeps && !remembered().some((job) => job.id === card.dataset.id)) {
      const values = card.dataset.arguments && JSON.parse(card.dataset.arguments);
      remember({ id: card.dataset.id, task: card.dataset.task, values });
    }
    prepare(card);
  }
  wanted = keeps ? remembered().map((job) => job.id) : [list.firstElementChild.dataset.id];
  if (keeps) dropExpired();
  if (keeps || !("ready" in list.firstElementChild.dataset)) follower.restart();
}

// Jobs whose results have expired are not known to anybody any more.
async function dropExpired() {
  const response = await fetch(follower.address(), { headers: { Accept: "application/json" } });
  if (!response.ok) return;
  const known = new Set((await response.json()).jobs.map((job) => job.id));
  const gone = new Set(wanted.filter((id) => !known.has(id)));
  forget(gone);
  for (const id of gone) cardOf(id)?.remove();
}
