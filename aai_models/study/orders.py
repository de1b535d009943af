"""Who sees what when: Latin squares, balanced for what comes before what (Williams, 1949).

`web/rules.js` has the same rules. Participants are numbered from 1.
"""

from __future__ import annotations

from dataclasses import dataclass

RATING, CHECK, PREFERENCE, PREFERENCE_CHECK = "naturalness", "check", "preference", "preference_check"
SCORES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Trial:
    """One screen of the page."""

    part: str
    item: int = -1  # number of the sound with its prompt and seed
    method: int = -1  # number of the method that is rated
    order: tuple[int, ...] = ()  # methods from left to right
    wanted: int = 0  # the answer that a check asks for, from 1


def latin_square(count: int) -> list[list[int]]:
    """Rows of 0..count-1; each value is once in each row, and equally often in each column and behind each other value.

    `count` rows for an even count, twice as many for an odd one (for 1 a single row).
    """
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    rows = [[(value + shift) % count for value in first] for shift in range(count)]
    return rows + [row[::-1] for row in rows] if count % 2 and count > 1 else rows


def trials(number: int, items: int, methods: int, checks: int) -> list[Trial]:
    """The screens of a participant: in each round every item once, each time by another method; then the preferences.

    Over a multiple of `len(latin_square(methods))` participants every picture stands equally often in every round, and
    every method equally often at every place of a preference. `checks` attention checks lie among the ratings, and one
    among the preferences.
    """
    n = number - 1
    square, rows = latin_square(methods), latin_square(items)
    turn = n // len(square)  # so that items do not change in step with methods

    def order_of_items(round_number: int) -> list[int]:
        return rows[(turn + round_number) % len(rows)]

    rated = [
        Trial(RATING, item, square[(n + item) % len(square)][round_number])
        for round_number in range(methods)
        for item in order_of_items(round_number)
    ]
    preferred = [
        Trial(PREFERENCE, item, order=tuple(square[(n + item) % len(square)])) for item in order_of_items(methods)
    ]
    for k in range(checks, 0, -1):
        wanted = (n + 2 * k) % len(SCORES) + 1
        rated.insert(len(rated) * k // (checks + 1), Trial(CHECK, wanted=wanted))
    if checks:
        place = len(preferred) // 2
        preferred.insert(place, Trial(PREFERENCE_CHECK, order=tuple(range(methods)), wanted=n % methods + 1))
    return rated + preferred
