// One judgement of one target: give, change, take back. The state shown is the one the server has confirmed.

import { Problem, giveFeedback, newId, retractFeedback } from "./api.js";
import { button, make, problemCard, thumbIcon } from "./dom.js";

class Vote {
  constructor(ticket, onchange) {
    this.ticket = ticket;
    this.onchange = onchange;
    this.given = []; // ids of feedback in force, oldest first; a later one supersedes
    this.value = null;
    this.busy = false;
  }

  async give(value, feedback) {
    if (value === this.value) return;
    const requestId = newId();
    await this.#attempt(async () => {
      const { feedback_id } = await giveFeedback(requestId, this.ticket, feedback);
      this.given.push(feedback_id);
      this.value = value;
    });
  }

  async undo() {
    const requestIds = new Map(this.given.map((id) => [id, newId()]));
    await this.#attempt(async () => {
      while (this.given.length) {
        const last = this.given.at(-1);
        await retractFeedback(requestIds.get(last), last);
        this.given.pop();
      }
      this.value = null;
    });
  }

  async #attempt(action) {
    if (this.busy) return;
    this.busy = true;
    this.problem = null;
    this.onchange();
    try {
      await action();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.problem = problem;
      this.retry = () => this.#attempt(action);
    } finally {
      this.busy = false;
      this.onchange();
    }
  }
}

function showProblem(box, vote) {
  box.replaceChildren();
  if (vote.problem) box.append(problemCard(vote.problem, button("Try again", () => vote.retry())));
}

// Thumbs under a single answer.
export function thumbs(ticket, responseId, say) {
  const row = make("div", { class: "thumbs", role: "group", "aria-label": "Judge this answer" });
  const note = make("span", { class: "note" });
  const trouble = make("div");
  const press = (up) => vote.give(up, { thumb: { response_id: responseId, up } });
  const up = button("", () => press(true), { class: "thumb", "aria-label": "Good answer", title: "Good answer" });
  const down = button("", () => press(false), { class: "thumb down", "aria-label": "Bad answer", title: "Bad answer" });
  const undo = button("Undo", () => vote.undo().then(() => up.focus()), { class: "link" });
  up.append(thumbIcon());
  down.append(thumbIcon());
  const vote = new Vote(ticket, () => {
    up.setAttribute("aria-pressed", String(vote.value === true));
    down.setAttribute("aria-pressed", String(vote.value === false));
    for (const part of [up, down, undo]) part.setAttribute("aria-disabled", String(vote.busy));
    undo.hidden = vote.value === null;
    note.textContent = vote.value === null ? "" : "Thank you. Saved.";
    showProblem(trouble, vote);
    if (!vote.busy && !vote.problem) say(vote.value === null ? "Taken back." : "Saved.");
  });
  undo.hidden = true;
  row.append(up, down, note, undo);
  return make("div", {}, row, trouble);
}

export const CHOICES = [
  { value: "CHOICE_A", key: "1", label: "A is better", said: "You picked A; the chat goes on from there." },
  { value: "CHOICE_B", key: "2", label: "B is better", said: "You picked B; the chat goes on from there." },
  { value: "CHOICE_TIE", key: "0", label: "Tie", said: "You called it a tie." },
  { value: "CHOICE_BOTH_BAD", key: "9", label: "Both bad", said: "You found both bad." },
  { value: "CHOICE_SKIP", key: "s", label: "Skip", said: "Skipped." },
];

// The five buttons under two answers. `onpick(value | null)` follows every confirmed change.
export function choices(ticket, onpick, say) {
  const group = make("div", { class: "choices", role: "group", "aria-label": "Which answer is better?", tabIndex: -1 });
  const question = make("p", { class: "question", textContent: "Which answer is better?" });
  const result = make("p", { class: "note", hidden: true });
  const trouble = make("div");
  const pick = (choice) => vote.give(choice.value, { comparison: { choice: choice.value } });
  for (const choice of CHOICES) {
    const part = button(choice.label, () => pick(choice), { class: "choice", "aria-keyshortcuts": choice.key });
    part.append(make("kbd", { textContent: choice.key.toUpperCase(), "aria-hidden": "true" }));
    group.append(part);
  }
  const vote = new Vote(ticket, () => {
    const made = CHOICES.find((choice) => choice.value === vote.value);
    for (const part of group.children) part.setAttribute("aria-disabled", String(vote.busy));
    showProblem(trouble, vote);
    if (vote.busy || vote.problem) return;
    onpick(vote.value);
    question.hidden = group.hidden = Boolean(made);
    result.hidden = !made;
    const ending = made && made.value !== "CHOICE_SKIP" ? " Thank you. " : " ";
    if (made) result.replaceChildren(made.said + ending, button("Undo", () => vote.undo().then(() => group.focus()), { class: "link" }));
    say(made ? made.said : "Taken back.");
  });
  const element = make("div", { class: "verdict" }, question, group, result, trouble);
  return { element, group, press: (key) => onKey(key) };

  function onKey(key) {
    const choice = CHOICES.find((one) => one.key === key.toLowerCase());
    if (!choice || group.hidden) return false;
    pick(choice);
    return true;
  }
}
