"""Text for the synthetic voices: composed sentences, commands, numbers and word lists.

Nothing is quoted: sentences come from the patterns and word lists below and from a dictionary's
list of words, so that every phone occurs in many contexts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def _words(text: str) -> list[str]:
    return text.split()


_NOUNS = _words(
    """boat river garden window teacher mother brother village shepherd thunder pepper bubble
    hammer market pocket basket feather leather morning evening summer winter music picture
    measure treasure engine village voyage orange chicken kitchen butcher church judge
    bridge cabbage sugar ocean mission vision garage beige rouge mouth tooth path cloth
    feather weather father thing song finger hunger yellow onion union beauty view youth
    year yacht wool wood wolf woman whale wheel house mouse cow town flower hour boy coin
    oil voice joy toy noise bird nurse word world purse book foot hook moon spoon fruit shoe
    blue car star barn palm father dog law ball thought apple map cat man hand egg bed pen
    ship fish city sea tree week cake day game rain bone coat snow road pump bomb bump map
    pipe cup baby table apple people puppet member number chamber lamb film poem giraffe
    elephant umbrella pumpkin vegetable umbrella mushroom butterfly refrigerator photograph
    computer president question language sandwich blueberry strawberry television explosion"""
)
_ADJECTIVES = _words(
    """big small happy angry purple yellow bright foggy thick thin rough smooth quiet loud
    proud shy young old foreign famous simple double bitter better peculiar wonderful bushy
    vague bumpy fuzzy muddy plump beautiful ancient curious delicious enormous fresh gentle
    humble juicy jolly kind lovely modern noisy orange polished rapid silver tiny usual
    velvet warm zesty above-average measured brownish childish English Polish thirsty worthy
    healthy smooth"""
)
_VERBS = _words(
    """takes makes brings buys builds breaks pushes pulls paints measures watches catches
    judges washes loves leaves gives saves teaches touches thinks thanks throws bathes
    breathes uses chooses loses finds minds sends spends wants helps jumps pumps rubs robs
    stops keeps weaves moves proves shows follows borrows swallows answers covers gathers
    remembers forgets imagines enjoys avoids joins points boils mixes fixes asks masks pays
    buys flies tries"""
)
_ADVERBS = _words(
    """slowly quickly very often maybe almost never always perhaps suddenly gently proudly
    happily usually finally obviously above below behind before beyond together forever"""
)
_PLACES = """in the field;by the river;under the bridge;at home;on the table;above the clouds;
behind the old barn;beyond the purple hills;before breakfast;with a smile;without any effort;
for the whole year;through the open window;between both houses;among the bushes;near Boston;
from Paris to Berlin;over the shoulder;up the valley;in Washington;at the university""".replace(
    "\n", ""
).split(";")
_OPENINGS = """I believe that;We hope;You know;They say that;Maybe;Of course,;In my opinion,;
My fellow citizens,;Good evening.;Oh,;Well,;Please remember that;Ladies and gentlemen,;
Believe me,;As far as I know,;This is why;Every year;It is true that;Imagine:;Look,""".replace(
    "\n", ""
).split(";")
_ONES = _words("zero one two three four five six seven eight nine")
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_LETTERS = _words("a b c d e f g h i j k l m n o p q r s t u v x y z")

Words = list[str]


def _pick(rng: np.random.Generator, items: Words) -> str:
    return items[int(rng.integers(len(items)))]


def _sentence(rng: np.random.Generator) -> str:
    def noun_phrase() -> str:
        article = _pick(rng, _words("the a my your this some our every his"))
        adjective = _pick(rng, _ADJECTIVES) if rng.random() < 0.6 else ""
        return f"{article} {adjective} {_pick(rng, _NOUNS)}"

    words = [
        _pick(rng, _OPENINGS) if rng.random() < 0.35 else "",
        noun_phrase(),
        _pick(rng, _ADVERBS) if rng.random() < 0.4 else "",
        _pick(rng, _VERBS),
        noun_phrase(),
        _pick(rng, _PLACES) if rng.random() < 0.6 else "",
    ]
    return " ".join(" ".join(words).split()) + _pick(rng, [".", ".", "!", "?"])


def _command(rng: np.random.Generator) -> str:
    return " ".join(
        [
            _pick(rng, _words("bin lay place set put show")),
            _pick(rng, _words("blue green red white black purple")),
            _pick(rng, _words("at by in with over below")),
            _pick(rng, _LETTERS),
            _pick(rng, _ONES),
            _pick(rng, _words("again now please soon today maybe")),
        ]
    )


def _numbers(rng: np.random.Generator) -> str:
    parts = [
        f"{_pick(rng, _TENS)} {_pick(rng, _ONES[1:])}" if rng.random() < 0.5 else _pick(rng, _ONES)
        for _ in range(int(rng.integers(3, 7)))
    ]
    return ", ".join(parts) + "."


def english(rng: np.random.Generator, dictionary: Words) -> Iterator[str]:
    """Endless utterances of about 2 to 5 s.

    :param dictionary: plain lower-case words
    """
    while True:
        kind = rng.random()
        if kind < 0.45:
            yield _sentence(rng)
        elif kind < 0.55:
            yield _command(rng)
        elif kind < 0.62:
            yield _numbers(rng)
        else:
            count = int(rng.integers(4, 9))
            yield " ".join(_pick(rng, dictionary) for _ in range(count)) + "."


def grid(path: Path) -> str:
    """The sentence of a GRID clip's word times, with letters spelt as their names are
    pronounced."""
    names = {"a": "eigh", "z": "zed", "sil": "", "sp": ""}
    words = [line.split()[-1] for line in path.read_text().splitlines()]
    return " ".join(" ".join(names.get(word, word) for word in words).split())


_SYLLABLES = {
    "italian": (
        _words("p b t d c g f v s m n l ch sc gn sp st z qu gi b p m"),
        _words("a e i o u ia io uo"),
        ["", "", "", "", "n", "l", "r", "s"],
    ),
    "finnish": (
        _words("p t k s h v m n l j d f b p m v"),
        _words("a e i o u ä aa ee ii oo uu ai ei au"),
        ["", "", "", "n", "s", "l", "t", "m"],
    ),
    "czech": (
        _words("p b t d k g f v s z š ž č h ch m n l j b p m v"),
        _words("a e i o u á é í ou"),
        ["", "", "", "", "n", "l", "m", "k", "s", "š", "p"],
    ),
    "catalan": (
        _words("p b t d c g f v s m n l ll x j b p m v"),
        _words("a e i o u à è í ò ú"),
        ["", "", "", "n", "l", "m", "s"],
    ),
    "russian": (
        _words("п б т д к г ф в с з ш ж ч х м н л б п м в"),
        _words("а о у и э я ю е"),
        ["", "", "", "н", "л", "м", "к", "с", "ш", "п"],
    ),
}


def pseudo(rng: np.random.Generator, language: str) -> Iterator[str]:
    """Endless lines of made-up words in the spelling of a language with regular spelling."""
    onsets, nuclei, codas = _SYLLABLES[language]
    while True:
        words = [
            "".join(
                _pick(rng, onsets) + _pick(rng, nuclei) + (_pick(rng, codas) if last else "")
                for last in [False] * int(rng.integers(0, 3)) + [True]
            )
            for _ in range(int(rng.integers(4, 8)))
        ]
        yield " ".join(words) + "."
