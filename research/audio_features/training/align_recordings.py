"""Recorded voices with transcripts: phones by forced alignment.

    python -m talkingface_research.audio_features.training.align_recordings --packages DIR --out DIR

DIR holds unpacked Debian packages: telephone prompts, `asterisk-core-sounds-LANGUAGE`
(transcripts) and `asterisk-core-sounds-LANGUAGE-g722` (audio), CC BY-SA 3.0 and (Russian) CC BY
3.0; and the acted dialogues of a game, `fillets-ng-data` (transcripts) and
`fillets-ng-data-LANGUAGE` (audio), GPL-2; and, for validation, `pocketsphinx-testdata` (25 s of a
LibriVox reading, public domain). Writes prompts_LANGUAGE, dialogues_LANGUAGE and reading_en, each
.wav and .npz, as `synthesise` does.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.audio_features.training.aligner import (
    Aligner,
    AlignmentError,
    pronounce,
    read_audio,
)
from talkingface_research.audio_features.training.synthesise import Clip, write_stream

# espeak-ng's languages of the transcripts.
PROMPTS = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it", "ru": "ru"}
DIALOGUES = {"cs": "cs", "nl": "nl"}
SHORTEST, LONGEST = 0.4, 25.0  # seconds of a clip
# Median absolute deviations below the median score, from which a clip does not match its
# transcript.
DEVIATIONS = 4.0

Transcripts = Iterator[tuple[Path, str]]


def prompts(packages: Path, language: str) -> Transcripts:
    """Telephone prompts and their texts, without those with notes in brackets."""
    package = f"asterisk-core-sounds-{language}"
    folder = next((packages / f"{package}-g722" / "usr/share/asterisk/sounds").iterdir())
    texts = next((packages / package).rglob("core-sounds-*.txt.gz"))
    for line in gzip.decompress(texts.read_bytes()).decode(errors="replace").splitlines():
        name, _, text = line.partition(":")
        if not line.startswith(";") and not set("[]<>") & set(text):
            yield folder / f"{name.strip()}.g722", text


def dialogues(packages: Path, language: str) -> Transcripts:
    """Lines of a game's dialogues and their texts."""
    scripts = packages / "fillets-ng-data/usr/share/games/fillets-ng/script"
    folder = packages / f"fillets-ng-data-{language}/usr/share/games/fillets-ng/sound"
    pattern = re.compile(r'dialogId\("([^"]+)"[^\n]*\)\s*dialogStr\("([^"]+)"\)')
    for script in sorted(scripts.glob(f"*/dialogs_{language}.lua")):
        for name, text in pattern.findall(script.read_text(errors="replace")):
            yield folder / script.parent.name / language / f"{name}.ogg", text


def reading(packages: Path, _: str) -> Transcripts:
    """Sentences of a novel read aloud."""
    folder = packages / "pocketsphinx-testdata/usr/share/pocketsphinx/test/data/librivox"
    for line in (folder / "transcription").read_text().splitlines():
        text, name = line.rsplit("(", 1)
        yield folder / f"{name.rstrip(')')}.wav", re.sub("<[^>]*>", "", text)


def clips(transcripts: Transcripts, language: str) -> Iterator[tuple[Clip, float]]:
    """Aligned clips and their scores, without those that cannot be aligned."""
    aligner = Aligner()
    for path, text in transcripts:
        if not path.exists():
            continue
        audio = read_audio(path)
        if not SHORTEST <= len(audio) / SAMPLE_RATE <= LONGEST:
            continue
        try:
            words = [aligner.entry(word) for word in pronounce(text, language)]
            yield aligner.align(audio, words)
        except AlignmentError:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--voices", nargs="*", help="as prompts_fr; all by default")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sources: dict[str, tuple[Callable[[Path, str], Transcripts], str, str]]
    sources = {f"prompts_{key}": (prompts, key, name) for key, name in PROMPTS.items()}
    sources |= {f"dialogues_{key}": (dialogues, key, name) for key, name in DIALOGUES.items()}
    sources["reading_en"] = (reading, "en", "en-us")
    for index, (voice, (read, key, language)) in enumerate(sources.items()):
        if arguments.voices and voice not in arguments.voices:
            continue
        aligned = list(clips(read(arguments.packages, key), language))
        scores = np.array([score for _, score in aligned])
        median = np.median(scores)
        lowest = median - DEVIATIONS * np.median(np.abs(scores - median))
        kept = [clip for clip, score in aligned if score >= lowest]
        write_stream(arguments.out / voice, iter(kept), 100 + index)
        minutes = sum(len(clip.audio) for clip in kept) / SAMPLE_RATE / 60
        print(f"{voice}: {len(kept)} of {len(aligned)} clips, {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()
