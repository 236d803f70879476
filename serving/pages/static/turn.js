// One turn: the person's message, one or two answers as they stream, and the means to judge them.

import { button, make, problemCard } from "./dom.js";
import { choices, thumbs } from "./vote.js";

const ENDINGS = {
  FINISH_REASON_LENGTH: "Stopped at the length limit.",
  FINISH_REASON_CANCELLED: "Stopped.",
  FINISH_REASON_LOST: "The server lost the rest.",
};

export class Turn {
  constructor(message, say) {
    this.message = message;
    this.say = say;
    this.panes = new Map(); // response id → { element, text (a text node), ending }
    this.parent = null; // the response that carries the conversation on
    this.verdict = null;
    this.ondecided = () => {};
    this.body = make("div", { class: "answers", "aria-busy": "true" }, make("p", { class: "waiting" }, dots()));
    this.foot = make("div", { class: "foot" });
    this.element = make("article", { class: "turn" }, make("p", { class: "said", textContent: message }), this.body, this.foot);
  }

  get compared() {
    return this.panes.size === 2;
  }

  take(chunk) {
    if (chunk.started) this.#start(chunk.started);
    else if (chunk.delta) this.panes.get(chunk.delta.response_id).text.appendData(chunk.delta.text ?? "");
    else if (chunk.answer_finished) this.#end(this.panes.get(chunk.answer_finished.response_id), chunk.answer_finished.finish_reason);
  }

  #start({ answers, feedback_ticket, no_feedback_reason }) {
    this.body.replaceChildren(...answers.map((head, n) => this.#pane(head, answers.length === 2 ? "AB"[n] : "")));
    this.body.classList.toggle("pair", this.compared);
    this.element.classList.toggle("wide", this.compared);
    this.parent = answers[0].response_id;
    if (!feedback_ticket) {
      const why = no_feedback_reason ? `: ${no_feedback_reason}` : "";
      this.foot.append(make("p", { class: "note", textContent: `Feedback is not offered for this answer${why}.` }));
    } else if (this.compared) {
      this.verdict = choices(feedback_ticket, (value) => this.#picked(value), this.say);
      this.foot.append(this.verdict.element);
    } else this.foot.append(thumbs(feedback_ticket, this.parent, this.say));
  }

  // The turn as it was before a reload; its ticket is gone, so it cannot be judged any more.
  restore(answers) {
    this.body.replaceChildren(...answers.map((one, n) => this.#pane(one, answers.length === 2 ? "AB"[n] : "")));
    this.body.classList.toggle("pair", this.compared);
    this.element.classList.toggle("wide", this.compared);
    for (const { response_id, text, continued } of answers) {
      this.panes.get(response_id).text.data = text ?? "";
      if (continued || !this.parent) this.parent = response_id;
    }
    this.finish("FINISH_REASON_STOP");
  }

  #pane(head, letter) {
    const text = document.createTextNode("");
    const ending = make("p", { class: "ending", hidden: true });
    const element = make("section", { class: "pane writing" }, make("p", { class: "text" }, text), ending);
    if (letter) {
      element.setAttribute("aria-label", `Answer ${letter}`);
      element.prepend(make("h3", { class: "letter", textContent: letter }));
    }
    this.panes.set(head.response_id, { element, text, ending });
    return element;
  }

  #picked(value) {
    const [first, second] = this.panes.keys();
    this.parent = value === "CHOICE_B" ? second : first;
    const [a, b] = [...this.panes.values()].map((pane) => pane.element);
    for (const [pane, own] of [[a, "CHOICE_A"], [b, "CHOICE_B"]]) {
      pane.classList.toggle("chosen", value === own);
      pane.classList.toggle("passed", value !== own && (value === "CHOICE_A" || value === "CHOICE_B"));
    }
    if (value) this.ondecided();
  }

  #end(pane, reason) {
    pane.element.classList.remove("writing");
    if (!ENDINGS[reason]) return;
    pane.ending.textContent = ENDINGS[reason];
    pane.ending.hidden = false;
  }

  // The stream is over: `reason` for the panes that were still writing.
  finish(reason) {
    this.body.setAttribute("aria-busy", "false");
    for (const pane of this.panes.values()) {
      if (pane.element.classList.contains("writing")) this.#end(pane, reason);
    }
    if (this.panes.size) return;
    this.body.replaceChildren(...(reason === "FINISH_REASON_CANCELLED" ? [make("p", { class: "ending", textContent: "Stopped before an answer came." })] : []));
  }

  fail(problem, retry) {
    this.finish("FINISH_REASON_LOST");
    this.foot.prepend(problemCard(problem, button("Try again", retry)));
  }

  // What a screen reader is told at the end.
  spoken() {
    const texts = [...this.panes.values()].map((pane) => pane.text.data);
    return this.compared ? `Answer A: ${texts[0]} Answer B: ${texts[1]} Which is better?` : `Answer: ${texts[0] ?? ""}`;
  }
}

function dots() {
  const row = make("span", { class: "dots", role: "img", "aria-label": "Waiting for the model" });
  row.append(make("i"), make("i"), make("i"));
  return row;
}
