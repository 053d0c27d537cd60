"""Independent products of families: many copies of one, or several in one pytree.

Floor 2.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, finite
from jaxelbo.types import Family, Key, Latent, Params


def independent(family: Family, num_copies: int) -> Family:
    """N independent copies of a family, stacked along a leading axis.

    Params and latents are those of ``family`` with every leaf ``[N, ...]``; each copy has its own params. Its parts are
    those of the first copy, then of the second, and so on.

    Args:
      family: the family of one copy.
      num_copies: N, static, at least 1.

    Returns:
      The `Family`; it has an entropy, configurations, a relaxation, ... where ``family`` has.

    Raises:
      TypeError, ValueError: a family that is none, a number of copies that is no positive integer.

    References:
      Jordan, Ghahramani, Jaakkola, Saul (1999), *An Introduction to Variational Methods for Graphical Models*.

    >>> import jax
    >>> from jaxelbo import families
    >>> cells = independent(families.categorical(4), 3)
    >>> params = cells.init(jax.random.key(0))
    >>> params["logits"].shape, cells.sample(params, jax.random.key(1)).shape, cells.num_configurations
    ((3, 4), (3,), 64)
    """
    checks.check_family(family)
    num_copies = checks.check_count(num_copies, "num_copies")
    entropy_of, distribution_of = _vmap_or_none(family.entropy), _vmap_or_none(family.distribution)
    configurations_of = _vmap_or_none(family.configurations)

    def keys_of(key: Key) -> Key:
        return jax.random.split(key, num_copies)

    def init(key: Key, start: Latent | None = None) -> Params:
        if start is None:
            return jax.vmap(family.init)(keys_of(key))
        checks.check_leading_axis(start, num_copies, "start", "copies")
        return jax.vmap(family.init)(keys_of(key), start)

    def sample(params: Params, key: Key) -> Latent:
        return jax.vmap(family.sample)(params, keys_of(key))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        checks.check_leading_axis(latent, num_copies, "latent", "copies")
        return jnp.sum(jax.vmap(family.log_prob)(params, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latent, log_probs = jax.vmap(family.sample_and_log_prob)(params, keys_of(key))
        return latent, jnp.sum(log_probs)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        checks.check_leading_axis(latent, num_copies, "latent", "copies")
        return jnp.ravel(jax.vmap(family.score_log_probs)(params, latent))

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latents, log_probs = configurations_of(params, keys_of(key))  # leaves [N, M, ...]
        chosen = _tuples([family.num_configurations] * num_copies)  # [M^N, N]
        copies = np.arange(num_copies)
        return jax.tree.map(lambda leaf: leaf[copies, chosen], latents), jnp.sum(log_probs[copies, chosen], axis=1)

    def relax(params: Params, key: Key, temperature: jax.Array) -> tuple[Latent, Latent, Latent]:
        return jax.vmap(lambda p, k: family.relax(p, k, temperature))(params, keys_of(key))

    return Family(
        name=f"independent({family.name}, {num_copies})",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=_if(entropy_of, lambda params: jnp.sum(entropy_of(params))),
        configurations=_if(family.configurations, configurations),
        num_configurations=family.num_configurations**num_copies if family.configurations else 0,
        relax=_if(family.relax, relax),
        location_and_scale=_vmap_or_none(family.location_and_scale),
        distribution=_if(distribution_of, lambda params: finite.Copies(distribution_of(params))),
    )


def joint(families: Any) -> Family:
    """Several families in one pytree, independent of each other, each with its own kind of draw.

    Params and latents are pytrees of the shape of ``families``, with each family's own in its place. Some parts may be
    reparameterised and others not: the default estimator treats each as it must.

    Args:
      families: a pytree with `Family` records as leaves, such as ``{"slope": mean_field(0.0), "on": bernoulli(0.0)}``.

    Returns:
      The `Family`; it has an entropy, a relaxation, ... where all of them have, and configurations of those that have.

    Raises:
      TypeError, ValueError: a leaf that is no family, an empty pytree.

    References:
      Schulman, Heess, Weber, Abbeel (2015), *Gradient Estimation Using Stochastic Computation Graphs*.

    >>> import jax
    >>> from jaxelbo import families
    >>> family = joint({"slope": families.mean_field(0.0), "on": families.bernoulli(0.0)})
    >>> params = family.init(jax.random.key(0))
    >>> jax.tree.map(jax.numpy.shape, params)
    {'on': {'logits': (1,)}, 'slope': {'loc': (1,), 'log_scale': (1,)}}
    >>> family.score_log_probs(params, {"slope": 0.3, "on": 1.0})  # one entry: log(1/2)
    Array([-0.6931472], dtype=float32)
    """
    members, structure = jax.tree.flatten(families, is_leaf=lambda leaf: isinstance(leaf, Family))
    if not members:
        raise ValueError("families must have at least one leaf, got an empty pytree.")
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(
        jax.tree.unflatten(structure, range(len(members))))[0]]  # fmt: skip
    for path, member in zip(paths, members, strict=True):
        checks.check_family(member, f"families{path}")

    def split(tree: Any, name: str) -> list[Any]:
        try:
            return structure.flatten_up_to(tree)
        except (ValueError, TypeError):
            raise ValueError(
                f"{name} must have an entry for each of {paths}, got {jax.tree.structure(tree)}."
            ) from None

    def each(function: Callable[..., Any], *trees: Any, names: tuple[str, ...] = ("params", "latent")) -> list[Any]:
        return [function(*row) for row in zip(members, *map(split, trees, names), strict=True)]

    def with_keys(function: Callable[..., Any], params: Params, key: Key) -> list[Any]:
        keys = jax.random.split(key, len(members))
        return [function(*row) for row in zip(members, split(params, "params"), keys, strict=True)]

    def init(key: Key, start: Latent | None = None) -> Params:
        keys = jax.random.split(key, len(members))
        starts = [None] * len(members) if start is None else split(start, "start")
        return structure.unflatten(m.init(k, s) for m, k, s in zip(members, keys, starts, strict=True))

    def sample(params: Params, key: Key) -> Latent:
        return structure.unflatten(with_keys(lambda m, p, k: m.sample(p, k), params, key))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return functools.reduce(operator.add, each(lambda m, p, z: m.log_prob(p, z), params, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latents, log_probs = zip(*with_keys(lambda m, p, k: m.sample_and_log_prob(p, k), params, key), strict=True)
        return structure.unflatten(latents), functools.reduce(operator.add, log_probs)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        return jnp.concatenate(each(lambda m, p, z: m.score_log_probs(p, z), params, latent))

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        rows = with_keys(configurations_or_draw, params, key)
        chosen = _tuples([log_probs.shape[0] for _, log_probs in rows])
        latents = [
            jax.tree.map(lambda leaf, i=i: leaf[i], latent) for (latent, _), i in zip(rows, chosen.T, strict=True)
        ]
        log_probs = [log_probs[i] for (_, log_probs), i in zip(rows, chosen.T, strict=True)]
        return structure.unflatten(latents), functools.reduce(operator.add, log_probs)

    def relax(params: Params, key: Key, temperature: jax.Array) -> tuple[Latent, Latent, Latent]:
        triples = with_keys(lambda m, p, k: _relax_or_draw(m, p, k, temperature), params, key)
        return tuple(structure.unflatten(latents) for latents in zip(*triples, strict=True))

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        pairs = each(lambda m, p: m.location_and_scale(p), params)
        return tuple(structure.unflatten(latents) for latents in zip(*pairs, strict=True))

    finite_members = [member for member in members if member.configurations]
    can_list = bool(finite_members) and all(map(_is_exact_or_drawn, members))
    return Family(
        name="joint(" + ", ".join(f"{path}: {member.name}" for path, member in zip(paths, members, strict=True)) + ")",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=_if(all(m.entropy for m in members), lambda params: sum(each(lambda m, p: m.entropy(p), params))),
        configurations=_if(can_list, configurations),
        num_configurations=math.prod(m.num_configurations for m in finite_members) if can_list else 0,
        relax=_if(any(m.relax for m in members) and all(m.relax or is_reparameterised(m) for m in members), relax),
        location_and_scale=_if(all(m.location_and_scale for m in members), location_and_scale),
        distribution=_if(
            all(m.distribution for m in members),
            lambda params: finite.Product(tuple(each(lambda m, p: m.distribution(p), params))),
        ),
    )


def _if(condition: Any, function: Callable[..., Any]) -> Callable[..., Any] | None:
    return function if condition else None


def _vmap_or_none(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    return None if function is None else jax.vmap(function)


def is_reparameterised(family: Family) -> bool:
    """Whether every part is reparameterised."""
    params = jax.eval_shape(lambda: family.init(jax.random.key(0)))
    scores = jax.eval_shape(lambda p: family.score_log_probs(p, family.sample(p, jax.random.key(0))), params)
    return scores.shape == (0,)


def _is_exact_or_drawn(family: Family) -> bool:
    return family.configurations is not None or is_reparameterised(family)


def configurations_or_draw(family: Family, params: Params, key: Key) -> tuple[Latent, jax.Array]:
    """The family's configurations or, where it is reparameterised, one draw with probability one."""
    if family.configurations is not None:
        return family.configurations(params, key)
    latent, log_prob = family.sample_and_log_prob(params, key)
    return jax.tree.map(lambda leaf: leaf[None], latent), jnp.zeros((1,), log_prob.dtype)


def _relax_or_draw(family: Family, params: Params, key: Key, temperature: jax.Array) -> tuple[Latent, Latent, Latent]:
    if family.relax is not None:
        return family.relax(params, key, temperature)
    latent = family.sample(params, key)
    return latent, latent, latent


def _tuples(sizes: list[int]) -> np.ndarray:
    """All index tuples, ``[product of sizes, number of sizes]``."""
    return np.array(list(itertools.product(*map(range, sizes))), np.int32).reshape(-1, len(sizes))
