"""The momentum teacher: which tensors move, where L_t is 0 by construction, how far the teacher lags."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_pack.aai_models.align.losses import align_loss, info_nce, momentum_kl
from aai_pack.aai_models.align.momentum import READINGS, TIED, Student, Teacher, explain, untie
from aai_pack.aai_models.errors import TrainingError

SMALL = CAVTMAEConfig(dim=64, patch=32, depth=1, mlp_dim=64, audio_tokens=128, image_tokens=49)


@pytest.fixture(scope="module")
def model():
    return CAVTMAE.fresh(SMALL, seed=1)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(4, 64, generator=generator), dim=-1)
    return torch.randn(4, 1024, 128, generator=generator), torch.randn(4, 3, 224, 224, generator=generator), text


def run(model, data, reading: str, steps: int = 3, alpha: float = 0.4):
    """A few steps of training -> student, teacher, L_t of each step."""
    fbank, pixels, text = data
    student = Student(model, reading)
    teacher = Teacher(student, momentum=0.5)
    optimizer = torch.optim.AdamW(student.trained().values(), lr=1e-2, weight_decay=0.02)
    states, history = student.picture_states(pixels), []
    for _ in range(steps):
        teacher.update()
        a, v = student.encode_audio(fbank), student.picture(states)
        v_momentum, a_momentum = teacher.picture(states), teacher.audio(fbank)
        history.append(momentum_kl(a, v, v_momentum, 0.05, a_momentum).item())
        optimizer.zero_grad()
        align_loss(a, text, v, v_momentum, 0.05, alpha, a_momentum=a_momentum).backward()
        optimizer.step()
    return student, teacher, history


def test_untied_towers_are_the_same_function(model, data):
    apart = untie(model)
    assert apart.config.shared_depth == 0 and apart.config.depth == 2
    for name, x in (("encode_audio", data[0]), ("encode_image", data[1])):
        torch.testing.assert_close(getattr(apart, name)(x), getattr(model, name)(x), rtol=0, atol=1e-6)
    again = CAVTMAE.from_state_dict(apart.state_dict())
    assert torch.equal(again.encode_audio(data[0]), apart.encode_audio(data[0]))


@pytest.mark.parametrize("reading", READINGS)
def test_only_what_should_move_moves(model, data, reading):
    student, _, _ = run(model, data, reading)
    begun = Student(model, reading).state_dict()
    moved = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, begun[name])}
    audio = {"model.patch_embed_a.proj.weight", "model.patch_embed_a.proj.bias", "model.modality_a"}
    audio |= {"model.norm_a.weight", "model.norm_a.bias"}
    rest = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    blocks = ["blocks_a.0", "blocks_u.0" if reading in TIED else "blocks_a.1"]
    for block in blocks:
        norms = ("norm1_a", "norm2_a") if block.startswith("blocks_u") else ("norm1", "norm2")
        audio |= {f"model.{block}.{part}.{kind}" for part in (*norms, *rest) for kind in ("weight", "bias")}
    head = {f"head.{part}.{kind}" for part in ("norm", "linear") for kind in ("weight", "bias")}
    assert moved == audio | (head if reading == "head" else set())
    assert not any("_v." in name or "blocks_v" in name or "pos_embed" in name for name in moved)


@pytest.mark.parametrize("reading", READINGS)
def test_l_t_is_zero_at_first_and_grows_where_the_teacher_lags(model, data, reading):
    _, _, history = run(model, data, reading)
    assert history[0] == pytest.approx(0.0, abs=1e-5)
    if reading == "frozen":
        assert history == pytest.approx([0.0] * 3, abs=1e-6)
    else:
        assert history[-1] > 1e-5 and history[-1] > history[0]


def test_the_visual_feature_moves_only_where_the_block_is_shared(model, data):
    for reading in READINGS:
        student, _, _ = run(model, data, reading, steps=1)
        drift = (student.model.encode_image(data[1]) - model.encode_image(data[1])).abs().max()
        assert (drift > 1e-4) == (reading in TIED), reading


def test_a_teacher_that_never_moves_only_reweighs(model, data):
    """`frozen` at alpha has the gradient of L_c(A, T) + (1 - alpha) L_c(A, V), and nothing else."""
    fbank, pixels, text = data
    gradients = []
    for alpha in (0.4, None):
        student = Student(model, "frozen")
        a, v = student.encode_audio(fbank), student.picture(student.picture_states(pixels))
        teacher = Teacher(student).picture(v)
        loss = align_loss(a, text, v, teacher, 0.05, alpha) if alpha else info_nce(a, text) + 0.6 * info_nce(a, v)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in student.trained().values()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("reading", ["visual_shared", "audio", "both", "head"])
def test_the_lag_behind_a_steady_drift(model, reading):
    """theta_k = k d gives theta'_k = theta_k - d m (1 - m^k) / (1 - m): 199 d in the end at m = 0.995."""
    student = Student(model, reading)
    teacher = Teacher(student, momentum=0.995)
    average, source = next(iter(teacher.averages.values()))
    with torch.no_grad():
        source.zero_(), average.zero_()
        for k in range(1, 401):
            source.fill_(k)
            teacher.update()
            if k in (1, 10, 400):
                lag = 0.995 * (1 - 0.995**k) / 0.005
                torch.testing.assert_close(average, torch.full_like(average, k - lag), rtol=1e-3, atol=1e-3)
    assert not any(a.requires_grad for a, _ in teacher.averages.values())


def test_features_from_elsewhere(model, data):
    features = torch.nn.functional.normalize(torch.randn(4, 64), dim=-1)
    for reading in ("frozen", "audio", "head"):
        student = Student(model, reading)
        torch.testing.assert_close(student.picture(features), features)
        torch.testing.assert_close(Teacher(student).picture(features), features)
    for reading in TIED:
        student = Student(model, reading)
        for who in (student, Teacher(student)):
            with pytest.raises(TrainingError, match="needs pictures"):
                who.picture(features)


def test_the_log_says_it_in_words():
    assert "L_t is 0 by construction" in explain("frozen", 0.4) and "0.6" in explain("frozen", 0.4)
    assert "alpha is 0" in explain("both", 0.0) and "no pictures" in explain("both", 0.4, False)
    for reading in set(READINGS) - {"frozen"}:
        assert "grows" in explain(reading, 0.4)
    with pytest.raises(ValueError, match="known are"):
        Student(CAVTMAE.fresh(SMALL), "visual")
