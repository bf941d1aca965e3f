"""Dictionaries behind the layers of any discriminator: put in by one line, collected, taken out, saved, compiled, shared."""

import contextlib
import copy
import multiprocessing

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dgmlab.fqgan import add_fq, collect, frozen, remove_fq, update_dictionaries
from dgmlab.fqgan.spectral import spectral_norm
from dgmlab.quantize import VectorQuantizer


class Block(nn.Module):
    """conv, relu, conv and a shortcut, then half the size: what a BigGAN discriminator is made of."""

    def __init__(self, width_in, width):
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1)

    def forward(self, x):
        return nn.functional.avg_pool2d(self.second(self.first(x).relu_()) + self.shortcut(x), 2)


class Discriminator(nn.Module, PyTorchModelHubMixin):
    def __init__(self, n_codes=0, mode="quantize"):
        super().__init__()
        self.blocks = nn.ModuleList([Block(3, 6), Block(6, 8)])
        self.score = nn.Linear(8, 1)
        if n_codes:
            add_fq(self, ["blocks.0", "blocks.1"], n_codes, mode=mode, init="normal", revive_below=0)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).relu_()  # in place, on the quantized features
        return self.score(x.mean((2, 3)))


def chain():
    """A discriminator of nothing but library layers: spectral and batch normalisation, a Sequential inside a Sequential."""
    first = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True))
    second = spectral_norm(nn.Conv2d(6, 8, 3, 2, 1))
    return nn.Sequential(first, second, nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 4 * 4, 1))


def images(n=6):
    return torch.randn(n, 3, 16, 16)


def dictionaries(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, VectorQuantizer)}


def gan_step(model, x):
    """Scores, commitment, backward, and one update. -> (scores, Collected, gradients)"""
    model.zero_grad()
    scores = model(x)
    found = collect(model)
    (scores.mean() + found.commit.mean()).backward()
    update_dictionaries(model)
    return scores.detach(), found, [p.grad.clone() for p in model.parameters()]


def test_one_line_for_a_discriminator_of_blocks():
    model = Discriminator()
    assert add_fq(model, ["blocks.0", "blocks.1"], [5, 7], commit_weight=3.0) is model
    assert {name: (part.n_codes, part.dim) for name, part in dictionaries(model).items()} == {
        "blocks.0.fq": (5, 6), "blocks.1.fq": (7, 8)}
    _, found, gradients = gan_step(model, images())
    assert {name: codes.shape for name, codes in found.codes.items()} == {"blocks.0": (6, 8, 8), "blocks.1": (6, 4, 4)}
    assert found.commit.shape == (6,) and set(found.perplexity) == {"blocks.0", "blocks.1"}
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(part.n_updates == 1 for part in dictionaries(model).values())


def test_next_layer_sees_codes_and_commitment_is_the_sum_over_layers():
    model, x = Discriminator(9).eval(), images()
    seen, given = [], []
    model.blocks[0].register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
    model.blocks[1].first.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    model(x)
    found = collect(model)
    expected = model.blocks[0].fq.dictionary[found.codes["blocks.0"]].movedim(-1, 1)
    assert torch.equal(seen[0], expected) and torch.equal(given[0], expected.relu())
    one, two = model.blocks
    features = one.forward(x), two.forward(expected.relu())  # `forward` alone runs no hook
    assert torch.allclose(found.commit, one.fq(features[0]).commit + two.fq(features[1]).commit)


@pytest.mark.parametrize("layers", [["0", "3"], ["0.1", "2"], "1"])
def test_one_line_for_a_chain_of_library_layers(layers):
    torch.manual_seed(0)
    model = chain()
    add_fq(model, layers, 4, example=(images(2),))
    names = [layers] if isinstance(layers, str) else layers
    _, found, _ = gan_step(model, images())
    assert list(found.codes) == names and len(model) == 6
    assert model[2].num_batches_tracked == 1, "the pass that measured the channels left no trace"


def test_remove_restores_the_discriminator():
    model, x = Discriminator().eval(), images()
    state, before = copy.deepcopy(model.state_dict()), model(x)
    add_fq(model, ["blocks.1"], 3)
    assert not torch.equal(model(x), before)
    assert [name for name in model.state_dict() if "fq" not in name] == list(state)
    assert remove_fq(model) is model and torch.equal(model(x), before)
    assert list(model.state_dict()) == list(state) and not dictionaries(model)
    add_fq(model, ["blocks.1"], 3)


def test_scrambled_dictionaries_change_the_score_only_where_codes_go_on():
    for mode, changes in (("quantize", True), ("regularize", False)):
        model, x = Discriminator(8, mode).eval(), images()
        before = model(x)
        for part in dictionaries(model).values():
            part.dictionary.copy_(5 * torch.randn_like(part.dictionary))
        assert torch.equal(model(x), before) != changes, mode


