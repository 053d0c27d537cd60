"""A mixture of Gaussians, whose draws follow its components."""

import jax
import jax.numpy as jnp

from jaxelbo import checks, flattening, gaussians
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


def mixture(family: Family, num_components: int) -> Family:
    """The mixture of K Gaussians of one form: q(z) = sum over k of softmax(logits)_k q_k(z).

    Its params are ``{"logits": [K], "components": params of family, leaves [K, ...]}``. Draws follow the components'
    params by implicit reparameterisation (each component moves a draw by its share in the density there); for the
    logits there is one score log-probability. So the default estimator is right for both. For the ELBO
    `estimators.enumeration` has much less variance: it takes one draw of each component, weighted by the logits.

    Args:
      family: a Gaussian family, such as `families.full_rank`, `families.mean_field` or `families.low_rank` of a latent.
      num_components: K, static, at least 1.

    Returns:
      The `Family`; the entropy of a mixture has no closed form. Its ``init`` places each component at a draw of
      ``family.init``, or two of them would stay the same for ever; so the scale there says how far apart they start.

    Raises:
      TypeError, ValueError: a family that is no Gaussian, or K below 1.

    References:
      Figurnov, Mohamed, Mnih (2018), *Implicit Reparameterization Gradients*;
      Graves (2016), *Stochastic Backpropagation through Mixture Density Distributions*.

    >>> import jax, jaxelbo
    >>> family = mixture(jaxelbo.families.mean_field(0.0, initial_scale=1.0), 2)
    >>> params = family.init(jax.random.key(0))
    >>> params["logits"].shape, params["components"]["loc"].shape
    ((2,), (2, 1))
    """
    checks.check_family(family)
    num_components = checks.check_count(num_components, "num_components")
    layout = gaussian.layout_of(family, "mixture needs a Gaussian family")

    def init(key: Key, start: Latent | None = None) -> Params:
        def component(key: Key) -> Params:
            key_init, key_place = jax.random.split(key)
            return family.init(key_init, family.sample(family.init(key_init, start), key_place))

        logits = jnp.zeros(num_components, layout.dtype)
        return {"logits": logits, "components": jax.vmap(component)(jax.random.split(key, num_components))}

    def distributions(params: Params) -> gaussians.Gaussian:
        return jax.vmap(lambda params: family.distribution(params))(params["components"])

    def log_terms(params: Params, flat: jax.Array) -> jax.Array:
        """Logarithms of each component's share in the density, ``[K]``."""
        of_each = jax.vmap(gaussians.log_density, (0, None))(distributions(params), flat)
        return jax.nn.log_softmax(params["logits"]) + of_each

    def follow(params: Params, flat: jax.Array) -> jax.Array:
        """The same point, as the components' params move it."""
        flat = jax.lax.stop_gradient(flat)
        shares = jax.lax.stop_gradient(jax.nn.softmax(log_terms(params, flat)))
        each = distributions(params)
        noise = jax.lax.stop_gradient(jax.vmap(gaussians.standardise, (0, None))(each, flat))
        moved = jax.vmap(gaussians.transform)(each, noise)
        return flat + gaussians.product(shares, moved - jax.lax.stop_gradient(moved))

    def draw(params: Params, key: Key) -> jax.Array:
        key_component, key_draw = jax.random.split(key)
        chosen = jax.random.categorical(key_component, params["logits"])
        component = jax.tree.map(lambda leaf: leaf[chosen], distributions(params))
        return follow(params, gaussians.draw(component, key_draw)[0])

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(log_terms(params, flat))

    def sample(params: Params, key: Key) -> Latent:
        return flattening.unflatten(layout, draw(params, key))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return log_density(params, flattening.flatten(layout, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat = draw(params, key)
        return flattening.unflatten(layout, flat), log_density(params, flat)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        # Of the logits alone: what the components' params do, the draw carries.
        flat = jax.lax.stop_gradient(flattening.flatten(layout, latent))
        fixed = params | {"components": jax.lax.stop_gradient(params["components"])}
        return log_density(fixed, flat)[None]

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        keys = jax.random.split(key, num_components)
        flat = jax.vmap(lambda component, key: gaussians.draw(component, key)[0])(distributions(params), keys)
        return jax.vmap(lambda row: flattening.unflatten(layout, row))(flat), jax.nn.log_softmax(params["logits"])

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        weights, each = jax.nn.softmax(params["logits"]), distributions(params)
        mean = gaussians.product(weights, each.loc)
        squares = jax.vmap(gaussians.standard_deviation)(each) ** 2 + (each.loc - mean[None]) ** 2
        scale = jnp.sqrt(gaussians.product(weights, squares))
        return flattening.unflatten(layout, mean), flattening.unflatten(layout, scale)

    return Family(
        name=f"mixture({family.name})",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        configurations=configurations,
        num_configurations=num_components,
        location_and_scale=location_and_scale,
        unflatten=family.unflatten,
    )
