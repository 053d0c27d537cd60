"""The rows of the table of costs: each estimator on one problem, by jaxelbo and by hand.

Those on bits and Gaussian codes stand in `estimator_models`; here are the others: one of 64 categories or all values of
8 bits before a decoder, a chain of 196 bits, a recurrent policy, and a mixture over 5,000 data.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxelbo
from benchmarks import hand_written
from benchmarks.estimator_models import (
    BATCH,
    HIDDEN,
    PIXELS,
    Case,
    encode,
    log_likelihood,
    network,
    normal,
    of_bits,
    of_codes,
    of_relaxed_bits,
    over_batch,
    pictures,
    rebar_by_hand,
    relax_by_hand,
    relax_by_network,
)
from jaxelbo import bounds, estimators, families


def log_joint_of_index(z: jax.Array, model: Any, x: jax.Array) -> jax.Array:
    """A uniform category, its row of a table before the decoder."""
    table, decoder = model
    return log_likelihood(table[z], decoder, x) - jnp.log(1.0 * table.shape[0])


def without_replacement(num_categories: int = 64, num_samples: int = 4) -> Case:
    """One of 64 categories a datum, each a row of a table before the decoder."""
    family = families.categorical(num_categories)
    params = network(16, num_categories)
    params["decoder"] = normal(4, num_categories, 16), params["decoder"]

    def one(logits: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_index, model=params["decoder"], x=x)
        estimator = estimators.without_replacement
        return jaxelbo.elbo({"logits": logits}, key, log_joint, family, num_samples=num_samples, estimator=estimator)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_index, x=x[:, None])
        logits = encode(params["encoder"], x)
        return hand_written.without_replacement(logits, params["decoder"], key, log_joint, num_samples)

    name = f"without_replacement, {num_samples} of {num_categories}"
    return Case(name, params, over_batch(one), by_hand, (pictures(),))


def enumeration_of_bits(dim: int = 8) -> Case:
    """All 256 values of 8 bits, which the whole batch shares."""
    family = families.bernoulli(jnp.zeros(dim))
    configurations = jnp.asarray(np.arange(2**dim)[:, None] >> np.arange(dim) & 1, jnp.float32)

    def log_joint(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:
        w1, b1, w2, b2 = decoder
        logits = jnp.tanh(z @ w1 + b1) @ w2 + b2
        return logits @ x - jnp.sum(jax.nn.softplus(logits)) - dim * jnp.log(2.0)

    def one(logits: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        target = functools.partial(log_joint, decoder=params["decoder"], x=x)
        q = {"logits": logits}
        return jaxelbo.elbo(q, key, target, family, num_samples=1, estimator=estimators.enumeration)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        del key
        logits = encode(params["encoder"], x)
        log_probs = logits @ configurations.T - jnp.sum(jax.nn.softplus(logits), axis=-1, keepdims=True)
        w1, b1, w2, b2 = params["decoder"]
        pixels = jnp.tanh(configurations @ w1 + b1) @ w2 + b2
        log_p = x @ pixels.T - jnp.sum(jax.nn.softplus(pixels), axis=-1) - dim * jnp.log(2.0)
        entropy = jnp.sum(jax.nn.softplus(logits) - jax.nn.sigmoid(logits) * logits, axis=-1)
        return jnp.mean(jnp.sum(jnp.exp(log_probs) * log_p, axis=-1) + entropy)

    return Case(f"enumeration, {dim} bits", network(dim, dim), over_batch(one), by_hand, (pictures(),))


def chain(name: str, go: bool, batch: int = 64, length: int = 196, num_samples: int = 4) -> Case:
    """Noisy views of a chain of bits whose neighbours agree; reward to go, or local terms."""
    family = families.bernoulli(jnp.zeros(length))
    x = jnp.asarray(np.random.default_rng(5).normal(size=(batch, length)), jnp.float32)
    params = {
        "logits": jnp.asarray(np.random.default_rng(6).normal(size=(batch, length)), jnp.float32),
        "model": {"coupling": jnp.asarray(0.5), "means": jnp.array([-0.5, 0.5])},
    }

    def unary(z: jax.Array, model: Any, x: jax.Array) -> jax.Array:
        return -0.5 * (x - model["means"][0] - z * (model["means"][1] - model["means"][0])) ** 2

    def pairs(z: jax.Array, model: Any) -> jax.Array:
        return model["coupling"] * (2 * z[..., 1:] - 1) * (2 * z[..., :-1] - 1)

    def steps(z: jax.Array, model: Any, x: jax.Array) -> jax.Array:
        return unary(z, model, x) + jnp.pad(pairs(z, model), [(0, 0)] * (z.ndim - 1) + [(1, 0)])

    def local(z: jax.Array, model: Any, x: jax.Array) -> jax.Array:
        both, rows = pairs(z, model), [(0, 0)] * (z.ndim - 1)
        return unary(z, model, x) + jnp.pad(both, [*rows, (1, 0)]) + jnp.pad(both, [*rows, (0, 1)])

    def log_joint(z: jax.Array, model: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(unary(z, model, x), axis=-1) + jnp.sum(pairs(z, model), axis=-1)

    def one(logits: jax.Array, key: jax.Array, model: Any, x: jax.Array) -> jax.Array:
        terms = functools.partial(steps if go else local, model=model, x=x)
        estimator = estimators.reward_to_go(terms) if go else estimators.rao_blackwellised(terms)
        target, q = functools.partial(log_joint, model=model, x=x), {"logits": logits}
        return jaxelbo.elbo(q, key, target, family, num_samples=num_samples, estimator=estimator)

    def ours(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        keys = jax.random.split(key, batch)
        return jnp.mean(jax.vmap(one, (0, 0, None, 0))(params["logits"], keys, params["model"], x))

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        def rewards(z: jax.Array, model: Any, scores: jax.Array) -> jax.Array:
            if go:
                return jax.lax.cumsum(steps(z, model, x) - scores, axis=2, reverse=True)
            return local(z, model, x) - scores

        target = functools.partial(log_joint, x=x)
        return hand_written.by_part(params["logits"], params["model"], key, target, num_samples, rewards)

    return Case(name, params, ours, by_hand, (x,))


def recurrent_policy(length: int = 16, dim: int = 8, width: int = 64, num_samples: int = 4) -> Case:
    """Reward to go of a recurrent network that draws 8 bits a step, 16 steps, given an encoding of the picture."""
    params = {
        "encoder": (normal(1, PIXELS, width), jnp.zeros(width)),
        "cell": {"state": normal(2, width, width), "bits": normal(3, dim, width), "out": normal(4, width, dim)},
        "model": (normal(5, dim, HIDDEN), jnp.zeros(HIDDEN), normal(6, HIDDEN, 4), jnp.zeros(4)),
    }

    def step(cell: Any, carry: jax.Array, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = jnp.tanh(carry @ cell["state"] + previous @ cell["bits"])
        return carry, carry @ cell["out"]

    def step_fn(params: Any, carry: jax.Array, previous: jax.Array) -> tuple[jax.Array, Any]:
        carry, logits = step(params["cell"], carry, previous)
        return carry, {"logits": logits}

    def init_fn(key: jax.Array) -> Any:
        del key
        return {"cell": params["cell"], "start": jnp.zeros(width)}

    bits = families.bernoulli(jnp.zeros(dim))
    family = families.sequential(bits, step_fn, lambda q: q["start"], init_fn, num_steps=length)

    def terms(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:  # step t sees four pixels
        return log_likelihood(z, decoder, x) - dim * jnp.log(2.0)

    def one(start: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        log_terms = functools.partial(terms, decoder=params["model"], x=x.reshape(length, -1))
        q = {"cell": params["cell"], "start": start}
        estimator = estimators.reward_to_go(log_terms)
        log_joint = lambda z: jnp.sum(log_terms(z))  # noqa: E731
        return jaxelbo.elbo(q, key, log_joint, family, num_samples=num_samples, estimator=estimator)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        steps = jnp.moveaxis(x.reshape(BATCH, length, -1), 1, 0)[:, None]  # [T, 1, B, pixels of a step]
        shape = length, num_samples, BATCH, dim
        carry = jnp.broadcast_to(encode(params["encoder"], x), (num_samples, BATCH, width))
        cell, log_terms = functools.partial(step, params["cell"]), functools.partial(terms, x=steps)
        return hand_written.recurrent(cell, carry, params["model"], key, log_terms, shape)

    return Case(f"reward_to_go, recurrent, T = {length}", params, over_batch(one), by_hand, (pictures(),))


def mixture(one_hot: bool, num_data: int = 5_000, size: int = 10) -> Case:
    """The exact expectation over each datum's own categorical, in its logits and in the means of a mixture."""
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.normal(size=num_data) * 3, jnp.float32)
    logits, means = jnp.asarray(rng.normal(size=(num_data, size)), jnp.float32), jnp.linspace(-3.0, 3.0, size)
    family = families.one_hot_categorical(size) if one_hot else families.categorical(size)
    constant = -jnp.log(1.0 * size) - 0.5 * jnp.log(2 * jnp.pi)

    def one(logits: jax.Array, key: jax.Array, means: jax.Array, x: jax.Array) -> jax.Array:
        def log_joint(z: jax.Array) -> jax.Array:
            mean = z @ means if one_hot else means[z]
            return constant - 0.5 * (x - mean) ** 2

        q = {"logits": logits}
        return jaxelbo.elbo(q, key, log_joint, family, num_samples=1, estimator=estimators.enumeration)

    def ours(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(one, (0, None, None, 0))(params["logits"], key, params["means"], x))

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        del key
        log_joints = constant - 0.5 * (x[:, None] - params["means"]) ** 2
        return hand_written.enumeration(jax.nn.log_softmax(params["logits"]), log_joints)

    kind = "one-hot" if one_hot else "index"
    return Case(f"enumeration, {size} components, {kind}", {"logits": logits, "means": means}, ours, by_hand, (x,))


