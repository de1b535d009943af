"""Devices as people have them: asked for by name, and some without float64 or sums of int64, as Apple's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from aai_pack.aai_models import devices
from aai_pack.aai_models.adapt.bridge import fit, nearest_words, towards_words
from aai_pack.aai_models.adapt.phi import fit_phi
from aai_pack.aai_models.adapt.token import lift
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.losses import align_terms
from aai_pack.aai_models.align.metrics import accuracy, linear_probe, retrieval
from aai_pack.aai_models.align.train.trainer import fingerprint
from aai_pack.aai_models.audio.fbank import encoder_input
from aai_pack.aai_models.audio.loudness import integrated, to_scale
from aai_pack.aai_models.errors import DeviceError
from torch.nn.functional import normalize

SUMS = {"sum", "cumsum", "prod", "bincount", "histc"}


class OnAnotherDevice(torch.Tensor):
    """A tensor that refuses what PyTorch refuses on MPS, until it is brought to the processor."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_cpu = func is torch.Tensor.cpu or (func is torch.Tensor.to and "cpu" in [str(a) for a in args[1:]])
        if to_cpu:
            plain = [a.as_subclass(torch.Tensor) if isinstance(a, torch.Tensor) else a for a in args]
            return func(*plain, **kwargs)
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if func.__name__ in SUMS and first is not None and not first.is_floating_point() and "dtype" not in kwargs:
            raise TypeError(f"MPS does not support {func.__name__} of {first.dtype}")
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, OnAnotherDevice) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return result


def moved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().as_subclass(OnAnotherDevice)


def unit(seed: int, *shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_stand_in_refuses_what_the_device_refuses():
    x = moved(torch.ones(3))
    for work in (x.double, lambda: x.to(torch.float64), lambda: (x > 0).sum(), lambda: x.long().cumsum(0)):
        with pytest.raises(TypeError, match="MPS"):
            work()
    assert x.cpu().double().sum() == 3 and float(x.float().sum()) == 3 and type(x.to("cpu")) is torch.Tensor


def test_figures_of_an_evaluation():
    a, v = unit(0, 20, 8), unit(1, 20, 8)
    labels = torch.arange(20) % 4
    assert retrieval(moved(a), moved(v)) == retrieval(a, v)
    assert accuracy(moved(a), moved(v[:4]), moved(labels)).tolist() == accuracy(a, v[:4], labels).tolist()
    assert linear_probe(*map(moved, (a, labels, v, labels))) == linear_probe(a, labels, v, labels)


def test_a_step_of_align():
    a, t, v, m = (unit(n, 6, 5) for n in range(4))
    labels, seen = torch.tensor([0, 0, 1, 2, 3, 3]), torch.tensor([True, True, False, True, True, True])
    ours = align_terms(*map(moved, (a, t, v, m)), labels=moved(labels), a_momentum=moved(a), seen=moved(seen))
    here = align_terms(a, t, v, m, labels=labels, a_momentum=a, seen=seen)
    assert float(ours.total(0.4)) == float(here.total(0.4))
    weights = torch.nn.Linear(3, 4)
    there = SimpleNamespace(parameters=lambda: map(moved, weights.parameters()), state_dict=weights.state_dict)
    assert fingerprint(there) == fingerprint(weights)


@pytest.mark.parametrize("how", [fit, fit_phi])
def test_a_bridge(how):
    features, rows = unit(0, 200, 16), {"clip_l": torch.randn(200, 24, generator=torch.Generator().manual_seed(1))}
    here = how(features, rows, error=0.3)
    there = how(moved(features), {key: moved(r) for key, r in rows.items()}, error=0.3)
    assert here.figures == there.figures and type(there.weights["clip_l"]) is torch.Tensor
    assert torch.equal(here.carry(features[0])["clip_l"], there.carry(features[0])["clip_l"])
    direction, table = unit(2, 24), rows["clip_l"]
    assert float(towards_words(moved(direction), moved(table), 0.5)[0]) == float(
        towards_words(direction, table, 0.5)[0]
    )
    names = [str(n) for n in range(200)]
    assert nearest_words(moved(direction), moved(table), names) == nearest_words(direction, table, names)


def test_a_word_of_another_width():
    feature = unit(0, 768)
    assert lift(moved(feature), 1280).tolist() == lift(feature, 1280).tolist()


def test_a_sound():
    sound = 0.1 * torch.randn(1, 2, 30_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(integrated(moved(sound), 22_050), integrated(sound, 22_050))
    policies = {"level": "normalised", "long_clip": "loudest"}
    assert torch.equal(encoder_input(moved(sound), 22_050, **policies), encoder_input(sound, 22_050, **policies))
    assert float(to_scale(moved(torch.tensor([-13.0])))) == 2.0


class TestByName:
    def test_what_is_there(self, monkeypatch):
        monkeypatch.setattr(devices, "_accelerator", lambda: None)
        assert devices.find_device("auto") == devices.find_device("cpu") == torch.device("cpu")
        for name in ("cuda", "mps", "cuda:1", "gpu"):
            with pytest.raises(DeviceError, match=rf"'{name}' is not available.*can use auto, cpu\."):
                devices.find_device(name)

    @pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
    def test_another_kind(self, monkeypatch, kind):
        monkeypatch.setattr(devices, "_accelerator", lambda: kind)
        monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(device_count=lambda: 2))
        monkeypatch.setenv("LOCAL_RANK", "1")
        own = torch.device("mps") if kind == "mps" else torch.device(kind, 1)
        assert devices.find_device("auto") == devices.find_device(kind) == own
        assert devices.find_device(f"{kind}:0") == torch.device(kind, 0)
        assert devices.find_device("cpu") == torch.device("cpu")
        with pytest.raises(DeviceError, match=rf"{kind}:2 is not available. There are 2"):
            devices.find_device(f"{kind}:2")

    def test_a_command_says_it_in_a_line(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(devices, "_accelerator", lambda: None)
        assert main(["train", str(tmp_path), str(tmp_path / "out"), "--device=cuda"]) == 1
        assert "'cuda' is not available" in capsys.readouterr().err

    def test_a_processor_is_asked_for_bf16(self, monkeypatch):
        cpu = torch.device("cpu")
        for instructions, expected in (({"avx512_bf16": True}, True), ({"avx2": True, "amx_bf16": False}, False)):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=instructions: known, raising=False)
            assert devices.has_bf16(cpu) is expected
        monkeypatch.delattr(torch.cpu, "get_capabilities")
        assert devices.has_bf16(cpu) is False
