"""What a prompt may read on a server that others reach, and what its messages say of the machine."""

from __future__ import annotations

import os

import comfy.cli_args
import comfy.model_management as mm
import folder_paths
import pytest
from aai_pack.aai_models.errors import LibraryError, TokenError
from aai_pack.aai_models.walk import Walk
from aai_pack.devtools.client import Client
from aai_pack.devtools.hosts import ROOT
from aai_pack.devtools.server import Server, Workspace
from aai_pack.nodes.host.base import folders, places, short_paths, walks
from aai_pack.nodes.host.inject.photo_folder import find_photos
from comfy_api.latest import io
from PIL import Image


def paint(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path)
    return path


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Input and output folders of a test's own, with a folder of pictures in each."""
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    paint(tmp_path / "input" / "pets" / "cat.png")
    paint(tmp_path / "output" / "drawn" / "dog.png")
    paint(tmp_path / "private" / "secret.png")
    paint(tmp_path / "shelf" / "birds" / "owl.png")
    return tmp_path


@pytest.fixture
def shared(inputs, monkeypatch):
    """As with --listen."""
    monkeypatch.setattr(comfy.cli_args.args, "listen", "0.0.0.0,::")
    return inputs


@pytest.mark.parametrize(
    ("listen", "confined"),
    [
        ("127.0.0.1", False),
        ("127.2.3.4,::1", False),
        ("localhost", False),
        ("0.0.0.0,::", True),
        ("127.0.0.1,192.168.1.5", True),
        ("my-machine", True),
    ],
)
def test_who_reaches_the_server_decides(monkeypatch, listen, confined):
    monkeypatch.setattr(comfy.cli_args.args, "listen", listen)
    assert places.is_confined() == confined


def test_several_users_or_named_folders_confine_too(monkeypatch):
    assert not places.is_confined()
    monkeypatch.setattr(comfy.cli_args.args, "multi_user", True)
    assert places.is_confined()
    monkeypatch.setattr(comfy.cli_args.args, "multi_user", False)
    monkeypatch.setattr(places, "_named", ["/srv/pictures"])
    assert places.is_confined()


def test_a_person_at_the_machine_reads_every_folder_of_theirs(inputs):
    (inputs / "input" / "link").symlink_to(inputs / "private")
    for name in (str(inputs / "private"), "link", "../private", f'"{inputs / "private"}"'):
        assert folders.picture_folder(name) == inputs / "private"


def test_a_shared_server_reads_input_and_output(shared):
    assert folders.picture_folder("pets") == shared / "input" / "pets"
    assert folders.picture_folder("drawn [output]") == shared / "output" / "drawn"
    assert folders.picture_folder(str(shared / "output" / "drawn")) == shared / "output" / "drawn"
    assert folders.picture_folder("../output") == shared / "output"


def outside(shared) -> list[str]:
    (shared / "input" / "link").symlink_to(shared / "private")
    (shared / "input" / "deep").symlink_to("/")
    twin = shared / "input-2"  # begins with the name of an allowed folder
    paint(twin / "x.png")
    names = ["/", "/etc", str(shared / "private"), "../private", "link", f"deep{shared}/private", str(twin)]
    return [*names, "../../..", f'"{shared / "private"}"', "pets/../../private", "../private [output]"]


def test_nothing_else(shared):
    told = []
    for name in outside(shared):
        with pytest.raises(LibraryError, match="is not one that this server lets workflows read") as caught:
            folders.picture_folder(name)
        told.append(str(caught.value).replace(repr(folders.unquoted(name)), ""))
        assert folders.folder_fingerprint(name) == str(caught.value), "and it is not walked through"
    with pytest.raises(LibraryError) as caught:
        folders.picture_folder(str(shared / "no such folder"))
    assert "is not one that" in str(caught.value), "whether there is anything there is not told"
    assert all(str(shared) not in text for text in told)


def test_nothing_outside_is_touched(shared, monkeypatch):
    """To look at a path of another machine is to sign in there."""
    touched = []

    def note(path, *_, real, **options):
        touched.append(os.fspath(path))
        return real(path, *_, **options)

    for name in ("stat", "lstat", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, real=real, **k: note(path, *a, real=real, **k))
    with pytest.raises(LibraryError):
        folders.picture_folder("/elsewhere/share/photos")
    assert not [path for path in touched if path.startswith("/elsewhere")]


