// Reads a task's form as its arguments, starts the job, and shows errors where they belong.

import { Problem, startJob } from "./api.js";
import { isExact, TOO_LARGE } from "./exact.js";

class FieldError extends Error {
  constructor(name, message) {
    super(message);
    this.argument = name;
    this.reason = message;
  }
}

function number(text, whole, { min, max } = {}) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new Error("This is not a number.");
  if (whole && !Number.isInteger(value)) throw new Error("This is not a whole number.");
  if (!isExact(value)) throw new Error(TOO_LARGE);
  if (min && value < min) throw new Error(`This is less than ${min}.`);
  if (max && value > max) throw new Error(`This is more than ${max}.`);
  return value;
}

function one(kind, text, limits) {
  if (kind === "integer" || kind === "number") return number(text, kind === "integer", limits);
  return text;
}

// An argument's value, or undefined where it is to be left out.
function valueOf(field) {
  const input = field.querySelector("input, select, textarea");
  const { kind, items } = field.dataset;
  if (kind === "boolean") return input.checked;
  if (input.validity.badInput) throw new Error("This is not a number.");
  const text = input.value;
  if (text === "" && "optional" in field.dataset) return undefined;
  if (kind === "list") {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    return lines.map((line) => one(items, items === "text" ? line : line.trim()));
  }
  if (text === "" && kind !== "text") throw new Error("This is required.");
  if (kind === "choice" || kind === "json") {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      throw new Error("This is not JSON.");
    }
    if (!isExact(value)) throw new Error(TOO_LARGE);
    return value;
  }
  if (kind === "text" && text === "" && input.required) throw new Error("This is required.");
  return one(kind, text, input);
}

// A field's name is a path: `order.customer.name` is inside of the argument `order`.
function read(form) {
  const values = {};
  for (const field of form.querySelectorAll(".field")) {
    const { name } = field.dataset;
    const outer = name.split(".");
    const last = outer.pop();
    const inside = outer.reduce((found, step) => (found[step] ??= {}), values);
    try {
      const value = valueOf(field);
      if (value !== undefined) inside[last] = value;
    } catch (error) {
      throw new FieldError(name, error.message);
    }
  }
  return values;
}

function clear(form) {
  for (const error of form.querySelectorAll(".error")) error.textContent = "";
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  form.querySelector(".started").hidden = true;
  const problem = form.querySelector(".problem");
  problem.hidden = true;
  problem.textContent = "";
}

function show(form, error) {
  const fields = [...form.querySelectorAll(".field")];
  // The field of the place that the server names, or of what it is in.
  let path = error.pointer ? error.pointer.slice(1).split("/") : [error.argument];
  let field;
  for (; path.length && !field; path = path.slice(0, -1)) {
    field = fields.find((each) => each.dataset.name === path.join("."));
  }
  if (field) {
    const input = field.querySelector("input, select, textarea");
    field.querySelector(".error").textContent = error.reason || error.message;
    input.setAttribute("aria-invalid", "true");
    input.focus();
  } else {
    const problem = form.querySelector(".problem");
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

// `onStart({ id, task, values }, accepted, form)` is called for each job that was accepted.
export function useForms(onStart) {
  for (const form of document.querySelectorAll("form[data-task]")) {
    const button = form.querySelector("[type=submit]");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (button.ariaDisabled) return;
      clear(form);
      button.ariaDisabled = "true"; // `disabled` would take the focus away
      try {
        const values = read(form);
        const job = await startJob(form.dataset.url, values);
        onStart({ id: job.id, task: form.dataset.task, values }, job, form);
        form.querySelector(".started").hidden = false;
      } catch (error) {
        if (!(error instanceof FieldError || error instanceof Problem)) throw error;
        show(form, error);
      } finally {
        button.ariaDisabled = null;
      }
    });
  }
}
