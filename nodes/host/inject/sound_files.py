"""Words of a folder of recordings, each made when it is first needed."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ....aai_models.adapt.label_list import read_list
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.aligned_text import HasAlignedText, HasLabels
from ....aai_models.audio.decode import decode_part
from ....aai_models.audio.heard import require_heard
from ....aai_models.audio.waveform import as_waveform
from ....aai_models.errors import EditError, LibraryError
from ....aai_models.inject.batch import natural_key
from ....aai_models.walk import Walk
from ..adapt.bridge import require_aligned
from ..adapt.sound_word import WordSettings, make_word
from ..base import folders, walks
from ..base.digest import identify
from ..base.messages import tell
from ..hear.features import hear

SECONDS = 10.24  # of a recording that are used
WAY = f"labels {read_list('').digest}"  # of the word: pictures that were made another way are made again


@dataclass(frozen=True)
class SoundFile:
    """A recording that becomes a word without training."""

    path: Path
    encoder: object  # of `hear.encoders.HOSTED`
    clip: object
    vocabulary: int = 0
    heard_by: str = ""  # a hash of the encoder

    def word(self) -> AudioToken:
        """Encode the recording.

        Raises `AudioError` for files that are no sound or silent, `TokenError` for encoders that do not fit.
        """
        part = decode_part(self.path, duration=SECONDS)
        sound, sample_rate = as_waveform({"waveform": part.waveform.unsqueeze(0), "sample_rate": part.sample_rate})
        require_heard(sound, sample_rate, name=self.path.name)
        if part.damaged or part.missing:
            tell(f"{self.path.name}: {part.notes()[0]}")
        feature = hear(self.encoder, sound, sample_rate, short_clip="tile", long_clip="first")
        token, said = make_word(self.clip, feature, 1.0, WordSettings(vocabulary=self.vocabulary))
        if token.metadata.get("bridge") == "labels":
            tell(f"{self.path.name}: {' '.join(said.splitlines()[:2])}")
        return token

    def identity(self) -> str:
        """Changes with the file and the encoder; encodes nothing."""
        status = self.path.stat()
        known = f"{self.path} {status.st_size} {status.st_mtime_ns} {self.heard_by} {self.vocabulary} {WAY}"
        return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()


def sound_files(folder: str, encoder, clip, vocabulary: int = 0) -> dict[str, SoundFile]:
    """Recordings of a folder by name, without suffix where that is enough. Raises `EditError`, `LibraryError`,
    and `TokenError` for an encoder whose sounds become no words without training."""
    path = folders.picture_folder(folder)
    if encoder is None:
        raise EditError(
            "There is a folder of sounds but no audio encoder",
            "The audio encoder turns sounds into words",
            "Connect Load Audio Encoder (AAI) to `cavt`",
        )
    if not isinstance(encoder, (HasAlignedText, HasLabels)):
        require_aligned(encoder.aligned_with, encoder.name)
    walk = walks.open_walk(path)
    found = _recordings(walk)
    if walk.outside:
        tell(
            f"Left out of the sounds: {len(walk.outside)} links, which lead out of the folders that this server may read."
        )
    if not found:
        raise EditError(
            f"{path.name} holds no recording", "It must be a folder of wav, flac, mp3, ... files", "Correct `sounds`"
        )
    stems, heard_by = Counter(p.stem for p in found), identify(encoder.patcher, encoder.name, encoder.centre).digest
    return {p.stem if stems[p.stem] == 1 else p.name: SoundFile(p, encoder, clip, vocabulary, heard_by) for p in found}


def sounds_fingerprint(folder: str | None) -> str:
    """Changes when a recording of the folder comes, goes or changes."""
    if not (folder or "").strip():
        return ""
    try:
        found = _recordings(walks.quiet_walk(folders.picture_folder(folder)))
        return repr([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in found])
    except (LibraryError, OSError) as error:
        return str(error)
    except walks.WalkCancelledError:
        return uuid.uuid4().hex


def _recordings(walk: Walk) -> list[Path]:
    """Sounds of a folder, not of those in it, in natural order, without hidden files (`._*` of macOS are no sounds)."""
    _, _, names = next(iter(walk))
    found = [walk.folder / name for name in folders.sounds_among(names) if not name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=natural_key)
