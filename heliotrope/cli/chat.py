"""`heliotrope chat`: a conversation in a terminal, with thumbs and comparisons."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from heliotrope.cli import keys
from heliotrope.client import Client, chat_request, comparison, feedback_request, thumb
from heliotrope.errors import HeliotropeError
from heliotrope.identity_file import load_identity
from heliotrope.turn import Turn
from heliotrope.v1 import chat_pb2, feedback_pb2

HELP = "/good, /bad [why]: judge the last answer   /undo: take it back   /compare: two answers next   /new   /quit"


def run(message: str | None, compare: bool, address: str) -> int:
    """One question (exit status 0, or 1 when it failed), or a conversation until /quit or end of input."""
    with Client(public=address, user=load_identity()) as client:
        talk = Talk(client, compare)
        if message is not None:
            talk.ask(message)
            return 0
        print(HELP)
        while (text := _read()) is not None:
            try:
                if not talk.take(text):
                    break
            except HeliotropeError as error:
                print(f"heliotrope: {error}", file=sys.stderr)
            except KeyboardInterrupt:
                print("\n(stopped)")
    return 0


@dataclass
class Talk:
    """One conversation."""

    client: Client
    compare: bool = False
    turn: Turn = field(default_factory=Turn)
    conversation: str = ""
    last_feedback: str = ""

    def take(self, text: str) -> bool:
        """What the person typed; False to end."""
        command, _, rest = text.partition(" ")
        match command:
            case "":
                pass
            case "/quit" | "/exit":
                return False
            case "/good" | "/bad":
                self._thumb(command == "/good", rest.strip())
            case "/undo":
                self._undo()
            case "/compare":
                self.compare = not self.compare
                print(f"two answers from now on: {'yes' if self.compare else 'when the server asks'}")
            case "/new":
                self.conversation, self.turn = "", Turn()
                print("a new conversation")
            case _ if command.startswith("/"):
                print(HELP)
            case _:
                self.ask(text)
        return True

    def ask(self, message: str) -> None:
        """Ask, stream the answer or both, and let the person pick between two."""
        wish = chat_pb2.COMPARISON_WISH_ON if self.compare else chat_pb2.COMPARISON_WISH_UNSPECIFIED
        self.turn = Turn()
        stream = self.client.chat(chat_request(message, conversation_id=self.conversation, comparison=wish))
        screen = Screen()
        try:
            for chunk in stream:
                self.turn.push(chunk)
                screen.show(self.turn, chunk)
        finally:
            screen.close(self.turn)
            self.conversation = self.turn.conversation_id or self.conversation
        self.turn.end()
        if self.turn.compared and self.turn.ticket:
            self._compare()

    def _compare(self) -> None:
        given = self._give(comparison(keys.pick()))
        print(f"thank you: A was {given.policy_versions[0]}, B was {given.policy_versions[1]}")

    def _thumb(self, up: bool, comment: str) -> None:
        if not self.turn.ticket:
            print(f"nothing to judge: {self.turn.no_feedback_reason or 'ask something first'}")
        elif self.turn.compared:
            print("two answers were shown: pick with the keys instead, or ask again")
        else:
            self._give(thumb(self.turn.response_ids[0], up, comment))
            print("thank you (/undo takes it back)")

    def _give(self, feedback: feedback_pb2.Feedback) -> feedback_pb2.GiveFeedbackResponse:
        given = self.client.give(feedback_request(self.turn.ticket, feedback))
        self.last_feedback = given.feedback_id
        return given

    def _undo(self) -> None:
        if not self.last_feedback:
            print("nothing to take back")
            return
        self.client.retract(self.last_feedback)
        self.last_feedback = ""
        print("taken back")


class Screen:
    """Writes a single answer as it comes; two answers side by side, live on a terminal and whole elsewhere."""

    def __init__(self) -> None:
        self._console, self._live = Console(), None

    def show(self, turn: Turn, chunk: chat_pb2.ChatResponse) -> None:
        """Show what `chunk` brought."""
        if not turn.compared:
            print(chunk.delta.text, end="", flush=True)
        elif self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=10)
                self._live.start()
            self._live.update(_side_by_side(turn, self._console.width))

    def close(self, turn: Turn) -> None:
        """End the answer's last line."""
        if self._live is not None:
            self._live.stop()
        elif turn.compared:
            self._console.print(_side_by_side(turn, self._console.width))
        elif turn.response_ids:
            print()


def _side_by_side(turn: Turn, width: int) -> Columns:
    half = max(20, width // 2 - 1)
    return Columns(
        [Panel(Text(text), title=name, width=half) for name, text in zip("AB", turn.answers(), strict=True)]
    )


def _read() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    except KeyboardInterrupt:
        print()
        return None
