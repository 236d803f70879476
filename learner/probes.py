"""Forced texts on which the trainer records what a version should say of every token.

Serving scores the same tokens after loading the version: an adapter that is not the one trained here gives other
log-probabilities. The texts are fixed and written for this, so a record never holds anybody's words.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliotrope.chat import ChatFormat, Message

FORCED = 16
"""Tokens forced of each text: 256 over 16 texts are the least that serving takes, and two may be lost."""

TEXTS = (
    "Bring a small pan of water to the boil, lower the egg in with a spoon, and wait seven minutes.",
    "Air scatters short wavelengths of sunlight more than long ones, so blue reaches us from every side.",
    "Apples, bananas and oranges are three fruits that most shops sell all the year round.",
    "A budget is a plan for money: what comes in, what goes out, and what is left at the end of the month.",
    "Go to bed at the same hour each night, keep the room cool and dark, and leave the phone outside.",
    "A router passes packets between your home network and the wider internet, and hands out local addresses.",
    "Dear Anna, thank you for the lovely dinner on Friday. Your soup was the best I have had this year.",
    "The moon is about 384,000 kilometres away, a little more than one second for a beam of light.",
    "Plants use sunlight to turn water and carbon dioxide into sugar, and give off oxygen as they do.",
    "Prepare two short stories about problems that you solved, with the figures that show how it ended.",
    "Twelve times eight is ninety-six, because ten eights are eighty and two more eights are sixteen.",
    "Soak the soil fully, let it drain, and then wait until it is completely dry before you water it again.",
    "Cats purr when they are content, but also when they are hurt, as it seems to calm and heal them.",
    "Take a morning train to the coast, walk along the cliffs, and come home after fish and chips.",
    "A noun is a word for a person, a place, a thing or an idea, such as teacher, Paris, chair or hope.",
    "Tiny magnetic regions inside the metal line up in one direction, so that their pulls add up outside.",
    "Learn a few hundred common words first, listen every day, and speak aloud from the very first week.",
    "The pull of the moon, and less so of the sun, raises two bulges of water that the earth turns under.",
)


@dataclass(frozen=True)
class Probe:
    """One forced text: ids of what it opens with and of what is forced, and where the latter starts."""

    token_ids: tuple[int, ...]
    start: int


def probes(chat: ChatFormat) -> list[Probe]:
    """The fixed texts as ids of one model's tokenizer: 18 texts, 288 forced tokens, each after two that are given.

    People's steps pay for every token when a version is checked beside them, so of the chat template only the token that
    every prompt begins with stands before a text: weights that are used wrongly show on any words.
    """
    first = chat.prompt_ids([Message("user", "?")])[:1]
    return [Probe((*first, *chat.response_ids(text)[: 1 + FORCED]), 2) for text in TEXTS]
