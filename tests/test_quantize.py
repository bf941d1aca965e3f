"""The quantizer against a float64 dictionary written out by hand, and its life: micro-batches, ranks, resumption, revival."""

import copy
import math
import multiprocessing

import numpy as np
import pytest
import torch
from torch import distributed, nn

from dgmlab import quantize
from dgmlab.quantize import MODES, VectorQuantizer, frozen, update_dictionaries


def fresh(*shape):
    """Numbers no one has seen: the generator is seeded from the system."""
    generator = torch.Generator()
    generator.seed()
    return torch.randn(*shape, generator=generator)


def rows_of(x):
    return x.movedim(1, -1).reshape(-1, x.shape[1]).detach().double().numpy()


def are_among(some, x):
    """Which rows of `some` (K, D) are, to the last bit, rows of x (T, D) -> (K,) bool"""
    return (some[:, None] == x).all(2).any(1)


class Reference:
    """Dictionary learning in float64, one vector and one code at a time."""

    def __init__(self, dictionary, decay, eps=1e-5):
        self.e = dictionary.double().numpy().copy()
        self.n, self.m, self.decay, self.eps = np.ones(len(self.e)), self.e.copy(), decay, eps

    def look_up(self, x):
        return np.array([int(np.argmin([((row - code) ** 2).sum() for code in self.e])) for row in rows_of(x)])

    def update(self, batches):
        counts, sums = np.zeros(len(self.e)), np.zeros(self.e.shape)
        for x in batches:
            for row, k in zip(rows_of(x), self.look_up(x), strict=True):
                counts[k] += 1
                sums[k] += row
        self.n = self.decay * self.n + (1 - self.decay) * counts
        self.m = self.decay * self.m + (1 - self.decay) * sums
        total = self.n.sum()
        smoothed = [(n + self.eps) / (total + len(self.n) * self.eps) * total for n in self.n]
        self.e = np.stack([m / n for m, n in zip(self.m, smoothed, strict=True)])


def plain(n_codes, dim, **options):
    """A quantizer without anything random but its N(0, 1) dictionary."""
    return VectorQuantizer(n_codes, dim, **{"init": "normal", "revive_below": 0, **options})


