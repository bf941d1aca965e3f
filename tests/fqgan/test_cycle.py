"""The game of U-GAT-IT: who sees what, the losses against hand-worked numbers, dictionaries in the global discriminators."""

import math

import pytest
import torch

from dgmlab.fqgan.attach import collect
from dgmlab.fqgan.cycle import Discriminators, Generators, Round, Verdict, cycle_terms, least_squares, n_layers

FQ = {"layers": ["blocks.0", "blocks.1"], "n_codes": [4, 6], "commit_weight": 2.0, "mode": "regularize"}


def pictures(n, size=16, dtype=torch.float32):
    return torch.rand(n, 3, size, size, dtype=dtype) * 2 - 1


def verdict(patches=0.0, cams=0.0, n=2):
    return Verdict((torch.full((n, 1, 3, 3), patches),) * 4, (torch.full((n, 2), cams),) * 4, torch.zeros(n))


def made(**given):
    like = torch.zeros(2, 3, 4, 4)
    return Round(**{name: given.get(name, torch.zeros(4, 2) if name.startswith("cam") else like) for name in Round._fields})


@pytest.mark.parametrize(("size", "layers"), [(16, (3, 3)), (32, (4, 3)), (64, (5, 3)), (100, (5, 3)), (128, (6, 4)),
                                              (256, (7, 5)), (512, (8, 6))])
def test_discriminators_lose_a_layer_with_each_halving_and_still_fit(size, layers):
    assert n_layers(size) == layers
    D = Discriminators(*layers, channels=1)
    assert all(each.shape[2] >= 2 for each in D(*[torch.zeros(1, 3, size, size)] * 2).patches)


def test_one_pass_of_both_domains_is_the_passes_one_by_one():
    G = Generators(image_size=16, light=True, channels=4, n_blocks=1).double()
    a, b = (pictures(3, dtype=torch.float64) for _ in "ab")
    found, fake_b, fake_a = G(a, b), G.ab(a), G.ba(b)
    expected = Round(fake_a.images, fake_b.images, G.ba(a).images, G.ab(b).images, G.ba(fake_b.images).images,
                     G.ab(fake_a.images).images, torch.cat([fake_b.cam_logits, G.ab(b).cam_logits]),
                     torch.cat([fake_a.cam_logits, G.ba(a).cam_logits]))
    for name, x, y in zip(Round._fields, found, expected, strict=True):
        assert torch.allclose(x, y, atol=1e-6), name  # norms compute in float32 or better


def test_least_squares_of_eight_outputs_by_hand():
    assert least_squares(verdict(), 1) == 8 and least_squares(verdict(), 0) == 0
    assert least_squares(verdict(patches=3.0), 1) == 4 * 4 + 4
    assert least_squares(verdict(cams=0.5), 0) == 4 * 0.25
    patches = torch.tensor([[1.0, 3.0], [2.0, 0.0]]).view(2, 1, 1, 2)  # squares of the distance to 1: 0 4 1 1, mean 1.5
    assert least_squares(Verdict((patches,), (), torch.zeros(2)), 1) == 1.5


def test_cycle_terms_by_hand():
    zero = cycle_terms(made(), torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    assert zero.cycle == 0 and zero.identity == 0 and torch.isclose(zero.cam, torch.tensor(4 * math.log(2)))
    a, b = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), -0.25)
    assert cycle_terms(made(back_a=a), a, b)[:2] == (0.25, 0.75)
    assert cycle_terms(made(same_b=b), a, b)[:2] == (0.75, 0.5)
    sure = torch.tensor([[20.0, 20.0]] * 2 + [[-20.0, -20.0]] * 2)  # high on source pictures, which come first
    assert cycle_terms(made(cam_ab=sure, cam_ba=sure), a, b).cam < 1e-6
    assert torch.isclose(cycle_terms(made(cam_ab=-sure, cam_ba=sure), a, b).cam, torch.tensor(40.0))


def test_each_domain_has_its_own_two_discriminators():
    D, a, b = Discriminators(3, 3, channels=2).eval(), pictures(2), pictures(2)
    first, other = D(a, b), D(a, pictures(2))
    for kind in ("patches", "cams"):
        same = [torch.equal(x, y) for x, y in zip(getattr(first, kind), getattr(other, kind), strict=True)]
        assert same == [True, True, False, False], "global and local of a, then of b"


def test_halves_are_the_two_batches_and_patches_over_one_half_count_as_real():
    D = Discriminators(3, 3, channels=2, fq=FQ).eval()
    a, b = pictures(4), pictures(4)
    for i, half in enumerate(D(a, b).halves()):
        alone = D(a[2 * i:2 * i + 2], b[2 * i:2 * i + 2])
        for x, y in zip((*half.patches, *half.cams, half.commit), (*alone.patches, *alone.cams, alone.commit), strict=True):
            assert torch.allclose(x, y, atol=1e-5)
    assert verdict(patches=0.51).share_real() == 1 and verdict(patches=0.49).share_real() == 0
    mixed = verdict()._replace(patches=(torch.ones(2, 1, 3, 3),) + verdict().patches[1:])
    assert torch.isclose(mixed.share_real(), torch.tensor(0.25))


def test_commitment_is_of_both_global_discriminators_and_reaches_the_pictures():
    D, a, b = Discriminators(3, 3, channels=2, fq=FQ), pictures(3).requires_grad_(), pictures(3).requires_grad_()
    D(a, b)
    D.eval()
    found = D(a, b).commit
    D.global_a(a), D.global_b(b)
    expected = collect(D.global_a).commit + collect(D.global_b).commit
    assert found.shape == (3,) and torch.allclose(found, expected) and (found > 0).all()
    assert all(each.abs().sum() > 0 for each in torch.autograd.grad(found.sum(), (a, b)))
    assert Discriminators(3, 3, channels=2)(a, b).commit.tolist() == [0, 0, 0]
    with pytest.raises(KeyError, match="layer of UGATITDiscriminator is called 'blocks.7'"):
        Discriminators(3, 3, channels=2, fq={**FQ, "layers": ["blocks.1", "blocks.7"]})


def test_discriminators_come_back_with_their_dictionaries(tmp_path):
    D, a, b = Discriminators(3, 3, channels=2, fq=FQ), pictures(2), pictures(2)
    D(a, b)
    D.save_pretrained(tmp_path)
    back, D = Discriminators.from_pretrained(tmp_path).eval(), D.eval()
    assert back.quantized and torch.equal(back(a, b).commit, D(a, b).commit)
    assert torch.equal(back.global_a(a).logits, D.global_a(a).logits)