def test_gradient_penalty_goes_through_and_leaves_the_dictionary_alone():
    model, x = Discriminator(8), images().requires_grad_()
    with frozen(model):
        scores = model(x)
    gradient, = torch.autograd.grad(scores.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert model.blocks[0].first.weight.grad.abs().sum() > 0
    before = copy.deepcopy(model.state_dict())
    update_dictionaries(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_results_are_collected_once_and_a_used_model_can_be_copied():
    model = Discriminator(8)
    with pytest.raises(RuntimeError, match="nothing to collect"):
        collect(model)
    model(images())
    twin = copy.deepcopy(model)
    collect(model)
    with pytest.raises(RuntimeError, match="nothing to collect"):
        collect(model)
    with pytest.raises(RuntimeError, match="nothing to collect"):
        collect(twin)
    twin.blocks[1].fq.dictionary.zero_()
    assert torch.allclose(twin(images(2)), twin.score.bias), "the copy quantizes by its own dictionaries"


def test_saved_discriminators_come_back_with_their_dictionaries(tmp_path):
    model, x = Discriminator(8), images()
    for _ in range(3):
        gan_step(model, images())
    model.save_pretrained(tmp_path)
    loaded = Discriminator.from_pretrained(tmp_path)
    assert torch.equal(loaded.eval()(x), model.eval()(x))
    by_hand = add_fq(Discriminator(), ["blocks.0", "blocks.1"], 8)
    by_hand.load_state_dict(model.state_dict())
    assert torch.equal(by_hand.eval()(x), model(x))
    scores = [gan_step(m.train(), x + 1)[0] for m in (model, by_hand)]
    scores = [gan_step(m, x)[0] for m in (model, by_hand)]
    assert torch.equal(*scores), "a loaded dictionary is not begun anew at the next batch"
    Discriminator().load_state_dict({key: value for key, value in model.state_dict().items() if ".fq." not in key})


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("mode", ["quantize", "regularize"])
def test_compiled_without_a_graph_break_it_computes_the_same(backend, mode):
    torch._dynamo.reset()
    model = add_fq(chain(), ["0", "3"], 8, example=(images(1),), mode=mode)
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for step in range(3):
        x, results = images(), []
        for one in (compiled, twin):
            torch.manual_seed(step)  # the first batch makes the dictionary
            results.append(gan_step(one, x))
        (scores, found, gradients), (scores_2, found_2, gradients_2) = results
        assert torch.allclose(scores, scores_2, atol=1e-6) and torch.allclose(found.commit, found_2.commit, atol=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, gradients_2, strict=True))
    for a, b in zip(dictionaries(model).values(), dictionaries(twin).values(), strict=True):
        assert torch.allclose(a.dictionary, b.dictionary, atol=1e-6) and a.n_updates == 3
    torch._dynamo.reset()


def test_two_ranks_with_micro_batches_learn_what_one_process_learns(tmp_path):
    start, batches = Discriminator(8).double(), [torch.randn(12, 3, 16, 16, dtype=torch.double) for _ in range(3)]
    one = copy.deepcopy(start)

    def train(model, batches, n_micro):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for x in batches:
            optimizer.zero_grad()
            for i, micro in enumerate(x.chunk(n_micro), 1):
                with model.no_sync() if i < n_micro else contextlib.nullcontext():
                    loss = model(micro).mean() + collect(model).commit.mean()
                    (loss / n_micro).backward()
            optimizer.step()
            update_dictionaries(model)

    def work(rank):
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
        model = copy.deepcopy(start)
        train(DistributedDataParallel(model), [x.chunk(2)[rank] for x in batches], 3)
        torch.save(model.state_dict(), tmp_path / f"rank{rank}.pt")
        distributed.destroy_process_group()

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    train(one, batches, 1)
    for name, value in one.state_dict().items():
        assert torch.allclose(value, first[name], rtol=1e-9), name
    assert any(not torch.equal(a, b) for a, b in zip(start.state_dict().values(), first.values(), strict=True))


def test_misuse_is_told_in_one_line():
    model = Discriminator()
    with pytest.raises(KeyError, match="no layer of Discriminator is called 'block.0'.*Did you mean 'blocks.0'"):
        add_fq(model, ["block.0"], 4)
    with pytest.raises(ValueError, match="'blocks' is a ModuleList, which is never called"):
        add_fq(model, ["blocks"], 4)
    with pytest.raises(ValueError, match="found 3 for 2 layers"):
        add_fq(model, ["blocks.0", "blocks.1"], [4, 4, 4])
    with pytest.raises(ValueError, match="some of these are the same"):
        add_fq(model, ["blocks.0", "blocks.0"], 4)
    with pytest.raises(ValueError, match="mode is 'both'"):
        add_fq(model, ["blocks.0", "blocks.1"], 4, mode="both")
    assert not dictionaries(model), "nothing half done"
    add_fq(model, "blocks.0", 4)
    with pytest.raises(ValueError, match="'blocks.0' has a dictionary already; call remove_fq"):
        add_fq(model, "blocks.0", 4)
    net = chain()
    with pytest.raises(ValueError, match=r"layer '3' does not tell the channels.*example=\(x,\)"):
        add_fq(net, "3", 4)
    net[1].out_channels = 5
    with pytest.raises(ValueError, match=r"layer '1' gives \(6, 8, 4, 4\), its dictionary was made for 5 channels"):
        add_fq(net, "1", 4)(images())
    with pytest.raises(ValueError, match="layer '0' is not called for these inputs"):
        add_fq(Unused(), "0", 4, example=(images(),))


class Unused(nn.Sequential):
    """A chain whose forward pass calls none of its layers."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 3, 1))

    def forward(self, x):
        return x
