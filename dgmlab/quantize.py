"""Vector quantization by a dictionary that follows the features with moving averages.

The layer of FQ-GAN (Zhao et al. 2020, "Feature Quantization Improves GAN Training", section 3) and of VQ-VAE (van den Oord
et al. 2017; the moving averages are its appendix A.1). Nothing here is trained by gradients: `forward` looks codes up and sums
what it saw, `update_dictionaries` moves the dictionary once, after as many batches as a step of the optimizer has.

    for micro in batches:
        (loss(D(micro)) + commit).backward()
    optimizer.step()
    update_dictionaries(D)          # one EMA step for all of them; under DDP the sums of all ranks

Letters: N items, C channels, T vectors of D numbers, K codes.
"""

import contextlib
import math
import warnings
from typing import NamedTuple

import torch
from torch import distributed, nn

MODES = ("quantize", "regularize", "warmup")
INITS = ("sample", "kmeans", "normal")
KMEANS_ITERATIONS = 10
# Vectors are taken some at a time, so that they, their scores and their codes stay in a CPU's cache: three times faster than
# a (T, K) matrix and a handful of (T, D) ones in memory. A GPU wants large products.
CPU_ROWS, CPU_SCORES, GPU_SCORES = 1024, 2**19, 2**27


class Quantized(NamedTuple):
    """What one batch became.

    output      like the input     what goes on to the next layer; the gradient passes straight through
    commit      (N,) float         commit_weight * mean squared distance to the codes, per item; add its mean to the loss
    codes       (N, ...) long      code of every position, 0 to K - 1
    perplexity  () float           exp(entropy) of this batch's codes, 1 (one code only) to K (all alike often)
    """

    output: torch.Tensor
    commit: torch.Tensor
    codes: torch.Tensor
    perplexity: torch.Tensor


class LookUp(NamedTuple):
    """What one pass over the features finds; all but `quantized` in the precision of the dictionary."""

    codes: torch.Tensor  # (N, ...) long
    residual: torch.Tensor  # (N, C, ...) features minus their codes
    error: torch.Tensor  # (N,) mean square of the residual, per item; its gradient pulls the features to their codes
    quantized: torch.Tensor  # (N, C, ...) the codes, like x; its gradient passes straight to x. (0,) where not asked for
    counts: torch.Tensor  # (K,) how many vectors have each code
    sums: torch.Tensor  # (K, D) their sums; zeros where not asked for