def summed_out_mixture(num_data: int = 5_000, size: int = 10, num_samples: int = 4) -> Case:
    """A Gaussian q over the component locations, the components summed out of each datum by ``log_evidence``."""
    x = jnp.asarray(np.random.default_rng(8).normal(size=num_data) * 3, jnp.float32)
    weights = jnp.full(size, -jnp.log(1.0 * size))
    family = families.mean_field(jnp.zeros(size))
    params = family.init(jax.random.key(0), jnp.linspace(-3.0, 3.0, size))

    def log_prior(z: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(z**2, axis=-1) / 25.0

    def ours(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        def log_joint(z: jax.Array) -> jax.Array:
            def of_datum(x: jax.Array) -> jax.Array:
                return jaxelbo.hard_attention.log_evidence(weights, -0.5 * (x - z) ** 2)

            return log_prior(z) + jnp.sum(jax.vmap(of_datum)(x))

        return jaxelbo.elbo(params, key, log_joint, family, num_samples=num_samples)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        def log_joint(z: jax.Array, x: jax.Array) -> jax.Array:  # z [S, 1, K]
            terms = jax.nn.logsumexp(weights - 0.5 * (x[:, None] - z) ** 2, axis=-1)
            return log_prior(z) + jnp.sum(terms, axis=-1, keepdims=True)

        q = params["loc"][None], params["log_scale"][None]
        return hand_written.gaussian(q, x, key, log_joint, num_samples)

    return Case(f"pathwise, {size} components summed out", params, ours, by_hand, (x,))


def cases() -> list[Case]:
    """All rows of the table."""
    weighted, network_of_control = bounds.importance_weighted, (normal(7, 32, 32), jnp.zeros(32), normal(8, 32))
    temperature = jnp.asarray(0.5)
    rebar = functools.partial(of_relaxed_bits, estimator=estimators.rebar, hand=rebar_by_hand)
    relax = functools.partial(of_relaxed_bits, estimator=relax_by_network, hand=relax_by_hand)
    by_hand = functools.partial
    return [
        of_bits("leave_one_out", estimators.leave_one_out, hand_written.leave_one_out),
        of_bits("score_function", estimators.score_function, hand_written.score_function),
        of_bits(
            "with_baseline", estimators.with_baseline(-70.0), by_hand(hand_written.with_baseline, baseline=-70.0)
        ),
        of_bits("VIMCO, S = 16", estimators.leave_one_out, hand_written.vimco, 16, weighted),
        of_bits("arm", estimators.arm, hand_written.arm),
        of_bits("disarm", estimators.disarm, hand_written.disarm),
        rebar("rebar", tuned=(0.5, 1.0), trains=False),
        rebar("rebar, tuned", tuned=(temperature, jnp.asarray(1.0)), trains=True),
        relax("relax", tuned=(0.5, network_of_control), trains=False),
        relax("relax, trained", tuned=(temperature, network_of_control), trains=True),
        of_bits(
            "gumbel_softmax", estimators.gumbel_softmax(0.5), by_hand(hand_written.gumbel_softmax, temperature=0.5)
        ),
        of_bits(
            "straight_through", estimators.straight_through(0.5),
            by_hand(hand_written.gumbel_softmax, temperature=0.5, hard=True),
        ),
        chain("reward_to_go, chain of 196", True),
        recurrent_policy(),
        chain("rao_blackwellised, chain of 196", False),
        of_bits("measure_valued, 8 bits", estimators.measure_valued, hand_written.measures_of_bits, 1, dim=8),
        of_codes("measure_valued, 8 Gaussian", estimators.measure_valued, hand_written.measures_of_gaussian, 1, dim=8),
        of_codes("pathwise", estimators.pathwise, hand_written.gaussian),
        of_codes("closed_form_entropy", estimators.closed_form_entropy, hand_written.gaussian),
        of_codes(
            "sticking_the_landing", estimators.sticking_the_landing, by_hand(hand_written.gaussian, landing=True)
        ),
        of_codes(
            "doubly_reparameterised, K = 50", estimators.doubly_reparameterised,
            hand_written.doubly_reparameterised, 50, weighted,
        ),
        enumeration_of_bits(),
        without_replacement(),
        mixture(one_hot=False),
        mixture(one_hot=True),
        summed_out_mixture(),
    ]  # fmt: skip
