"""Recordings for demonstration: what sounds like somebody speaking on a telephone, as WAV with G.711 mu-law.

The samples of a few voices are reckoned once; a recording is a row of their syllables, so that thousands are made in
seconds. WAV: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), with the ``fact`` chunk that a
form other than PCM needs; mu-law: ITU-T G.711.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass
from functools import lru_cache

RATE_HZ = 8000
"""Samples, and with mu-law bytes, a second."""

_MULAW = 7  # WAVE_FORMAT_MULAW, RFC 2361
_BIAS, _CLIP = 132, 32635  # G.711
_SILENCE = b"\xff"
_VOICES_HZ = (98, 124, 186, 224)
_FORMANTS_HZ = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (390, 1990, 2550),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (490, 1350, 1690),
    (660, 1720, 2410),
)
"""The first three resonances of vowels, after Peterson and Barney (1952)."""
_SYLLABLES_MS = (110, 170, 240)
_PAUSES_MS = (20, 40, 60, 90, 350)
_LOUDEST = 9000.0


def encode_mulaw(sample: int) -> int:
    """Return the mu-law byte of a sample of 16 bits."""
    sign, size = (0x80, -sample) if sample < 0 else (0, sample)
    size = min(size, _CLIP) + _BIAS
    exponent = size.bit_length() - 8
    return ~(sign | exponent << 4 | size >> exponent + 3 & 0x0F) & 0xFF


def make_wav(samples: bytes) -> bytes:
    """Return a WAV file of mu-law samples, one channel at 8 kHz."""
    form = struct.pack("<HHIIHHH", _MULAW, 1, RATE_HZ, RATE_HZ, 1, 8, 0)
    padding = b"\0" * (len(samples) % 2)  # a chunk begins at an even place; the padding does not count
    chunks = _chunk(b"fmt ", form) + _chunk(b"fact", struct.pack("<I", len(samples))) + _chunk(b"data", samples)
    return _chunk(b"RIFF", b"WAVE" + chunks + padding)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


@dataclass(frozen=True, slots=True)
class Sounds:
    """The syllables of each voice, hisses and tones, as mu-law."""

    voices: tuple[tuple[bytes, ...], ...]
    hisses: tuple[bytes, ...]
    beep: bytes

    def speak(self, chance: random.Random, length_s: float) -> bytes:
        """Return about ``length_s`` seconds of somebody who speaks and then a tone: mu-law samples."""
        voice = chance.choice(self.voices)
        parts: list[bytes] = []
        left = max(1, int(length_s * RATE_HZ) - len(self.beep))
        while left > 0:
            if chance.random() < 0.4:
                parts.append(chance.choice(self.hisses))
            parts.append(chance.choice(voice))
            parts.append(_SILENCE * (chance.choice(_PAUSES_MS) * RATE_HZ // 1000))
            left -= sum(map(len, parts[-3:]))
        return b"".join(parts) + self.beep


@lru_cache(maxsize=1)
def make_sounds(seed: int) -> Sounds:
    """Reckon the sounds; takes some tenths of a second, and 200 KiB while they are remembered."""
    chance = random.Random(f"sounds {seed}")  # noqa: S311 - plausible, not secret
    code = bytes(encode_mulaw(sample) for sample in range(-_CLIP, _CLIP + 1))
    voices = tuple(
        tuple(
            _encode(code, _syllable(pitch, formants, milliseconds, chance))
            for formants in _FORMANTS_HZ
            for milliseconds in _SYLLABLES_MS
        )
        for pitch in _VOICES_HZ
    )
    hisses = tuple(_encode(code, _hiss(milliseconds, chance)) for milliseconds in (30, 50, 80) for _ in range(3))
    step = 2 * math.pi * 1000 / RATE_HZ
    beep = [0.3 * _swell(at, 1600) * math.sin(step * at) for at in range(1600)]
    return Sounds(voices, hisses, _encode(code, beep))


def _encode(code: bytes, samples: list[float]) -> bytes:
    """Return samples from -1 to 1 as mu-law."""
    return bytes(code[_CLIP + int(_LOUDEST * max(-1.0, min(1.0, sample)))] for sample in samples)


def _swell(at: int, count: int) -> float:
    """Return how loud a sound of ``count`` samples is at a sample: it rises and falls, so that nothing clicks."""
    edge = count // 4
    return min(1.0, at / edge, (count - at) / edge)


def _syllable(pitch_hz: float, formants_hz: tuple[int, ...], milliseconds: int, chance: random.Random) -> list[float]:
    """Return a vowel: the harmonics of the pitch, loud near the resonances; the pitch glides a little."""
    count = milliseconds * RATE_HZ // 1000
    loudness = []
    for harmonic in range(1, int(3200 / pitch_hz)):
        gaps = [abs(harmonic * pitch_hz - formant) for formant in formants_hz]
        loudness.append(sum(0.5**place / (1 + (gap / 110) ** 2) for place, gap in enumerate(gaps)))
    wanted = [(harmonic, each) for harmonic, each in enumerate(loudness, 1) if each > 0.04]
    scale, glide = 1 / sum(each for _, each in wanted), chance.uniform(-0.12, 0.12)
    samples = []
    for at in range(count):
        phase = 2 * math.pi * pitch_hz * at / RATE_HZ * (1 + glide * at / count)
        samples.append(scale * _swell(at, count) * sum(each * math.sin(harmonic * phase) for harmonic, each in wanted))
    return samples


def _hiss(milliseconds: int, chance: random.Random) -> list[float]:
    count = milliseconds * RATE_HZ // 1000
    return [0.15 * _swell(at, count) * chance.uniform(-1, 1) for at in range(count)]
