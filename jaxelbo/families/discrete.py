"""Bernoulli and categorical families: finite supports, no gradient through their draws.

Floor 2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, finite, flattening
from jaxelbo.types import Family, Key, Latent, Params

_FAVOURED = 0.9  # probability that `init` gives to the values of `start`


def bernoulli(latent_like: Latent) -> Family:
    """Independent zeros and ones, over any pytree of floating-point leaves.

    Its params are ``{"logits": [D]}``, log-odds of one for every entry of the flat latent (all leaves, ravelled and
    joined in the order of ``jax.tree.leaves``). Draws are 0.0 and 1.0 and carry no gradient; each entry is a part.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); its values are not read.

    Returns:
      The `Family`. Its ``init`` ignores the key; without a start all logits are 0, with one its entries (0 or 1) have
      probability 0.9.

    Raises:
      TypeError: a leaf that is not floating-point, by its path.
      ValueError: an empty pytree.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*.

    >>> import jax, jax.numpy as jnp
    >>> family = bernoulli({"mask": jax.ShapeDtypeStruct((3,), "float32")})
    >>> params = {"logits": jnp.array([-9.0, 0.0, 9.0])}
    >>> family.log_prob(params, {"mask": jnp.array([0.0, 1.0, 1.0])}).round(2)  # log(1/2)
    Array(-0.69, dtype=float32)
    """
    layout = flattening.layout_of(latent_like)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        if start is None:
            return {"logits": jnp.zeros((layout.size,), layout.dtype)}
        odds = _FAVOURED / (1 - _FAVOURED)
        return {"logits": (2 * flattening.flatten(layout, start, "start") - 1) * jnp.log(odds).astype(layout.dtype)}

    def distribution(params: Params) -> finite.Bernoulli:
        return finite.Bernoulli(params["logits"])

    def sample(params: Params, key: Key) -> Latent:
        return flattening.unflatten(layout, finite.draw_bernoulli(distribution(params), key))

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        return finite.log_probs_bernoulli(distribution(params), flattening.flatten(layout, latent))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return jnp.sum(score_log_probs(params, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat = finite.draw_bernoulli(distribution(params), key)
        log_probs = finite.log_probs_bernoulli(distribution(params), flat)
        return flattening.unflatten(layout, flat), jnp.sum(log_probs)

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        del key
        numbers = np.arange(2**layout.size)[:, None]
        flat = jnp.asarray(numbers >> np.arange(layout.size) & 1, layout.dtype)
        logits = params["logits"]
        log_probs = jnp.matmul(flat, logits, precision=jax.lax.Precision.HIGHEST) - jnp.sum(jax.nn.softplus(logits))
        return jax.vmap(functools.partial(flattening.unflatten, layout))(flat), log_probs

    def relax(params: Params, key: Key, temperature: jax.Array) -> tuple[Latent, Latent, Latent]:
        first, second, third = finite.relaxed_bernoulli(distribution(params), key, temperature)
        return tuple(flattening.unflatten(layout, flat) for flat in (first, second, third))

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        probability = jax.nn.sigmoid(params["logits"])
        scale = jnp.sqrt(probability * jax.nn.sigmoid(-params["logits"]))
        return flattening.unflatten(layout, probability), flattening.unflatten(layout, scale)

    return Family(
        name="bernoulli",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=lambda params: finite.entropy_bernoulli(distribution(params)),
        configurations=configurations,
        num_configurations=2**layout.size,
        relax=relax,
        location_and_scale=location_and_scale,
        distribution=distribution,
        unflatten=functools.partial(flattening.unflatten, layout),
    )


def categorical(num_categories: int, *, dtype: jax.typing.DTypeLike = float) -> Family:
    """One index 0, ..., K - 1, an int32 scalar, for models that look things up by it.

    Its params are ``{"logits": [K]}``, unnormalised. Draws carry no gradient. For more than one index use
    ``independent(categorical(K), n)``; for a latent that can be relaxed, `one_hot_categorical`.

    Args:
      num_categories: K, static, at least 1.
      dtype: of the logits; ``float`` is jax's own default.

    Returns:
      The `Family`. Its ``init`` ignores the key; without a start all logits are 0, with one that index has
      probability 0.9.

    Raises:
      TypeError, ValueError: a number of categories that is no positive integer.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> family = categorical(3)
    >>> params = {"logits": jnp.log(jnp.array([1.0, 2.0, 1.0]))}
    >>> round(float(jnp.exp(family.log_prob(params, 1))), 4)
    0.5
    """
    num_categories = checks.check_count(num_categories, "num_categories")

    def check_index(latent: Latent, name: str = "latent") -> jax.Array:
        if jnp.shape(latent) != () or not jnp.issubdtype(jnp.result_type(latent), jnp.integer):
            raise TypeError(f"{name} must be one integer index for family categorical, got {checks.describe(latent)}.")
        return jnp.asarray(latent)

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        log_probs, index = finite.log_probs_categorical(finite.Categorical(params["logits"])), check_index(latent)
        return jnp.where((index >= 0) & (index < num_categories), log_probs[index], -jnp.inf)

    def is_start(start: Latent) -> jax.Array:
        return jnp.arange(num_categories) == check_index(start, "start")

    return _one_category(
        "categorical", num_categories, dtype, is_start, log_prob,
        encode=lambda index: index,
        values=lambda: jnp.arange(num_categories, dtype=jnp.int32),
    )  # fmt: skip


def one_hot_categorical(num_categories: int, *, dtype: jax.typing.DTypeLike = float) -> Family:
    """One of K categories as a vector ``[K]`` with a single 1.0, which can be relaxed to the simplex.

    Its params are ``{"logits": [K]}``, unnormalised. Draws carry no gradient; its log-probability is linear in the
    latent, and so defined on the simplex too.

    Args:
      num_categories: K, static, at least 1.
      dtype: of the logits and of the latent; ``float`` is jax's own default.

    Returns:
      The `Family`. Its ``init`` ignores the key; without a start all logits are 0, with one (a one-hot vector) that
      category has probability 0.9.

    Raises:
      TypeError, ValueError: a number of categories that is no positive integer.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> family = one_hot_categorical(3)
    >>> params = {"logits": jnp.log(jnp.array([1.0, 2.0, 1.0]))}
    >>> round(float(jnp.exp(family.log_prob(params, jnp.array([0.0, 1.0, 0.0])))), 4)
    0.5
    """
    num_categories = checks.check_count(num_categories, "num_categories")
    like = jax.ShapeDtypeStruct((num_categories,), jax.dtypes.canonicalize_dtype(dtype))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        checks.check_like(latent, like, "latent", "family one_hot_categorical")
        log_probs = finite.log_probs_categorical(finite.Categorical(params["logits"]))
        # A category of probability zero adds nothing where the latent is 0.
        is_zero = jnp.isneginf(log_probs)
        penalty = jnp.where(jnp.any(is_zero & (latent > 0)), -jnp.inf, 0)
        return jnp.sum(latent * jnp.where(is_zero, 0, log_probs)) + penalty

    def is_start(start: Latent) -> jax.Array:
        checks.check_like(start, like, "start", "family one_hot_categorical")
        return jnp.asarray(start) > 0

    def relax(params: Params, key: Key, temperature: jax.Array) -> tuple[Latent, Latent, Latent]:
        return finite.relaxed_one_hot(finite.Categorical(params["logits"]), key, temperature)

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        probability = jax.nn.softmax(params["logits"])
        return probability, jnp.sqrt(probability * (1 - probability))

    family = _one_category(
        "one_hot_categorical", num_categories, dtype, is_start, log_prob,
        encode=lambda index: jax.nn.one_hot(index, num_categories, dtype=like.dtype),
        values=lambda: jnp.eye(num_categories, dtype=like.dtype),
    )  # fmt: skip
    return family._replace(relax=relax, location_and_scale=location_and_scale)


def _one_category(name, num_categories, dtype, is_start, log_prob, *, encode, values) -> Family:
    """What the two categorical families share; ``encode`` turns an index into a latent, ``values`` are all latents."""
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating-point, got {dtype}.")

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        zeros = jnp.zeros((num_categories,), dtype)
        if start is None or num_categories == 1:
            return {"logits": zeros}
        odds = _FAVOURED * (num_categories - 1) / (1 - _FAVOURED)
        return {"logits": jnp.where(is_start(start), jnp.log(odds).astype(dtype), zeros)}

    def distribution(params: Params) -> finite.Categorical:
        return finite.Categorical(params["logits"])

    def sample(params: Params, key: Key) -> Latent:
        return encode(finite.draw_categorical(distribution(params), key))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latent = sample(params, key)
        return latent, log_prob(params, latent)

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        del key
        return values(), finite.log_probs_categorical(distribution(params))

    return Family(
        name=name,
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=lambda params, latent: log_prob(params, latent)[None],
        entropy=lambda params: finite.entropy_categorical(distribution(params)),
        configurations=configurations,
        num_configurations=num_categories,
        distribution=distribution,
    )
