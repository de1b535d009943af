"""Where files are: model folders, the input folder, the places that the pack writes to."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path

import folder_paths

from ....aai_models.align.audiotoken.files import audiotoken_folder
from ....aai_models.align.foreign_files import is_training_file
from ....aai_models.align.imagebind_files import find_weights
from ....aai_models.align.library import INDEX_NAME, find_pictures
from ....aai_models.audio.decode import SUFFIXES
from ....aai_models.errors import CheckpointError, LibraryError, TokenError
from . import places, walks

CAVT_FOLDER, ENCODERS_FOLDER = "cavt_mae", "audio_encoders"
WEIGHTS = (".pth", ".safetensors", ".pt")  # suffixes of files among which ImageBind is looked for
TRAINING_FILES = (".pth", ".pt")  # and of those that CLAPs were trained with
# Which the host counts among sounds, though they hold none: notes, and lists of other files.
NO_SOUND = (".mid", ".midi", ".kar", ".rmi", ".m3u", ".m3u8", ".pls", ".swf")
HASH_WHOLE_FILE = 64 * 2**20  # bytes; of a larger file the ends, the size and the time tell changes
# Folders of pictures that come with the pack, by the name to write in a `folder` input.
PACK = Path(__file__).resolve().parents[3]
SHIPPED_FOLDERS = {"pocket pictures": PACK / "pocket/pictures/things", "pocket photos": PACK / "pocket/pictures/photos"}
NAME = re.compile(r"^\w[\w.+-]{0,79}$", re.ASCII)
RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def register() -> None:
    """Tell ComfyUI about the model folder of CAVT-MAE files; entries of extra_model_paths.yaml stay."""
    folder = os.path.join(folder_paths.models_dir, CAVT_FOLDER)
    table = folder_paths.folder_names_and_paths
    paths, suffixes = table.get(CAVT_FOLDER, ([], set()))
    paths = [*paths] if folder in paths else [*paths, folder]
    table[CAVT_FOLDER] = (paths, set(suffixes) | {".safetensors", ".pth", ".pt"})
    places.register()


def encoder_names() -> list[str]:
    """Files of models/cavt_mae, then what models/audio_encoders holds as `audio_encoders/NAME`: folders with a config.json,
    ImageBind's file, AudioToken, in a folder of its own or loose, and training files of a CLAP, which say what to get in
    their place."""
    found = [
        f"{ENCODERS_FOLDER}/{path.name}"
        for base in _encoder_folders()
        for path in sorted(base.iterdir())
        if _is_encoder(path)
    ]
    return [*folder_paths.get_filename_list(CAVT_FOLDER), *dict.fromkeys(found)]


def _is_encoder(path: Path) -> bool:
    if path.is_dir():
        return (path / "config.json").is_file() or audiotoken_folder(path) is not None
    if audiotoken_folder(path) is not None or (path.suffix in WEIGHTS and find_weights(path) is not None):
        return True
    return path.suffix in TRAINING_FILES and is_training_file(path)


def _encoder_folders() -> list[Path]:
    """Where the host looks for audio encoders; it knows the folder itself in newer versions."""
    known = folder_paths.folder_names_and_paths.get(ENCODERS_FOLDER, ([],))[0]
    bases = [Path(path) for path in [*known, os.path.join(folder_paths.models_dir, ENCODERS_FOLDER)]]
    return [base for base in dict.fromkeys(bases) if base.is_dir()]


def encoder_path(name: str) -> str:
    """The file or folder of a name that `encoder_names` gave; raises `CheckpointError` for any other."""
    path = None
    if name in encoder_names():
        plain = name.removeprefix(f"{ENCODERS_FOLDER}/")
        found = [base / plain for base in _encoder_folders() if _is_encoder(base / plain)]
        path = str(found[0]) if found and name != plain else folder_paths.get_full_path(CAVT_FOLDER, name)
    if path is None:
        raise CheckpointError(
            f"There is no file {name!r} in models/{CAVT_FOLDER}",
            f"Found there: {', '.join(encoder_names()) or 'nothing'}",
            "Put the checkpoint into that folder and press R in ComfyUI",
        )
    return path


def audio_files() -> list[str]:
    """Sound and video files of the input folder, sorted: those that the host's own loader lists, and other kinds."""
    folder = folder_paths.get_input_directory()
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(sounds_among(names))


def sounds_among(names: list[str]) -> list[str]:
    """The names of sounds, and of videos with their sound."""
    listed = set(folder_paths.filter_files_content_types(names, ["audio", "video"]))
    return [
        name
        for name in names
        if (name in listed or name.lower().endswith(SUFFIXES))
        and not name.lower().endswith(NO_SOUND)
        and not name.startswith("._")  # what macOS leaves beside a file
    ]


def input_problem(name: str | None) -> str | None:
    """Why a file of the input folder cannot be used, as one or two sentences; None if it can."""
    if not name:
        return "No sound is chosen. Upload one, or put a recording into ComfyUI's input folder."
    plain, base = folder_paths.annotated_filepath(name)
    base = os.path.abspath(base or folder_paths.get_input_directory())
    path = os.path.abspath(os.path.join(base, plain))
    elsewhere = "\0" in name or os.path.isabs(plain) or os.path.splitdrive(plain)[0]
    if not elsewhere:
        elsewhere = os.path.commonpath([base, path]) != base or not _stays_in(base, path)
    if elsewhere:
        return (
            f"{name!r} points outside ComfyUI's folders. Choose a file of the input folder, without '..' in its name."
        )
    if not os.path.isfile(path):
        return f"There is no file {plain!r} in {os.path.basename(base)}. Upload the recording again, or choose another."
    if os.path.getsize(path) == 0:
        return f"{plain!r} is empty (0 bytes). Upload the recording again."
    return None


