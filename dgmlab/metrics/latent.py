"""How much a latent space is used: active units and mutual information.

Letters: N sentences, Z latent. All numbers in nats.
"""

import math

import numpy as np


def active_units(mu, threshold=0.01):
    """Number of dimensions whose posterior mean varies over the data: Var_x(mu_d) >= threshold (Burda et al. 2016).

    mu (N, Z); the variance is the unbiased one (N - 1), as in the code of Optimus and of He et al. 2019 -> int in [0, Z]
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 2 or len(mu) < 2:
        raise ValueError(f"active_units needs posterior means (N, Z) of at least 2 sentences, found shape {mu.shape}.")
    return int((mu.var(axis=0, ddof=1) >= threshold).sum())


def mutual_information(mu, logvar, z=None, seed=0, chunk=1024):
    """I(x; z) under the aggregate posterior of all N sentences, in nats; at most log N (Hoffman and Johnson 2016).

    mu, logvar  (N, Z)     q(z|x_n); the mixture is taken over the *whole* set, not over batches of 32, whose
                           average can never exceed log 32 = 3.47
    z           (N, Z)     one draw of each posterior; drawn here from `seed` where not given
    chunk       rows compared at a time; memory is chunk * N numbers
    -> float: mean over n of log q(z_n|x_n) - log q(z_n)
    """
    mu, logvar = np.asarray(mu, dtype=np.float64), np.asarray(logvar, dtype=np.float64)
    if mu.shape != logvar.shape or mu.ndim != 2 or len(mu) < 1:
        raise ValueError(f"mutual_information needs mu and logvar of one shape (N, Z), found {mu.shape} and {logvar.shape}.")
    n, size = mu.shape
    if z is None:
        z = mu + np.exp(0.5 * logvar) * np.random.default_rng(seed).standard_normal(mu.shape)
    z = np.asarray(z, dtype=np.float64)
    own = -0.5 * (size * math.log(2 * math.pi) + logvar.sum(1) + ((z - mu) ** 2 * np.exp(-logvar)).sum(1))
    marginal = np.concatenate([log_aggregate(z[i:i + chunk], mu, logvar) for i in range(0, n, chunk)])
    return float((own - marginal).mean())


def log_aggregate(z, mu, logvar):
    """log q(z) of the mixture (1/N) sum_n N(mu_n, exp(logvar_n)): z (M, Z), mu and logvar (N, Z) -> (M,)"""
    precision = np.exp(-logvar)  # (N, Z)
    # sum_d (z - mu)^2 / var written as three products, so that no (M, N, Z) array is made
    square = z**2 @ precision.T - 2 * z @ (mu * precision).T + (mu**2 * precision).sum(1)
    log_density = -0.5 * (mu.shape[1] * math.log(2 * math.pi) + logvar.sum(1) + np.maximum(square, 0.0))  # (M, N)
    top = log_density.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(log_density - top).mean(axis=1))
