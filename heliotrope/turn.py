"""One turn of a chat as a client sees it: chunks in, texts and ids out."""

from __future__ import annotations

from dataclasses import dataclass, field

from heliotrope.errors import Unavailable
from heliotrope.v1 import chat_pb2, common_pb2


@dataclass
class Turn:
    """What a stream has brought so far.

    response_ids: in the order in which answers are shown (A, B). texts, tokens, whole (the model ended it by itself):
    by response id. ticket: needed by every vote; empty when no feedback is offered, and then `no_feedback_reason` says
    why. item_id: set for a shared item. finished: the stream came to its regular end.
    """

    conversation_id: str = ""
    response_ids: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    whole: dict[str, bool] = field(default_factory=dict)
    ticket: str = ""
    no_feedback_reason: str = ""
    item_id: str = ""
    finished: bool = False
    _next: int = 0

    @property
    def compared(self) -> bool:
        """Whether two answers stand side by side."""
        return len(self.response_ids) == 2

    def answers(self) -> list[str]:
        """The texts, in the order A, B."""
        return [self.texts[key] for key in self.response_ids]

    def push(self, chunk: chat_pb2.ChatResponse) -> None:
        """Take the next chunk. Raises Unavailable when one before it is missing."""
        if chunk.sequence != self._next:
            raise Unavailable(
                f"chunk {self._next} of the answer is missing ({chunk.sequence} came); ask again"
            )
        self._next += 1
        match chunk.WhichOneof("chunk"):
            case "started":
                self._start(chunk.started)
            case "delta":
                self.texts[chunk.delta.response_id] += chunk.delta.text
            case "answer_finished":
                ended = chunk.answer_finished
                self.tokens[ended.response_id] = ended.tokens
                self.whole[ended.response_id] = ended.finish_reason == common_pb2.FINISH_REASON_STOP
            case "finished":
                self.finished = True

    def end(self) -> None:
        """The stream is over. Raises Unavailable when it was cut off."""
        if not self.finished:
            raise Unavailable("the answer was cut off; ask again")

    def _start(self, started: chat_pb2.ChatStarted) -> None:
        self.conversation_id = started.conversation_id
        self.ticket = started.feedback_ticket
        self.no_feedback_reason = started.no_feedback_reason
        self.item_id = started.item_id
        self.response_ids = [head.response_id for head in started.answers]
        self.texts = dict.fromkeys(self.response_ids, "")
