"""What it costs to take ten seconds out of a two-hour recording."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS, RATE = 7200, 48_000
WRITE = """
import sys, wave, numpy
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(2); file.setsampwidth(2); file.setframerate(48000)
    noise = (numpy.random.default_rng(0).standard_normal((48000 * 10, 2)) * 3000).astype("<i2").tobytes()
    for _ in range(720): file.writeframes(noise)
"""
READ = """
import resource, sys, time
import av, numpy, torch
from aai_models.audio.decode import decode_audio
warm = decode_audio(sys.argv[1], start=0.0, duration=0.1)
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
waveform, rate = decode_audio(sys.argv[1], start=5400.0, duration=10.0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024, time.perf_counter() - started, waveform.shape[1])
"""


def measure(version: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.wav")
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
        size = path.stat().st_size / 2**20
        done = subprocess.run([sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True)
    memory, seconds, samples = (float(value) for value in done.stdout.split())
    assert samples == 10 * RATE
    return {
        "title": f"decode: ten seconds at 1:30:00 of a two-hour stereo wav ({size:.0f} MB)",
        "columns": ["peak memory above idle (MB)", "milliseconds"],
        "rows": [[f"{memory:.1f}", f"{1000 * seconds:.1f}"]],
        "goal": "under 100 MB",
    }
