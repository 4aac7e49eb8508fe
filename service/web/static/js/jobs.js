// Keeps the jobs on this page up to date: their cards come from the server, whole.

import { cancelJob, Problem, startJob } from "./api.js";
import { showConnection } from "./connection.js";
import { isExact, TOO_LARGE } from "./exact.js";
import { Follower } from "./follow.js";
import { forget, remember, remembered } from "./memory.js";
import { makeElement, makeText, replaceElement } from "./swap.js";

const list = document.getElementById("jobs");
const announcements = document.getElementById("announcements");
const keeps = "keep" in list.dataset; // the list of this browser's jobs, or one job's own page
const startUrl = (task) => `${list.dataset.tasks}/${encodeURIComponent(task)}`;

const cardOf = (id) => list.querySelector(`[data-id="${CSS.escape(id)}"]`);

// The ids of the jobs that this page follows.
function followed() {
  if (keeps) return remembered().map((job) => job.id);
  const { id, expired } = list.firstElementChild.dataset;
  return expired === undefined ? [id] : [];
}

const follower = new Follower({
  address: () => {
    const ids = followed();
    if (ids.length === 0) return null;
    const query = new URLSearchParams({ view: list.dataset.view });
    for (const id of ids) query.append("id", id);
    for (const link of new URLSearchParams(location.search).getAll("t")) query.append("t", link);
    return `${list.dataset.url}?${query}`;
  },
  onData: ({ jobs, expired }) => {
    jobs.forEach(show);
    expired.forEach(expire);
  },
  onState: showConnection,
});

function insertInOrder(card, id) {
  const order = remembered().map((job) => job.id);
  const rankOf = (other) => (order.includes(other) ? order.indexOf(other) : order.length); // expired
  const next = [...list.children].find((other) => rankOf(other.dataset.id) > rankOf(id));
  list.insertBefore(card, next ?? null);
}

function show(job) {
  let card = cardOf(job.id);
  if (card?.dataset.state === job.state && card.outerHTML === job.html) return;
  const before = card?.dataset.state;
  if (card) card = replaceElement(card, job.html);
  else {
    card = makeElement(job.html);
    insertInOrder(card, job.id);
  }
  // A job's own page has it in its title, alone or within that of the app.
  if (!keeps && before) document.title = document.title.replace(`${before} · `, `${job.state} · `);
  if (job.ready && before !== job.state && before !== undefined) announcements.textContent = job.summary;
  prepare(card);
}

// Redis has forgotten the job: what this page shows of it stays, and says so.
function expire({ id, words }) {
  const card = cardOf(id);
  const values = card && argumentsOf(card);
  forget(id);
  if (!card || "expired" in card.dataset) return;
  if (values) card.dataset.arguments = JSON.stringify(values);
  card.dataset.expired = "";
  card.dataset.ready = "";
  for (const stale of card.querySelectorAll("[data-action=cancel], .progress, .now, .links, a.id")) {
    if (stale.matches("a.id")) stale.replaceWith(makeText("code", "id", stale.textContent));
    else stale.remove();
  }
  const state = card.querySelector(".state");
  state.dataset.state = state.textContent = "EXPIRED";
  card.append(makeText("p", "hint", words));
  announcements.textContent = `${card.dataset.task}: ${words}`;
  if (followed().length === 0) follower.stop();
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

function showProblem(card, message) {
  let line = card.querySelector(".problem");
  if (!line) {
    line = makeText("p", "problem", "");
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
      if (!isExact(values)) throw new Problem(TOO_LARGE);
      const job = await startJob(startUrl(card.dataset.task), values);
      remember({ id: job.id, task: card.dataset.task, values });
      if (keeps) follower.restart();
      else location.assign(job.result_url);
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showProblem(card, error.message);
  } finally {
    button.ariaDisabled = null;
  }
}

// Follow a job that was just remembered, too.
export function followNew() {
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
  if (keeps || !("ready" in list.firstElementChild.dataset)) follower.restart();
}
