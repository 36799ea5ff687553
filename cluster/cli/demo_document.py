"""A long document for the demo: the logbook of a station, different every time, with one entry worth asking for.

What must not live here: asking.
"""

from __future__ import annotations

import random

PLACES = (
    "the north mast",
    "the pump house",
    "the lower dock",
    "the seed store",
    "the radio hut",
    "the east greenhouse",
)
PEOPLE = ("Amara", "Bjarne", "Chen", "Dolores", "Efua", "Farid", "Greta", "Hiroshi")
EVENTS = (
    "checked {place} and found the seals dry after two days of wind",
    "changed the filters at {place}, which had drawn more sand than the month before",
    "measured the current at {place} three times, because the first reading was too good to be true",
    "painted the railing of {place} and asked everybody to use the other stairs",
    "repaired a cable near {place} that the foxes seem to like",
    "counted the stores at {place} and wrote the list anew",
)
NEEDLE = "Day {day}: {person} hid the spare key of {place} under the blue bucket, and asked that this be remembered."


def write_document(entries: int, rng: random.Random) -> tuple[str, str]:
    """A logbook and a question about it.

    Args:
        entries: how many entries, of about 30 tokens each.
        rng: decides what happens; another seed is another logbook from its first line on.

    Returns:
        The document, and the question.
    """
    lines = [f"Logbook of station {rng.randrange(10_000):04d}, kept by {rng.choice(PEOPLE)}."]
    needle_day = entries // 2 + 1
    for day in range(1, entries + 1):
        person, place = rng.choice(PEOPLE), rng.choice(PLACES)
        if day == needle_day:
            lines.append(NEEDLE.format(day=day, person=person, place=place))
        else:
            event = rng.choice(EVENTS).format(place=place)
            lines.append(
                f"Day {day}: {person} {event}. Wind {rng.randrange(2, 30)} knots, {rng.randrange(-9, 25)} degrees."
            )
    return "\n".join(lines), "Question: where in this logbook is the spare key hidden? Answer in one short sentence."
