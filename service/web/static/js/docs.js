// The page of the interface: one language for all examples, copying, and answers to what is tried.

import { useForms } from "./forms.js";
import { remember } from "./memory.js";
import { makeText } from "./swap.js";

const LANGUAGE = "service.language";
const trials = new Map(); // by form: what ends the waiting for its last job

function choose(language) {
  for (const tab of document.querySelectorAll(".tabs input")) tab.checked = tab.value === language;
}

function useTabs() {
  try {
    const known = localStorage.getItem(LANGUAGE);
    if (document.querySelector(`.tabs input[value="${CSS.escape(known ?? "")}"]`)) choose(known);
  } catch {
    // The browser forbids it: the choice is for this visit.
  }
  document.addEventListener("change", ({ target }) => {
    if (!target.matches(".tabs input")) return;
    const top = target.getBoundingClientRect().top;
    choose(target.value);
    scrollBy({ top: target.getBoundingClientRect().top - top, behavior: "instant" }); // examples above it are as long as others
    try {
      localStorage.setItem(LANGUAGE, target.value);
    } catch {
      // As above.
    }
  });
}

function useCopying() {
  if (!navigator.clipboard) return; // on plain HTTP there is none
  for (const block of document.querySelectorAll(".code")) {
    const button = makeText("button", "quiet copy", "Copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("pre").textContent.trim());
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    block.append(button);
  }
}

function showAnswer(place, request, answer) {
  const block = makeText("div", "code", "");
  block.append(makeText("pre", "", JSON.stringify(answer, null, 2)));
  const title = makeText("p", "request", "");
  title.append(makeText("code", "", request));
  place.replaceChildren(title, block);
}

async function showJob(place, accepted, signal) {
  const url = accepted.result_url;
  let job;
  do {
    const response = await fetch(`${url}?wait=30`, { headers: { Accept: "application/json" }, signal });
    job = await response.json();
    showAnswer(place, `GET ${url}?wait=30 → ${response.status}`, job);
    if (!response.ok) return;
  } while (!job.ready);
}

async function onStart(started, accepted, form) {
  remember(started);
  trials.get(form)?.abort();
  const trial = new AbortController();
  trials.set(form, trial);
  const place = form.parentElement.querySelector(".answers");
  const [first, second] = [makeText("div", "", ""), makeText("div", "", "")];
  const link = makeText("a", "", "The job's page");
  link.href = accepted.result_url;
  place.replaceChildren(first, second, link);
  showAnswer(first, `POST ${form.dataset.url} → 202`, accepted);
  try {
    await showJob(second, accepted, trial.signal);
  } catch (error) {
    if (!trial.signal.aborted) second.replaceChildren(makeText("p", "problem", "The server cannot be reached."));
  }
}

useTabs();
useCopying();
useForms(onStart);
