// The page: one conversation at a time, one stream at a time.

import { Problem, chat, conversation } from "./api.js";
import { Turn } from "./turn.js";

const $ = (id) => document.getElementById(id);
const message = $("message");
const HERE = "heliotrope.conversation";
const state = { conversation: "", turns: [], abort: null };

const say = (text) => { $("status").textContent = text; };
const wish = () => document.querySelector("input[name=wish]:checked").value;
const editing = (target) => target.closest?.("textarea, input, [contenteditable]");

function request(text) {
  const body = { message: text, comparison: wish() };
  if (state.conversation) body.conversation_id = state.conversation;
  const parent = state.turns.findLast((turn) => turn.parent)?.parent;
  if (parent) body.parent_response_id = parent;
  if (!$("consent").checked) body.consent = false;
  return body;
}

async function ask(text) {
  const body = request(text);
  const turn = new Turn(text, say);
  turn.ondecided = () => toMessage(turn);
  state.turns.push(turn);
  state.abort = new AbortController();
  const { signal } = state.abort;
  $("log").append(turn.element);
  show();
  follow(true);
  say("Answering.");
  try {
    for await (const chunk of chat(body, signal)) {
      const near = atEnd();
      turn.take(chunk);
      if (chunk.started) begin(turn, chunk.started);
      follow(near);
    }
    turn.finish("FINISH_REASON_STOP");
    say(turn.spoken());
  } catch (error) {
    if (signal.aborted) {
      turn.finish("FINISH_REASON_CANCELLED");
      say("Stopped.");
    } else fail(turn, error instanceof Problem ? error : new Problem("UNKNOWN", String(error)));
  }
  if (state.abort?.signal === signal) state.abort = null;
  show();
  follow(atEnd());
}

function begin(turn, started) {
  state.conversation = started.conversation_id;
  sessionStorage.setItem(HERE, state.conversation);
  // Keys pick an answer only outside the message box; a draft keeps the focus where it is.
  if (turn.verdict && !message.value) turn.verdict.group.focus({ preventScroll: true });
}

// After a pick people write on; a phone's keyboard would cover what they have just picked.
function toMessage(turn) {
  if (turn === state.turns.at(-1) && matchMedia("(hover: hover)").matches) message.focus({ preventScroll: true });
}

function fail(turn, problem) {
  turn.fail(problem, () => {
    if (state.abort) return;
    turn.element.remove();
    state.turns = state.turns.filter((one) => one !== turn);
    if (problem.code === "NOT_FOUND") state.conversation = "";
    if (problem.code === "NOT_FOUND") for (const old of state.turns) old.parent = null;
    ask(turn.message);
  });
}

function send() {
  const text = message.value.trim();
  if (!text || state.abort) return;
  message.value = "";
  grow();
  ask(text);
}

function restart() {
  state.abort?.abort();
  Object.assign(state, { conversation: "", turns: [], abort: null });
  sessionStorage.removeItem(HERE);
  $("log").replaceChildren();
  say("New chat.");
  show();
  message.focus();
}

// After a reload this tab goes on where it was, if the server still holds it for this person.
async function restore() {
  const id = sessionStorage.getItem(HERE);
  if (!id) return;
  const answers = await conversation(id).catch((problem) => {
    if (problem.code !== "UNREACHABLE" && problem.code !== "UNAVAILABLE") sessionStorage.removeItem(HERE);
    return [];
  });
  if (!answers.length || state.turns.length) return;
  state.conversation = id;
  const same = (a, b) => b && a.message === b.message && a.parent_response_id === b.parent_response_id;
  while (answers.length) {
    const group = answers.splice(0, same(answers[0], answers[1]) ? 2 : 1);
    const turn = new Turn(group[0].message, say);
    turn.restore(group);
    state.turns.push(turn);
    $("log").append(turn.element);
  }
  show();
  follow(true);
}

function show() {
  const streaming = Boolean(state.abort);
  $("empty").hidden = state.turns.length > 0;
  $("restart").hidden = state.turns.length === 0;
  $("stop").hidden = !streaming;
  $("send").hidden = streaming;
  $("send").disabled = !message.value.trim();
}

function grow() {
  message.style.height = "auto";
  message.style.height = `${Math.min(message.scrollHeight, 200)}px`;
  $("send").disabled = !message.value.trim();
}

const page = document.scrollingElement;
const atEnd = () => page.scrollHeight - page.scrollTop - page.clientHeight < 120;
function follow(near) {
  if (near) page.scrollTop = page.scrollHeight;
}

function onKey(event) {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    $("settings").open = false;
    state.abort?.abort();
  } else if (event.key === "Enter" && !event.shiftKey && event.target === message) {
    event.preventDefault();
    send();
  } else if (!editing(event.target) && state.turns.at(-1)?.verdict?.press(event.key)) event.preventDefault();
}

function remember() {
  localStorage.setItem("heliotrope.wish", wish());
  localStorage.setItem("heliotrope.consent", $("consent").checked);
  $("promise").textContent = $("consent").checked
    ? "What you give may be used to improve the model."
    : "What you give now is not used to improve the model.";
}

function recall() {
  const kept = localStorage.getItem("heliotrope.wish");
  for (const radio of document.querySelectorAll("input[name=wish]")) if (radio.value === kept) radio.checked = true;
  $("consent").checked = localStorage.getItem("heliotrope.consent") !== "false";
  remember();
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("stop").addEventListener("click", () => { state.abort?.abort(); message.focus(); });
$("restart").addEventListener("click", restart);
$("more").addEventListener("click", () => { $("settings").open = true; $("settings").querySelector("summary").focus(); });
$("settings").addEventListener("change", remember);
$("ideas").addEventListener("click", (event) => { if (event.target.matches("button")) { message.value = event.target.textContent; send(); } });
message.addEventListener("input", grow);
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  if (!event.target.closest("#settings, #more")) $("settings").open = false;
});
recall();
show();
restore();