def test_folders_that_the_operator_names(shared, monkeypatch):
    folder_paths.add_model_folder_path(places.KEY, str(shared / "shelf"))
    monkeypatch.setattr(places, "_named", [])
    places.register()
    assert places.KEY not in folder_paths.folder_names_and_paths, "the host lists the files of what stands there"
    for name in (str(shared / "shelf"), "shelf", "shelf/birds", str(shared / "shelf" / "birds")):
        assert folders.picture_folder(name).is_relative_to(shared / "shelf")
    for name in ("shelf/../private", "shelf/../../..", str(shared / "private")):
        with pytest.raises(LibraryError, match="input and output folders, and shelf, with what is in them"):
            folders.picture_folder(name)
    with pytest.raises(LibraryError, match="There is no folder 'shelf/bears'"):
        folders.picture_folder("shelf/bears")
    monkeypatch.setattr(places, "_named", ["/"])
    assert folders.picture_folder(str(shared / "private")) == shared / "private", "an operator may name all of it"


def test_links_in_a_folder(shared, monkeypatch):
    pets = shared / "input" / "pets"
    (pets / "out").symlink_to(shared / "private")
    (pets / "out.png").symlink_to(shared / "private" / "secret.png")
    (pets / "in").symlink_to(shared / "output" / "drawn")
    (pets / "in.png").symlink_to(shared / "output" / "drawn" / "dog.png")
    (pets / "round").symlink_to(pets)
    names = lambda: {path.relative_to(pets).as_posix() for path in find_photos(pets, shared / "results").photos}  # noqa: E731
    assert names() == {"cat.png", "in.png", "in/dog.png"}
    assert "left out: 2 links" in "\n".join(find_photos(pets, shared / "results").lines())
    monkeypatch.setattr(comfy.cli_args.args, "listen", "127.0.0.1")
    assert names() == {"cat.png", "in.png", "in/dog.png", "out.png", "out/secret.png"}


def test_a_sound_behind_a_link(shared, monkeypatch):
    (shared / "input" / "out.wav").symlink_to(paint(shared / "private" / "s.png"))
    (shared / "input" / "in.wav").symlink_to(shared / "output" / "drawn" / "dog.png")
    assert "outside ComfyUI's folders" in folders.input_problem("out.wav")
    assert folders.input_problem("in.wav") is None
    monkeypatch.setattr(comfy.cli_args.args, "listen", "127.0.0.1")
    assert folders.input_problem("out.wav") is None


class TestWalks:
    @pytest.fixture
    def many(self, tmp_path):
        for folder in range(3):
            (tmp_path / str(folder)).mkdir()
            for index in range(50):
                (tmp_path / str(folder) / f"{index}.txt").touch()
        return tmp_path

    def test_a_limit(self, many):
        assert sum(len(files) for _, _, files in Walk(many, most=153)) == 150
        with pytest.raises(LibraryError, match="hold more than 152 files"):
            list(Walk(many, most=152))

    def test_progress_and_cancel(self, many, monkeypatch):
        told = []
        monkeypatch.setattr("aai_pack.aai_models.walk.TELL_EVERY", 40)
        monkeypatch.setattr(walks, "TELL_EVERY", 0.0)
        monkeypatch.setattr(walks, "tell_progress", told.append)
        list(walks.open_walk(many))
        assert told == ["40 files looked at", "80 files looked at", "120 files looked at"]
        mm.interrupt_current_processing()
        try:
            with pytest.raises(walks.WalkCancelledError):
                list(walks.quiet_walk(many))
            assert folders.folder_fingerprint(str(many)) != folders.folder_fingerprint(str(many))
            assert mm.processing_interrupted(), "the run that comes after is still cancelled"
            with pytest.raises(mm.InterruptProcessingException):
                list(walks.open_walk(many))
        finally:
            mm.interrupt_current_processing(False)

    def test_closed_folders_are_named(self, many, monkeypatch):
        look = os.scandir

        def refuse(path):
            if os.path.basename(path) == "1":
                raise PermissionError(13, "Permission denied", path)
            return look(path)

        monkeypatch.setattr(os, "scandir", refuse)
        walk = Walk(many)
        assert sum(len(files) for _, _, files in walk) == 100 and walk.closed == ["1"]


def shown_for(given: str, text: str) -> str:
    token = short_paths._given.set((given,))
    try:
        return short_paths.without_paths(text)
    finally:
        short_paths._given.reset(token)


