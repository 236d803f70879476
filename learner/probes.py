"""Forced texts on which the trainer records what a version should say of every token.

Serving scores the same tokens after loading the version: an adapter that is not the one trained here gives other
log-probabilities. The texts are fixed and written for this, so a record never holds anybody's words.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliotrope.chat import ChatFormat, Message

FORCED = 16
"""Tokens forced of each answer: 256 over 16 prompts are the least that serving takes, and two may be lost."""

PROBES: tuple[tuple[str, str], ...] = (
    (
        "How do I boil an egg?",
        "Bring a small pan of water to the boil, lower the egg in with a spoon, and wait seven minutes.",
    ),
    (
        "Why is the sky blue?",
        "Air scatters short wavelengths of sunlight more than long ones, so blue reaches us from every side.",
    ),
    (
        "Name three fruits.",
        "Apples, bananas and oranges are three fruits that most shops sell all the year round.",
    ),
    (
        "What is a budget?",
        "A budget is a plan for money: what comes in, what goes out, and what is left at the end of the month.",
    ),
    (
        "How can I sleep better?",
        "Go to bed at the same hour each night, keep the room cool and dark, and leave the phone outside.",
    ),
    (
        "What does a router do?",
        "A router passes packets between your home network and the wider internet, and hands out local addresses.",
    ),
    (
        "Write a short thank-you note.",
        "Dear Anna, thank you for the lovely dinner on Friday. Your soup was the best I have had this year.",
    ),
    (
        "How far away is the moon?",
        "The moon is about 384,000 kilometres away, a little more than one second for a beam of light.",
    ),
    (
        "What is photosynthesis?",
        "Plants use sunlight to turn water and carbon dioxide into sugar, and give off oxygen as they do.",
    ),
    (
        "Give me a tip for interviews.",
        "Prepare two short stories about problems that you solved, with the figures that show how it ended.",
    ),
    (
        "What is 12 times 8?",
        "Twelve times eight is ninety-six, because ten eights are eighty and two more eights are sixteen.",
    ),
    (
        "How do I water a cactus?",
        "Soak the soil fully, let it drain, and then wait until it is completely dry before you water it again.",
    ),
    (
        "Why do cats purr?",
        "Cats purr when they are content, but also when they are hurt, as it seems to calm and heal them.",
    ),
    (
        "Suggest a weekend trip.",
        "Take a morning train to the coast, walk along the cliffs, and come home after fish and chips.",
    ),
    (
        "What is a noun?",
        "A noun is a word for a person, a place, a thing or an idea, such as teacher, Paris, chair or hope.",
    ),
    (
        "How do magnets work?",
        "Tiny magnetic regions inside the metal line up in one direction, so that their pulls add up outside.",
    ),
    (
        "How do I learn a language?",
        "Learn a few hundred common words first, listen every day, and speak aloud from the very first week.",
    ),
    (
        "What causes tides?",
        "The pull of the moon, and less so of the sun, raises two bulges of water that the earth turns under.",
    ),
)


@dataclass(frozen=True)
class Probe:
    """One forced text: ids of prompt and response, and where the response starts."""

    token_ids: tuple[int, ...]
    start: int


def probes(chat: ChatFormat) -> list[Probe]:
    """The fixed texts as ids of one model's tokenizer: 18 prompts, 288 forced tokens.

    Serving pays for every token while people wait: no system prompt, and no more of an answer than is needed.
    """
    items = []
    for question, answer in PROBES:
        prompt = chat.prompt_ids([Message("system", ""), Message("user", question)])
        items.append(Probe(tuple(prompt + chat.response_ids(answer)[:FORCED]), len(prompt)))
    return items
