"""Prepared sets under training: damaged shards, the order of clips, URLs."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import tarfile
import threading
from pathlib import PureWindowsPath

import pytest
from aai_pack.aai_models.align.data.shards import ShardSet
from aai_pack.aai_models.errors import DataError
from aai_pack.tests.unit.align_sets import make_set, run, shard_source, small_config


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("prepared"))


class TestShards:
    def test_a_shard_cut_short_and_a_damaged_member(self, tmp_path, prepared):
        place = tmp_path / "set"
        place.mkdir()
        for path in prepared.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        cut, damaged, *_ = sorted(place.glob("train-*.tar"))
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        with tarfile.open(damaged) as tar:
            members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]
        with tarfile.open(damaged, "w") as tar:
            for name, data in members:
                if name.endswith(".wav") and data is next(d for n, d in members if n.endswith(".wav")):
                    data = b"no sound"
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        config = small_config(batch=4, epochs=1)
        result, said = run(tmp_path / "run", shard_source(place, config), config)
        text = "\n".join(said)
        assert result.finished and result.steps == 3  # of 20 clips 4 are cut off and one is no sound
        assert "is cut short or damaged" in text and "cannot be read as a sound" in text, text

    def test_order_is_drawn_by_the_epoch_and_shared_by_ranks(self, prepared):
        config = small_config()
        source = shard_source(prepared, config)

        def keys(epoch, rank=0, size=1, skip=0):
            return [item.key for item in source.train(epoch, rank, size, skip)]

        assert keys(0) == keys(0) != keys(1) and sorted(keys(0)) == sorted(keys(1)) and len(keys(0)) == 20
        assert keys(0, skip=7) == keys(0)[7:]
        halves = [keys(0, rank, 2) for rank in range(2)]
        assert sorted(halves[0] + halves[1]) == sorted(keys(0)) and not set(halves[0]) & set(halves[1])
        assert source.steps(0, 4, 2) == min(map(len, halves)) // 2
        assert len(list(source.heldout(0, 1))) == 4

    @pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset fetches URLs with curl")
    def test_from_a_url(self, prepared):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(prepared))
        handler.log_message = lambda *_: None
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            shards = ShardSet.open(f"http://127.0.0.1:{server.server_address[1]}/")
            far = [raw["note"].id for raw in shards.raw("train")]
            server.shutdown()
        assert far == [raw["note"].id for raw in ShardSet.open(str(prepared)).raw("train")] and not shards.damaged

    def test_a_path_with_a_drive(self, tmp_path, prepared, monkeypatch):
        """A drive's letter is no scheme of a URL. Elsewhere than on Windows this is the name of a folder."""
        place = str(PureWindowsPath("C:/", "my sets", "dogs #1"))
        monkeypatch.chdir(tmp_path)
        shutil.copytree(prepared, tmp_path / place)
        shards = ShardSet.open(f"{place}/")
        there = [raw["note"].id for raw in shards.raw("train")]
        assert there == [raw["note"].id for raw in ShardSet.open(str(prepared)).raw("train")] and not shards.damaged
        (tmp_path / f"{place}/{shards.shards('train')[0]['name']}").unlink()
        assert len(list(shards.raw("train"))) < len(there) and "FileNotFoundError" in shards.damaged[0]

    def test_what_is_no_set(self, tmp_path, prepared):
        with pytest.raises(DataError, match=r"not a prepared training set.*aai_models\.align prepare"):
            ShardSet.open(str(tmp_path))
        with pytest.raises(DataError, match=r"has no split 'test'.*It has train, val"):
            list(ShardSet.open(str(prepared)).raw("test"))