def _stays_in(base: str, path: str) -> bool:
    """Whether links lead where a prompt may read; `base` is a folder that the host itself lets a browser read."""
    real = os.path.realpath(path)
    return os.path.commonpath([os.path.realpath(base), real]) == os.path.realpath(base) or places.may_read(real)


def input_path(name: str) -> str:
    """The path of an input file that passed `input_problem`."""
    plain, base = folder_paths.annotated_filepath(name)
    return os.path.abspath(os.path.join(base or folder_paths.get_input_directory(), plain))


def listed_path(kind: str, name: str | None) -> str | None:
    """The path of a file that the host lists under a kind of model folder ("checkpoints"); None for any other name."""
    return folder_paths.get_full_path(kind, name) if name in folder_paths.get_filename_list(kind) else None


def listed_fingerprint(kind: str, name: str) -> str:
    """A hash of such a file's content; the name where there is none."""
    path = listed_path(kind, name)
    return file_fingerprint(path) if path else str(name)


def file_fingerprint(path: str) -> str:
    """A hash of the file's content, so that a changed recording runs again and an unchanged one does not."""
    status = os.stat(path)
    digest = hashlib.sha256(str(status.st_size).encode())
    with open(path, "rb") as file:
        if status.st_size <= HASH_WHOLE_FILE:
            digest.update(file.read())
        else:
            digest.update(file.read(2**20))
            file.seek(-(2**20), os.SEEK_END)
            digest.update(file.read())
            digest.update(str(status.st_mtime_ns).encode())
    return digest.hexdigest()


def require_name(name: str) -> str:
    """A token's name that is safe as a file name and works after `embedding:`; raises `TokenError` otherwise."""
    plain = name.strip()
    if not NAME.match(plain) or plain.endswith(".") or ".." in plain or RESERVED.match(plain):
        raise TokenError(
            f"{name!r} cannot be a token's name",
            "A name has 1 to 80 letters a-z, digits, '-', '_', '.' or '+', and no space, slash or '..'",
            "Choose another name, for instance 'thunder-1'",
        )
    return plain


def embeddings_folder() -> Path:
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def partial_tokens_folder() -> Path:
    """Where the best token of a run that was cancelled or failed is kept."""
    return Path(folder_paths.get_output_directory()) / "aai_tokens"


def trainings_folder() -> Path:
    """Where training runs are kept while they go on, and after."""
    return Path(folder_paths.get_output_directory()) / "aai_training"


def unquoted(name: str) -> str:
    """A path without the quotes that "Copy as path" of Windows and terminals put around it."""
    plain = name.strip()
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'"
    return plain[1:-1].strip() if quoted else plain


def picture_folder(name: str) -> Path:
    """A folder of pictures or recordings. Raises `LibraryError` if there is none, or none that a prompt may read.

    `name` is a whole path, a name inside ComfyUI's input folder ("NAME [output]" in the output folder, as the host's own
    loaders spell it), one that comes with the pack, or begins with the last part of a folder that the server's operator named.
    """
    unmarked = name.strip() if "\0" not in name else ""
    path = _folder_of(unmarked)
    if path is None:  # a name may have quotes of its own
        unmarked = unquoted(unmarked)
        path = _folder_of(unmarked) or SHIPPED_FOLDERS.get(unmarked)
    if not unmarked or path is None:
        raise LibraryError(
            f"There is no folder {unquoted(name)!r}",
            "`folder` is a folder of pictures: a whole path, or a name inside ComfyUI's input folder",
            f"Correct the name, or put pictures into such a folder. To try it, write {' or '.join(SHIPPED_FOLDERS)}: they "
            "come with the pack",
        )
    return path.resolve()


def _folder_of(name: str) -> Path | None:
    plain, base = folder_paths.annotated_filepath(name)
    first, *rest = Path(plain).parts or ("",)
    candidates = [Path(folder_paths.get_input_directory(), name)]  # an absolute path stands for itself
    candidates += [Path(base, plain)] if base else []
    candidates += [Path(places.named()[first], *rest)] if first in places.named() else []
    for path in candidates:
        places.require_readable(path, name)
        if os.path.isdir(path):  # pathlib's own raises for a name that is too long
            return path
    return None


def folder_fingerprint(name: str | None) -> str:
    """Changes when a picture of the folder comes, goes or changes, so that the node runs again exactly then."""
    try:
        found = sorted(find_pictures(walks.quiet_walk(picture_folder(name or ""))))
    except LibraryError as error:
        return str(error)
    except walks.WalkCancelledError:
        return uuid.uuid4().hex
    return hashlib.sha256(repr(found).encode("utf-8", "surrogateescape")).hexdigest()


def library_index(folder: Path) -> Path:
    """Where the index of a folder is: in it, if one was built there, else in ComfyUI's user folder."""
    beside = folder / INDEX_NAME
    if beside.is_file():
        return beside
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(folder_paths.get_user_directory()) / "aai_libraries" / f"{digest}.safetensors"
