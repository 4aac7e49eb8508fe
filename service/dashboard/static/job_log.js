// Shows what a job logs as it comes, and only the levels that somebody wants to see.

import { Follower } from "../js/follow.js";
import { appendHtml } from "../js/swap.js";

const MOST = 2_000; // lines on the page
const AT_END = 8; // pixels

const panel = document.getElementById("log");
const list = panel.querySelector("ol");
const level = panel.querySelector("select");
let { attempt, after } = panel.dataset;
let isOver = false;

function show({ attempt: number, html, after: place, over }) {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < AT_END;
  if (String(number) !== attempt) {
    attempt = String(number);
    list.replaceChildren();
    const title = panel.querySelector(".attempt");
    title.hidden = false;
    title.firstElementChild.textContent = attempt;
  }
  after = place;
  if (html) appendHtml(list, html);
  while (list.childElementCount > MOST) {
    list.firstElementChild.remove();
    panel.querySelector(".cut").hidden = false;
  }
  if (follows) list.scrollTop = list.scrollHeight;
  isOver = over;
  if (isOver) follower.stop();
}

const follower = new Follower({
  address: () => (isOver ? null : `${panel.dataset.url}?${new URLSearchParams({ attempt, after })}`),
  waits: false,
  onData: show,
});

level.addEventListener("change", () => {
  list.dataset.least = level.value;
});
list.scrollTop = list.scrollHeight;
follower.restart();