def test_paths_in_messages(inputs, monkeypatch):
    monkeypatch.setattr(places, "_named", [str(inputs / "shelf")])
    (inputs / "my photos").symlink_to(inputs / "private")
    given = str(inputs / "my photos")
    for text, expected in {
        f"Could not write x.png into {inputs}/output/aai_tokens (full)": "Could not write x.png into output/aai_tokens (full)",
        f"cannot identify image file '{inputs}/input/pets/cat 1.png'": "cannot identify image file 'input/pets/cat 1.png'",
        f"{inputs}/shelf/birds is gone": "shelf/birds is gone",
        f"{inputs}/private/a b/c.png is gone": f"{given}/a b/c.png is gone",
        f"{given} is gone": f"{given} is gone",
        "[Errno 2] No such file: '/srv/no one/has a name/for.png'": "[Errno 2] No such file: 'for.png'",
        "see /etc/passwd, or C:\\Users\\me\\x.png or \\\\machine\\share\\y": "see passwd, or x.png or y",
        f"{ROOT}/pocket/weights/x is damaged": "comfyui-align-adapt-inject/pocket/weights/x is damaged",
        "3.1/s, and/or, 1 / 2, </s>, https://a.example/b, a \\(b\\), <A*>": "3.1/s, and/or, 1 / 2, </s>, "
        "https://a.example/b, a \\(b\\), <A*>",
    }.items():
        expected = expected.replace("comfyui-align-adapt-inject", short_paths.PACK.name)
        assert shown_for(given, text) == expected


def test_errors_and_texts_leave_a_node_without_paths(inputs):
    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(node_id="AAI_Test", inputs=[])

        @classmethod
        def execute(cls, kind, folder=""):
            if kind == "os":
                (inputs / "output" / "x" / "y").read_bytes()
            if kind == "ours":
                raise TokenError(f"{inputs / 'output'} is full", "It must have room", f"Free {inputs / 'private'}")
            if kind == "other":
                raise RuntimeError(f"bad file {inputs / 'private' / 'x'}", 3)
            return io.NodeOutput("a", ui={"text": [f"{inputs / 'output' / 'x'}, {folder}"]})

    short_paths.guard(short_paths.guard(Node))
    with pytest.raises(FileNotFoundError, match="directory: 'output/x/y'"):
        Node.execute(kind="os")
    with pytest.raises(TokenError) as caught:
        Node.execute(kind="ours")
    assert str(caught.value) == "output is full. It must have room. Free private."
    with pytest.raises(RuntimeError) as caught:
        Node.execute(kind="other")
    assert caught.value.args == ("bad file x", 3)
    given = str(inputs / "private")
    for answer in (Node.execute(kind="", folder=given), Node.execute("", given)):  # named, as by the host, or not
        assert answer.ui == {"text": [f"output/x, {given}"]}


@pytest.fixture(scope="module")
def open_server(host, tmp_path_factory):
    """A server in a process of its own, whose operator named one folder."""
    shelf = tmp_path_factory.mktemp("operator") / "shelf"
    paint(shelf / "owl.png")
    with Workspace() as workspace:
        paint(workspace.input / "pets" / "cat.png")
        (workspace.root / "extra.yaml").write_text(f"operator:\n  {places.KEY}: {shelf}\n", encoding="utf-8")
        options = ("--extra-model-paths-config", str(workspace.root / "extra.yaml"))
        with Server(host, workspace, arguments=options) as server:
            yield Client(server.url), workspace, shelf


def find(folder: str) -> dict:
    graph = {"1": {"class_type": "AAI_PocketModels", "inputs": {}}}
    graph["2"] = {
        "class_type": "AAI_PocketSound",
        "inputs": {"thing": "rooster", "loudness": 0.7, "seed": 1, "seconds": 2.56},
    }
    inputs = {"cavt": ["1", 3], "audio": ["2", 0], "short_clip": "tile", "long_clip": "first"}
    graph["3"] = {"class_type": "AAI_CAVTEncode", "inputs": inputs}
    inputs = {"cavt": ["1", 3], "audio_feature": ["3", 0], "folder": folder, "k": 1}
    inputs |= {"minimum_similarity": -1.0, "one_per_source": True}
    graph["4"] = {"class_type": "AAI_RetrieveImages", "inputs": inputs}
    graph["5"] = {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}
    return graph


def test_over_http(open_server):
    client, workspace, shelf = open_server
    for folder in ("/", "/etc", str(workspace.root / "models"), "../models"):
        run = client.run(find(folder))
        assert f"{folder!r} is not one that this server lets workflows read" in run.message
        own = run.message.replace(repr(folder), "")
        assert str(workspace.root) not in own and str(shelf) not in own
    for folder in ("pets", "shelf", str(shelf)):
        run = client.run(find(folder))
        assert run.status == "success" and len(run.files("5")) == 1, run.message
    assert places.KEY not in client.get("/models")