@torch.library.custom_op("dgmlab::look_up", mutates_args=())
def look_up(x: torch.Tensor, dictionary: torch.Tensor, quantize: bool, add_up: bool) -> tuple[
        torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nearest code of every vector by Euclidean distance, the first one where several are equally near.

    x           (N, C, H, W) contiguous or channels-last, or (T, D); float of any precision
    dictionary  (K, D) float32 or float64
    quantize    whether the codes themselves are wanted
    add_up      whether the sums of the vectors of each code are wanted
    -> the six of LookUp

    One operator, so that `torch.compile` takes it as a node and autocast cannot round the distances. No one-hot matrix, and
    never more than some of the (T, K) scores.
    ValueError  an item holds a NaN or an infinity
    """
    n_codes, dim = dictionary.shape
    flat = x.reshape(len(x), dim, -1)  # (N, C, P)
    found = LookUp(*_empty_look_up(x, dictionary, quantize))
    codes, residual = found.codes.view(len(x), -1), found.residual.reshape(flat.shape)
    quantized = found.quantized.reshape(flat.shape) if quantize else None
    error = dictionary.new_empty(codes.shape)  # (N, P)
    found.sums.zero_()
    with torch.autocast(x.device.type, enabled=False):
        half = dictionary.square().sum(1) / 2  # |x - e|^2 / 2 without the part that is the same for all codes
        for part in _parts(len(x), flat.shape[2], n_codes, x.device.type):
            block = flat[part].transpose(1, 2)  # (n, p, D)
            rows = block.reshape(-1, dim).to(dictionary.dtype)
            nearest = torch.addmm(half, rows, dictionary.T, alpha=-1).min(dim=1).indices
            chosen = dictionary.index_select(0, nearest)
            codes[part[0], part[2]] = nearest.view(block.shape[:2])
            if quantize:
                quantized[part].transpose(1, 2).copy_(chosen.view(block.shape))
            if add_up:
                found.sums.index_add_(0, nearest, rows)
            rest = residual[part].transpose(1, 2)
            if rest.is_contiguous():
                torch.sub(rows.view(rest.shape), chosen.view(rest.shape), out=rest)
            else:  # channels first: in one piece before it is turned
                turned, rest = rest, torch.sub(rows, chosen, out=chosen).view(rest.shape)
                turned.copy_(rest)
            error[part[0], part[2]] = torch.linalg.vecdot(rest, rest)
    found.error.copy_(error.mean(1) / dim)
    found.counts.zero_().index_add_(0, codes.flatten(), found.counts.new_ones(codes.numel()))
    _check_finite(found.error, "items")
    return tuple(found)


def _check_finite(numbers, what):
    n_bad = len(numbers) - int(numbers.isfinite().sum())
    if n_bad:
        raise ValueError(f"features to quantize must be finite, found NaN or infinity in {n_bad:,} of {len(numbers):,} "
                         f"{what}. Lower the learning rate, or look at the layers before.")


def _parts(n_items, n_positions, n_codes, device):
    """Index (items, all channels, positions) of one block of vectors after the other: whole items, or pieces of one."""
    n_rows = max(1, min(CPU_ROWS, CPU_SCORES // n_codes) if device == "cpu" else GPU_SCORES // n_codes)
    items, positions = max(1, n_rows // n_positions), min(n_rows, n_positions)
    for first in range(0, n_items, items):
        for start in range(0, n_positions, positions):
            yield slice(first, first + items), slice(None), slice(start, start + positions)


@look_up.register_fake
def _empty_look_up(x, dictionary, quantize, add_up=True):
    return (x.new_empty((len(x), *x.shape[2:]), dtype=torch.long), torch.empty_like(x, dtype=dictionary.dtype),
            dictionary.new_empty(len(x)), torch.empty_like(x) if quantize else x.new_empty(0),
            dictionary.new_empty(len(dictionary)), torch.empty_like(dictionary))


def _keep_for_backward(ctx, inputs, output):
    """Keep the residual, and neither features nor codes: a layer that follows may change those in place."""
    found = LookUp(*output)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(found.codes, found.counts, found.sums)
    ctx.save_for_backward(found.residual)
    ctx.dtype = inputs[0].dtype


def _straight_through(ctx, _, of_residual, of_error, of_quantized, *none):
    """Gradient of the features: that of `quantized` and `residual` as it is, that of `error` times 2 residual / numbers."""
    residual, = ctx.saved_tensors
    parts = [part for part in (of_residual, of_quantized) if part is not None]
    if of_error is not None:
        weight = of_error * (2 / residual[0].numel())
        parts.append((residual * weight.view(-1, *[1] * (residual.ndim - 1))).to(ctx.dtype))
    return sum(parts[1:], parts[0]) if parts else None, None, None, None


look_up.register_autograd(_straight_through, setup_context=_keep_for_backward)


@torch.library.custom_op("dgmlab::first_dictionary", mutates_args=())
def first_dictionary(rows: torch.Tensor, n_codes: int, n_iterations: int) -> torch.Tensor:
    """A dictionary made of a batch: K of its vectors, then `n_iterations` of k-means; rank 0's on all ranks.

    rows (T, D) float -> (K, D). With fewer vectors than codes each vector is taken once before any is taken again: the
    repeats lose every tie to the first copy, until they are revived from later batches. Draws from torch's own generator.
    ValueError  a vector holds a NaN or an infinity
    """
    _check_finite(rows.sum(1), "vectors")
    if len(rows) < n_codes:
        warnings.warn(f"the first batch has {len(rows):,} vectors for {n_codes:,} codes: some codes begin as copies. "
                      f"Use at most {len(rows):,} codes, or begin with a larger batch.", stacklevel=2)
    order = torch.randperm(len(rows), device=rows.device).repeat(math.ceil(n_codes / len(rows)))
    dictionary = rows[order[:n_codes]].clone()
    for _ in range(n_iterations):
        found = LookUp(*look_up(rows, dictionary, False, True))
        means = found.sums / found.counts.clamp(min=1)[:, None]
        dictionary = torch.where(found.counts[:, None] > 0, means, dictionary)
    if world_size() > 1:
        distributed.broadcast(dictionary, 0)
    return dictionary


@first_dictionary.register_fake
def _(rows, n_codes, n_iterations):
    return rows.new_empty(n_codes, rows.shape[1])


class VectorQuantizer(nn.Module):
    """Nearest code of every feature vector, from a dictionary kept by exponential moving averages.

    n_codes        K; the released FQ-GAN settings have 64 to 1,024
    dim            D, the number of channels
    decay          of the averages; the released settings have 0.7 to 0.9. Too high and the dictionary trails the features,
                   too low and it follows single batches
    commit_weight  alpha of the commitment term; the released settings have 0.25 to 15
    mode           quantize: codes go on to the next layer (the paper). regularize: the features go on untouched, and only the
                   commitment term acts (what the authors' code computes, and its published numbers come from). warmup: from
                   the one to the other, linearly over the first `n_warmup` updates
    init           sample: random vectors of the first training batch; kmeans: the same, then ten iterations of k-means;
                   normal: N(0, 1), whatever the features are like
    revive_below   a code is dead when it is used less than this share of the mean usage; it is put onto a random vector of
                   the current batches, with its averages. 0 revives none
    n_warmup       updates until mode 'warmup' has become 'quantize'
    eps            Laplace smoothing of the counts

    The state is in buffers of float32: `dictionary` (K, D), `ema_sums` (K, D), `ema_counts` (K,), `initialised` () and
    `n_updates` (). The counts start at 1 and the sums at the dictionary, so that a code which is not used stays where it is
    (the authors' counts of 0 throw it out to a norm of lambda |e| / eps). Sums not yet applied are not part of the state.
    """

    def __init__(self, n_codes, dim, decay=0.9, commit_weight=1.0, mode="quantize", init="sample", revive_below=0.02,
                 n_warmup=1000, eps=1e-5):
        super().__init__()
        _check_options(n_codes, dim, decay, mode, init, n_warmup)
        self.n_codes, self.dim, self.decay, self.commit_weight = n_codes, dim, decay, commit_weight
        self.mode, self.init, self.revive_below, self.n_warmup, self.eps = mode, init, revive_below, n_warmup, eps
        self.register_buffer("dictionary", torch.randn(n_codes, dim))
        self.register_buffer("ema_sums", self.dictionary.clone())
        self.register_buffer("ema_counts", torch.ones(n_codes))
        self.register_buffer("initialised", torch.tensor(init == "normal"))
        self.register_buffer("n_updates", torch.tensor(0))
        self.frozen = False
        self._ready = init == "normal"  # `initialised`, without asking the device for it at every batch
        self._pending = None

    def extra_repr(self):
        return f"{self.n_codes}, {self.dim}, decay={self.decay}, commit_weight={self.commit_weight}, mode='{self.mode}'"

    def forward(self, x):
        """Look up the nearest codes; while learning (training mode, not frozen) also sum up for the next `update`.

        x  (N, C, H, W) or (T, D) float of any precision, channels in dimension 1; computed in float32, under autocast too
        -> Quantized(output like x, commit (N,) float32, codes (N, H, W) or (T,) long, perplexity () float32)

        ValueError  wrong channels, no vector at all, NaN or infinity, or a dictionary cast to half precision
        """
        self._check_input(x)
        if not (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
            x = x.contiguous()
        learning = self.training and not self.frozen
        if learning and not self._ready:
            self._initialise(x.detach())
        found = LookUp(*look_up(x, self.dictionary, self.mode != "regularize", learning))
        if learning:
            self._remember(x.detach(), found.counts, found.sums)
        output = x if self.mode == "regularize" else found.quantized
        if self.mode == "warmup":
            output = torch.lerp(x, output, (self.n_updates / self.n_warmup).clamp(max=1).to(x.dtype))
        perplexity = torch.special.entr(found.counts / found.codes.numel()).sum().exp()
        return Quantized(output, self.commit_weight * found.error, found.codes, perplexity)

    def _check_input(self, x):
        if x.ndim < 2 or x.shape[1] != self.dim:
            raise ValueError(f"features of {self.dim} channels were expected, (N, {self.dim}, H, W) or (T, {self.dim}), found "
                             f"{tuple(x.shape)}. Make the dictionary with dim={x.shape[1] if x.ndim > 1 else '...'}.")
        if x.numel() == 0:
            raise ValueError(f"at least one vector to quantize was expected, found shape {tuple(x.shape)}.")
        if self.dictionary.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a dictionary is kept in float32, found {self.dictionary.dtype}. Use autocast, or cast only "
                             "the other layers.")

    def _initialise(self, x):
        """Take the dictionary from the first batch x (N, C, ...), unless a checkpoint has brought one."""
        rows = x.movedim(1, -1).reshape(-1, self.dim).to(self.dictionary.dtype)
        first = first_dictionary(rows, self.n_codes, KMEANS_ITERATIONS if self.init == "kmeans" else 0)
        self.dictionary.copy_(torch.where(self.initialised, self.dictionary, first))
        self.ema_sums.copy_(torch.where(self.initialised, self.ema_sums, first))
        self.initialised.fill_(True)
        self._ready = True

    def _remember(self, x, counts, sums):
        """Add a batch to the sums that wait for `update`. x (N, C, ...), counts (K,), sums (K, D)"""
        if self._pending is None:
            self._pending = self._nothing()
        seen, waiting, candidates = self._pending
        if self.revive_below > 0:  # each slot holds one of all vectors since the last update, all equally likely
            flat = x.reshape(len(x), self.dim, -1)
            n_rows, n_positions = len(x) * flat.shape[2], flat.shape[2]
            picks = torch.randint(n_rows, (self.n_codes,), device=x.device)
            fresh = flat[picks // n_positions, :, picks % n_positions].to(candidates.dtype)  # (K, D)
            before = seen.sum()
            replace = torch.rand(self.n_codes, device=x.device) * (before + n_rows) >= before
            candidates.copy_(torch.where(replace[:, None], fresh, candidates))
        seen.add_(counts)
        waiting.add_(sums)

    def _nothing(self):
        """Sums of no batch: counts (K,), sums (K, D), and candidates for dead codes (K, D), the codes themselves.

        Not buffers: DistributedDataParallel would overwrite every rank's by those of rank 0 at each forward pass.
        """
        return torch.zeros_like(self.ema_counts), torch.zeros_like(self.dictionary), self.dictionary.clone()

    @torch.no_grad()
    def update(self):
        """One step of the moving averages with all that was summed up since the last; revive dead codes.

        n = decay n + (1 - decay) counts, m = decay m + (1 - decay) sums, dictionary = m / n, with n smoothed so that its sum
        stays (van den Oord et al. 2017, appendix A.1). Under torch.distributed the sums are those of all ranks: every rank
        must call this, whether it saw a batch or not. Where no rank saw any, nothing changes.
        -> (K,) bool, the codes that were revived
        """
        none = torch.zeros_like(self.ema_counts, dtype=torch.bool)
        if self._pending is None:
            if world_size() == 1:
                return none
            self._pending = self._nothing()
        counts, sums, candidates = _of_all_ranks(*self._pending)
        for waiting in self._pending[:2]:
            waiting.zero_()
        if not counts.any():
            return none
        self.ema_counts.lerp_(counts, 1 - self.decay)
        self.ema_sums.lerp_(sums, 1 - self.decay)
        total = self.ema_counts.sum()
        smoothed = (self.ema_counts + self.eps) / (total + self.n_codes * self.eps) * total
        self.dictionary.copy_(self.ema_sums / smoothed[:, None])
        self.n_updates.add_(1)
        if self.revive_below == 0:
            return none
        threshold = self.revive_below * total / self.n_codes
        dead = self.ema_counts < threshold
        self.dictionary.copy_(torch.where(dead[:, None], candidates, self.dictionary))
        self.ema_sums.copy_(torch.where(dead[:, None], threshold * candidates, self.ema_sums))
        self.ema_counts.copy_(torch.where(dead, threshold, self.ema_counts))
        return dead

    def _apply(self, fn, recurse=True):
        self._pending = None  # another device or precision may follow; a checkpoint does not hold it either
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)
        self._ready, self._pending = bool(self.initialised), None


def update_dictionaries(module):
    """`update` every VectorQuantizer inside `module`, after the optimizer's step -> {name: (K,) bool, revived codes}.

    In a GAN: after each step of D. After a step of G as well, and the generator's fakes pull on the dictionary once more, as
    in the authors' code; or keep G's passes out of it by `frozen(D)`.
    """
    return {name: part.update() for name, part in module.named_modules() if isinstance(part, VectorQuantizer)}


@contextlib.contextmanager
def frozen(module):
    """Context in which the dictionaries inside `module` learn nothing: gradient penalties, metrics, pictures.

    Quantizing and the commitment term go on as usual. Evaluation mode has the same effect.
    """
    quantizers = [part for part in module.modules() if isinstance(part, VectorQuantizer)]
    before = [part.frozen for part in quantizers]
    for part in quantizers:
        part.frozen = True
    try:
        yield module
    finally:
        for part, value in zip(quantizers, before, strict=True):
            part.frozen = value


def world_size():
    """Number of ranks; 1 without torch.distributed."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _of_all_ranks(counts, sums, candidates):
    """Counts (K,) and sums (K, D) added over the ranks, and candidates (K, D) from each rank in turn, in one message."""
    n_ranks = world_size()
    if n_ranks == 1:
        return counts.clone(), sums.clone(), candidates.clone()
    mine = torch.arange(len(counts), device=counts.device) % n_ranks == distributed.get_rank()
    message = torch.cat([counts[:, None], sums, candidates * mine[:, None]], dim=1)  # (K, 1 + 2 D)
    distributed.all_reduce(message)
    return message[:, 0], *message[:, 1:].chunk(2, dim=1)


def _check_options(n_codes, dim, decay, mode, init, n_warmup):
    for name, value, choices in (("mode", mode, MODES), ("init", init, INITS)):
        if value not in choices:
            raise ValueError(f"{name} is '{value}'; choose one of: {', '.join(choices)}.")
    if n_codes < 1 or dim < 1 or n_warmup < 1 or not 0 <= decay < 1:
        raise ValueError(f"a dictionary needs n_codes, dim and n_warmup >= 1 and 0 <= decay < 1, found n_codes={n_codes}, "
                         f"dim={dim}, n_warmup={n_warmup}, decay={decay}.")
