// Talks to the gateway. Every failure becomes a Problem: what happened, and what to do about it.

const ADVICE = {
  INVALID_ARGUMENT: ["That could not be sent", "Change the message and send it again."],
  FAILED_PRECONDITION: ["That is not possible now", "Reload the page and try again."],
  UNAUTHENTICATED: ["This browser has no identity yet", "Allow cookies for this page, then send a message first."],
  PERMISSION_DENIED: ["That is not allowed", "Reload the page and start a new chat."],
  NOT_FOUND: ["The server no longer has this conversation", "Start a new chat."],
  ALREADY_EXISTS: ["That was sent already", "Send it again as a new message."],
  RESOURCE_EXHAUSTED: ["Too much at once", "Wait a few seconds, then try again."],
  UNIMPLEMENTED: ["The server cannot do that yet", "Ask whoever runs it for an update."],
  UNAVAILABLE: ["The model is not answering", "Wait a moment, then try again."],
  DEADLINE_EXCEEDED: ["That took too long", "Try again, or ask something shorter."],
  UNREACHABLE: ["The server cannot be reached", "Check that Heliotrope is running and that you are online, then try again."],
  CUT_OFF: ["The answer was cut off", "The connection broke. Try again."],
};

export class Problem extends Error {
  constructor(code, detail = "") {
    const [title, remedy] = ADVICE[code] ?? ["Something went wrong on the server", "Try again."];
    super(title);
    Object.assign(this, { code, title, remedy, detail });
  }
}

// 128 random bits. (crypto.randomUUID is missing where a page is served without TLS.)
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function post(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("UNREACHABLE");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Problem(answer.error?.code ?? "UNKNOWN", answer.error?.message ?? `HTTP ${response.status}`);
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// The chunks of one answer (ChatResponse); throws Problem, or AbortError after signal.
export async function* chat(request, signal) {
  const response = await post("/api/chat", { request_id: newId(), ...request }, signal);
  try {
    for await (const line of lines(response.body)) {
      const chunk = JSON.parse(line);
      if (chunk.error) throw new Problem(chunk.error.code, chunk.error.message);
      yield chunk;
      if (chunk.finished) return;
    }
  } catch (error) {
    if (error instanceof TypeError) throw new Problem("CUT_OFF");
    throw error;
  }
  throw new Problem("CUT_OFF");
}

// The turns that lead to the newest answer of one's own conversation, oldest first.
export async function conversation(id) {
  const { turns } = await (await post("/api/conversation", { conversation_id: id })).json();
  return turns ?? [];
}

// One judgement; `requestId` stays the same when it is tried again, so that it counts once.
export async function giveFeedback(requestId, ticket, feedback) {
  const body = { request_id: requestId, feedback_tickets: [ticket], feedback };
  return (await post("/api/feedback", body)).json();
}

export async function retractFeedback(requestId, feedbackId) {
  return (await post("/api/retract", { request_id: requestId, feedback_id: feedbackId })).json();
}
