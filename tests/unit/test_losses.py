"""Eq. 1, 4 and 5 against a worked example, ALBEF's form, and what must hold of them."""

from __future__ import annotations

import math

import pytest
import torch
from aai_pack.aai_models.align.losses import align_loss, align_terms, info_nce, momentum_kl, teacher_probabilities
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize


@pytest.fixture
def worked():
    """Four pairs of three values, made of sines: (a, t, v, v_momentum)."""
    i, d = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="ij")
    raw = (
        torch.sin(1 + 3 * i + d),
        torch.sin(0.5 + 1.7 * i + 2 * d),
        torch.cos(2 + 2 * i + d),
        torch.cos(2.05 + 2 * i + d),
    )
    return tuple(normalize(x, dim=-1) for x in raw)


def random_unit(seed: int, count: int = 6, dim: int = 5) -> torch.Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_worked_example(worked):
    a, t, v, v_momentum = worked
    # 1e-6 of the value, and half a unit of the last printed digit
    assert info_nce(a, t, 0.05).item() == pytest.approx(7.460006, rel=1e-6, abs=1e-6)
    assert info_nce(a, v, 0.05).item() == pytest.approx(12.557935, rel=1e-6, abs=1e-6)
    assert momentum_kl(a, v, v_momentum, 0.05).item() == pytest.approx(0.007110, abs=1e-6)
    assert align_loss(a, t, v, v_momentum, 0.05, 0.4).item() == pytest.approx(14.996189, rel=1e-6, abs=1e-6)


def test_a_teacher_that_agrees_teaches_nothing(worked):
    a, _, v, _ = worked
    a = a.clone().requires_grad_()
    loss = momentum_kl(a, v, v, 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-7)
    assert a.grad.abs().max() < 1e-5


def albef(a, t, v, v_momentum, tau: float, alpha: float) -> torch.Tensor:
    """ALBEF's form: the pictures' cross-entropy is taken against alpha * teacher + (1 - alpha) * one-hot."""
    visual = torch.zeros(())
    for ours, teacher in ((a @ v.T / tau, a @ v_momentum.T / tau), (v @ a.T / tau, v_momentum @ a.T / tau)):
        target = alpha * teacher.detach().softmax(dim=1) + (1 - alpha) * torch.eye(len(a))
        visual = visual - (target * ours.log_softmax(dim=1)).sum(dim=1).mean() / 2
    return info_nce(a, t, tau) + visual


@given(st.integers(0, 1000), st.floats(0.02, 1.0), st.floats(0.0, 1.0))
def test_it_is_albefs_soft_target_cross_entropy(seed, tau, alpha):
    """Eq. 1 differs from it by alpha / 2 times the teacher's entropies, which are constant."""
    a, t, v, v_momentum = (random_unit(4 * seed + n) for n in range(4))
    entropy = sum(-(q * q.clamp_min(1e-30).log()).sum(1).mean() for q in teacher_probabilities(a, v_momentum, tau))
    ours = align_loss(a, t, v, v_momentum, tau, alpha) + alpha / 2 * entropy
    assert albef(a, t, v, v_momentum, tau, alpha).item() == pytest.approx(ours.item(), rel=1e-4, abs=1e-5)


def test_both_forms_have_the_same_gradient():
    t, v, v_momentum = (random_unit(n) for n in (1, 2, 3))
    gradients = []
    for form in (albef, align_loss):
        a = random_unit(0).requires_grad_()
        form(a, t, v, v_momentum, 0.05, 0.4).backward()
        gradients.append(a.grad)
    assert torch.allclose(*gradients, atol=1e-4)


def test_clips_without_a_picture_are_in_the_text_term_alone(worked):
    a, t, v, v_momentum = worked
    seen = torch.tensor([True, False, True, True])
    some, fewer = align_terms(a, t, v, v_momentum, seen=seen), align_terms(a[seen], t[seen], v[seen], v_momentum[seen])
    assert torch.equal(some.text, info_nce(a, t))
    assert torch.equal(some.picture, fewer.picture) and torch.equal(some.momentum, fewer.momentum)
    one = align_terms(a, t, v, v_momentum, seen=torch.tensor([True, False, False, False]))
    for without in (one, align_terms(a, t, None, None)):
        assert without.picture is None and without.momentum is None
        assert torch.equal(without.total(0.4), info_nce(a, t))


def test_the_teacher_carries_no_gradient():
    a, v = random_unit(0).requires_grad_(), random_unit(1).requires_grad_()
    v_momentum = random_unit(2).requires_grad_()
    momentum_kl(a, v, v_momentum).backward()
    assert v_momentum.grad is None
    assert a.grad.abs().sum() > 0 and v.grad.abs().sum() > 0


def test_a_teacher_with_ears_of_its_own(worked):
    """Its distributions come from its own features of both sides; with the student's ears it is Eq. 5 as printed."""
    a, t, v, v_momentum = worked
    a_momentum = random_unit(9, 4, 3)
    teacher = teacher_probabilities(a_momentum, v_momentum, 0.05)
    student = [(x / 0.05).log_softmax(dim=1) for x in (a @ v.T, v @ a.T)]
    by_hand = sum((q * (q.clamp_min(1e-30).log() - p)).sum(1).mean() for q, p in zip(teacher, student, strict=True))
    assert momentum_kl(a, v, v_momentum, 0.05, a_momentum).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert torch.equal(momentum_kl(a, v, v_momentum, 0.05, a), momentum_kl(a, v, v_momentum, 0.05))
    whole = align_loss(a, t, v, v_momentum, 0.05, 0.4, a_momentum=a_momentum) - align_loss(a, t, v, v, 0.05, 0.4)
    assert whole.item() == pytest.approx(0.2 * by_hand.item(), rel=1e-4)


def test_contrast_is_symmetric_and_bounded():
    a, m = random_unit(0), random_unit(1)
    assert info_nce(a, m).item() == pytest.approx(info_nce(m, a).item())
    same = torch.ones(6, 5) / 5**0.5
    assert info_nce(same, same).item() == pytest.approx(math.log(6), abs=1e-5)
    apart = torch.eye(6)
    assert info_nce(apart, apart).item() < 1e-6


def test_several_positives():
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    words = torch.eye(6)[labels]
    one_hot, shared = info_nce(words, words), info_nce(words, words, labels=labels)
    assert one_hot.item() == pytest.approx(shared.item(), abs=1e-5)  # log 2 for those that share a word
    a = words.clone()
    a[0] = normalize(words[0] + 0.3 * torch.eye(6)[5], dim=-1)
    a.requires_grad_()
    info_nce(a, words, labels=labels).backward()
    assert bool(torch.isfinite(a.grad).all())
    distinct = torch.arange(6)
    assert info_nce(a, words, labels=distinct).item() == pytest.approx(info_nce(a, words).item())
    with pytest.raises(ValueError, match="one for each"):
        info_nce(a, words, labels=torch.zeros(3))


def test_half_precision_features_have_exact_logits():
    a, m = random_unit(0, 64, 32), random_unit(1, 64, 32)
    halves = info_nce(a.half(), m.half())
    assert halves.dtype == torch.float32
    assert halves.item() == pytest.approx(info_nce(a.half().float(), m.half().float()).item())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = [info_nce(a, m), momentum_kl(a, m, random_unit(2, 64, 32))]
    exact = [info_nce(a, m), momentum_kl(a, m, random_unit(2, 64, 32))]
    assert [x.item() for x in mixed] == pytest.approx([x.item() for x in exact], rel=1e-6)