@pytest.mark.parametrize("shape", [(40, 6), (3, 6, 5, 4), (2, 6, 40, 40), (7, 6, 1, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_two_updates_equal_a_float64_reference(shape, channels_last, monkeypatch):
    monkeypatch.setattr(quantize, "CPU_ROWS", 12)  # whole items at a time, and pieces of one
    layer = plain(9, 6, decay=0.8, commit_weight=0.25)
    reference = Reference(layer.dictionary, 0.8)
    for _ in range(2):
        x = 2 * fresh(*shape) + 0.3
        if channels_last and len(shape) == 4:
            x = x.to(memory_format=torch.channels_last)
        x.requires_grad_()
        output, commit, codes, perplexity = layer(x)
        expected = reference.look_up(x)
        assert codes.shape == (shape[0], *shape[2:]) and np.array_equal(codes.flatten().numpy(), expected)
        assert np.allclose(rows_of(output), reference.e[expected], atol=1e-5) and output.stride() == x.stride()
        error = ((rows_of(x) - reference.e[expected]) ** 2).reshape(shape[0], -1).mean(1)
        assert np.allclose(commit.detach().numpy(), 0.25 * error, rtol=1e-5)
        share = np.bincount(expected, minlength=9) / len(expected)
        entropy = -sum(p * math.log(p) for p in share if p > 0)
        assert perplexity.item() == pytest.approx(math.exp(entropy), rel=1e-5)
        layer.update()
        reference.update([x])
        assert np.allclose(layer.dictionary.numpy(), reference.e, rtol=1e-4, atol=1e-5)
        assert np.allclose(layer.ema_counts.numpy(), reference.n, rtol=1e-5)


def test_gradient_passes_straight_through_and_commitment_pulls_the_features():
    x, above = fresh(5, 4, 3, 3).requires_grad_(), fresh(5, 4, 3, 3)
    layer = plain(7, 4, commit_weight=2.0)
    result = layer(x)
    codes = rows_of(result.output)
    straight, = torch.autograd.grad((result.output * above).sum(), x, retain_graph=True)
    assert torch.equal(straight, above)
    weights = fresh(5)
    pull, = torch.autograd.grad(result.commit @ weights, x, create_graph=True)
    expected = 2.0 * 2 * (x.detach() - result.output.detach()) / x[0].numel() * weights.view(-1, 1, 1, 1)
    assert torch.allclose(pull, expected, atol=1e-6) and np.array_equal(codes, rows_of(result.output))
    both, = torch.autograd.grad(pull.sum(), x)  # twice: the codes stand still, the features move
    assert torch.allclose(both, torch.broadcast_to(4.0 / x[0].numel() * weights.view(-1, 1, 1, 1), x.shape), atol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == []


def test_output_is_the_code_to_the_last_bit_before_the_update():
    layer, x = plain(5, 3), 1e4 + fresh(50, 3)
    result, before = layer(x), layer.dictionary.clone()
    layer.update()
    assert torch.equal(result.output, before[result.codes]) and not torch.equal(layer.dictionary, before)


def test_layers_that_follow_may_work_in_place():
    for mode in MODES:
        x = fresh(4, 3, 2, 2).requires_grad_()
        result = plain(5, 3, mode=mode)(x * 1)
        (result.output.relu_().sum() + result.commit.sum()).backward()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("n_codes", [2, 33, 1000])
def test_ties_go_to_the_first_code(n_codes):
    layer, half = plain(n_codes, 16), (n_codes + 1) // 2
    layer.dictionary[half:] = layer.dictionary[:n_codes - half]  # every code twice
    assert layer(fresh(400, 16)).codes.max() < half
    line = plain(4, 1)
    line.dictionary.copy_(torch.tensor([[5.0], [-1.0], [1.0], [-1.0]]))
    assert line(torch.tensor([[0.0], [3.0], [-1.0], [9.0]])).codes.tolist() == [1, 0, 1, 0]


def test_equal_inputs_share_one_code_which_moves_onto_them():
    layer = plain(6, 3, decay=0.5)
    x = fresh(3).expand(50, 3)
    for _ in range(60):
        result = layer(x)
        layer.update()
    assert result.perplexity == 1.0 and len(result.codes.unique()) == 1
    assert result.commit.max() < 1e-6 and layer.dictionary.isfinite().all()


def test_unused_codes_stay_where_they_are_at_first():
    """The authors' counts of zero would throw them out to a norm of about decay / eps."""
    layer = plain(64, 8, decay=0.8)
    start = layer.dictionary.clone()
    used = layer(fresh(10, 8)).codes.unique()
    layer.update()
    unused = torch.ones(64, dtype=torch.bool).index_fill_(0, used, False)
    assert unused.sum() >= 54 and torch.allclose(layer.dictionary[unused], start[unused], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_scrambling_the_dictionary_changes_the_output_only_where_codes_go_on(mode):
    layer, x = plain(8, 4, mode=mode, n_warmup=2).eval(), fresh(20, 4)
    layer.n_updates.fill_(1)
    first = layer(x)
    layer.dictionary.normal_(3.0)
    second = layer(x)
    assert torch.equal(first.output, second.output) == (mode == "regularize")
    assert not torch.allclose(first.commit, second.commit)


def test_warmup_goes_from_the_features_to_the_codes():
    layer, x = plain(8, 4, mode="warmup", n_warmup=4, decay=0.999), fresh(20, 4).requires_grad_()
    for step in range(6):
        result = layer(x)
        q = layer.dictionary[result.codes]
        assert torch.allclose(result.output, x + min(step / 4, 1) * (q - x), atol=1e-6)
        assert torch.allclose(torch.autograd.grad(result.output.sum(), x)[0], torch.ones(20, 4))
        assert step < 4 or torch.equal(result.output, q)
        layer.update()


def test_micro_batches_and_one_update_equal_the_big_batch():
    whole, x = plain(10, 5), fresh(32, 5, 4, 4)
    parts = copy.deepcopy(whole)
    whole(x)
    for micro in x.split([3, 13, 16]):
        parts(micro)
    update_dictionaries(nn.ModuleList([whole, parts]))
    assert torch.allclose(whole.dictionary, parts.dictionary, atol=1e-6)
    assert torch.equal(whole.ema_counts, parts.ema_counts) and parts.n_updates == 1
    before = parts.dictionary.clone()
    assert not parts.update().any() and torch.equal(parts.dictionary, before), "there was nothing left to apply"


def test_nothing_is_learnt_in_evaluation_or_while_frozen():
    layer, x = VectorQuantizer(6, 4), fresh(30, 4)
    layer(x)
    layer.update()
    state = copy.deepcopy(layer.state_dict())
    layer.eval()(x + 5)
    layer.train()
    with frozen(nn.Sequential(layer)), frozen(layer):
        assert layer(x + 5).commit.sum() > 0
    assert not layer.frozen
    layer.update()
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())
    layer(x + 5)
    layer.update()
    assert not torch.equal(state["dictionary"], layer.dictionary)


def test_dead_codes_move_onto_features_with_their_averages():
    layer = plain(40, 3, decay=0.5, revive_below=0.1)
    layer.dictionary[20:] += 100
    layer.ema_sums.copy_(layer.dictionary)
    x = fresh(400, 3)
    revived = torch.zeros(40, dtype=torch.bool)
    for _ in range(8):
        layer(x[:200])
        layer(x[200:])
        dead = layer.update()
        revived |= dead
        if dead.any():
            assert are_among(layer.dictionary[dead], x).all(), "a revived code is a feature"
            threshold = layer.ema_counts[dead][0]
            assert torch.allclose(layer.ema_sums[dead], threshold * layer.dictionary[dead])
            assert (layer.ema_counts[dead] == threshold).all() and (layer.ema_counts >= threshold).all()
    assert revived[20:].all() and layer.dictionary.abs().max() < 10
    usage = torch.bincount(layer.eval()(x).codes, minlength=40)
    assert (usage[20:] > 0).sum() >= 15


def test_candidates_come_from_all_micro_batches():
    layer = plain(2000, 1, revive_below=1e6)
    for value in (1.0, 2.0, 3.0, 4.0):
        layer(torch.full((50, 1), value))
    assert layer.update().all()
    found = [int((layer.dictionary == value).sum()) for value in (1.0, 2.0, 3.0, 4.0)]
    assert sum(found) == 2000 and all(380 < count < 620 for count in found)  # 500 each, within six deviations


def test_first_dictionary_is_made_of_the_first_batch():
    x = fresh(60, 4) + torch.tensor([50.0, 0, 0, 0])
    layer = VectorQuantizer(20, 4)
    layer(x)
    assert are_among(layer.dictionary, x).all() and len(layer.dictionary.unique(dim=0)) == 20
    assert layer.initialised and (layer.ema_counts == 1).all() and torch.equal(layer.ema_sums, layer.dictionary)
    centres = 20 * torch.eye(4)
    blobs = (centres[:, None] + 0.01 * fresh(4, 50, 4)).flatten(0, 1)
    errors = []
    for init in ("sample", "kmeans"):
        torch.manual_seed(1)
        errors.append(VectorQuantizer(12, 4, init=init)(blobs).commit.mean().item())
    assert errors[1] < 0.9 * errors[0]


def test_fewer_vectors_than_codes_is_said_and_healed_by_revival():
    layer, x = VectorQuantizer(10, 3, decay=0.5, revive_below=0.3), fresh(4, 3)
    with pytest.warns(UserWarning, match=r"4 vectors for 10 codes.*begin as copies"):
        result = layer(x)
    assert result.commit.abs().max() == 0 and len(layer.dictionary.unique(dim=0)) == 4
    assert all((layer.dictionary == row).all(1).sum() in (2, 3) for row in x), "each vector once before any is taken again"
    for _ in range(6):
        layer.update()
        layer(fresh(40, 3))
    assert len(layer.dictionary.unique(dim=0)) == 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_numbers_are_refused_and_leave_no_trace(bad):
    x = fresh(5, 4, 3, 3)
    broken = x.clone()
    broken[1, 2, 0, 1] = broken[3, 0, 0, 0] = bad
    for training, n_before, found in ((True, 1, "2 of 5 items"), (False, 1, "2 of 5 items"), (True, 0, "2 of 45 vectors")):
        layer = VectorQuantizer(6, 4).train(training)
        for _ in range(n_before):
            layer(x)
            layer.update()
        before = copy.deepcopy(layer.state_dict())
        with pytest.raises(ValueError, match=f"found NaN or infinity in {found}") as caught:
            layer(broken)
        assert "\n" not in str(caught.value)
        layer.update()
        assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_bad_arguments_are_told_in_one_line():
    for shape, words in (((3, 5), "features of 4 channels"), ((4,), "features of 4"), ((0, 4), "at least one vector")):
        with pytest.raises(ValueError, match=words):
            plain(3, 4)(fresh(*shape))
    with pytest.raises(ValueError, match="kept in float32, found torch.bfloat16"):
        plain(3, 4).bfloat16()(fresh(2, 4))
    with pytest.raises(ValueError, match="mode is 'quantise'; choose one of: quantize, regularize, warmup"):
        plain(3, 4, mode="quantise")
    with pytest.raises(ValueError, match="init is 'pca'; choose one of: sample, kmeans, normal"):
        VectorQuantizer(3, 4, init="pca")
    with pytest.raises(ValueError, match="found n_codes=0"):
        plain(0, 4)
    with pytest.raises(ValueError, match="decay=1.0"):
        plain(3, 4, decay=1.0)


def test_autocast_and_bf16_features_are_quantized_in_float32():
    layer, x = plain(50, 64), fresh(300, 64)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(x)
        half = layer(x.bfloat16().requires_grad_())
    assert torch.equal(result.codes, expected.codes) and torch.equal(result.output, expected.output)
    assert torch.equal(result.commit, expected.commit)
    assert half.output.dtype == torch.bfloat16 and half.commit.dtype == torch.float32
    assert torch.equal(half.codes, layer(x.bfloat16().float()).codes)
    half.commit.sum().backward()


def test_a_resumed_quantizer_goes_on_bit_by_bit(tmp_path):
    def go_on(layer, batches):
        for x in batches:
            layer(x)
            layer.update()
        return {name: value.clone() for name, value in layer.state_dict().items()}

    batches = [fresh(64, 5) + step for step in range(9)]
    layer = VectorQuantizer(12, 5, mode="warmup", n_warmup=5, revive_below=0.3)
    state, random_state = go_on(layer, batches[:3]), torch.get_rng_state()
    torch.save(state, tmp_path / "state.pt")
    expected = go_on(layer, batches[3:])
    resumed = VectorQuantizer(12, 5, mode="warmup", n_warmup=5, revive_below=0.3)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    torch.set_rng_state(random_state)
    found = go_on(resumed, batches[3:])
    assert list(found) == ["dictionary", "ema_sums", "ema_counts", "initialised", "n_updates"]
    assert all(torch.equal(found[name], expected[name]) for name in found)


def on_ranks(work, n_ranks, folder):
    """Run work(rank) in forked processes joined by gloo -> list of what each returned."""
    def body(rank):
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=n_ranks)
        torch.save(work(rank), folder / f"rank{rank}.pt")
        distributed.destroy_process_group()

    processes = [multiprocessing.get_context("fork").Process(target=body, args=(rank,)) for rank in range(n_ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * n_ranks
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(n_ranks)]


def test_two_ranks_learn_the_dictionary_of_one_process(tmp_path):
    one, rounds = plain(8, 4, decay=0.7), [fresh(24, 4, 2, 2) for _ in range(4)]
    start = copy.deepcopy(one)

    def work(rank):
        layer = copy.deepcopy(start)
        for step, x in enumerate(rounds):
            shards = x[:24 if step == 3 else 8], x[8:] if step < 3 else ()  # uneven; at the end rank 1 has nothing
            for micro in torch.split(shards[rank], 5) if len(shards[rank]) else ():
                layer(micro)
            layer.update()
        return layer.state_dict()

    for x in rounds:
        one(x)
        one.update()
    first, second = on_ranks(work, 2, tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.allclose(first["dictionary"], one.dictionary, atol=1e-5)
    assert torch.allclose(first["ema_counts"], one.ema_counts)


@pytest.mark.parametrize("init", ["sample", "kmeans"])
def test_ranks_begin_and_revive_alike(init, tmp_path):
    batches = [fresh(2, 30, 3) for _ in range(3)]

    def work(rank):
        torch.manual_seed(rank)
        layer = VectorQuantizer(10, 3, init=init, revive_below=1e6)
        layer(batches[0][rank])
        begin = layer.dictionary.clone()
        for both in batches:
            layer(both[rank])
            dead = layer.update()
        return begin, dead, layer.state_dict()

    (begin, dead, first), (begin_2, _, second) = on_ranks(work, 2, tmp_path)
    assert torch.equal(begin, begin_2) and dead.all() and all(torch.equal(first[name], second[name]) for name in first)
    origin = [are_among(first["dictionary"], batches[-1][rank]) for rank in range(2)]
    assert origin[0].sum() == origin[1].sum() == 5, "the codes are revived from the features of both ranks"
