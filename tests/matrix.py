"""Small problems, one for each kind of family, on which every estimator's expectation can be computed.

A draw's randomness is a finite set of atoms: the configurations of discrete parts and quadrature nodes of normal ones.
`expectation` puts every S-tuple of atoms through an estimator in place of its draws and sums with their weights.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import bounds, checks, families, monte_carlo
from jaxelbo.flows import layers, planes

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiles in half the time, for programs that run once."""

BETAS = np.array([0.0, 0.3, 1.0])
BOUNDS = {
    "mean": bounds.mean,
    "importance_weighted": bounds.importance_weighted,
    "renyi": functools.partial(bounds.renyi, alpha=0.5),
    "chi": functools.partial(bounds.chi, n=2.0),
    "thermodynamic_left": functools.partial(bounds.thermodynamic_left, betas=BETAS),
    "thermodynamic_right": functools.partial(bounds.thermodynamic_right, betas=BETAS),
    "jackknife": bounds.jackknife,
    "own": lambda log_weights: jnp.log(jnp.mean(jnp.exp(0.7 * log_weights))) + 0.1 * jnp.mean(jnp.tanh(log_weights)),
}
BOUNDS["own"].__name__ = "own"


class Problem(NamedTuple):
    """A family, its params, a log joint with a parameter theta, and the atoms of its draws.

    Attributes:
      family: the kind under test.
      params: where gradients are taken.
      log_joint: ``(theta, latent) -> scalar``.
      draw: ``(params, atom) -> latent``, differentiable where the draw is reparameterised.
      chances: ``params -> [A]``: probability of each atom, differentiable.
    """

    family: Any
    params: Any
    log_joint: Any
    draw: Any
    chances: Any

    def tuples(self, params, num_samples):
        """All S-tuples of atoms ``[T, S]`` and their probabilities ``[T]``."""
        chances = self.chances(params)
        atoms = np.array(list(itertools.product(range(len(chances)), repeat=num_samples)))
        return jnp.asarray(atoms), jnp.prod(chances[atoms], axis=1)

    def exact(self, params, theta, bound, num_samples):
        """E[bound(log_weights)] over S draws: a deterministic function, whose gradient is what is estimated."""
        latents = jax.vmap(self.draw, (None, 0))(params, jnp.arange(len(self.chances(params))))
        log_weights = jax.vmap(lambda z: self.log_joint(theta, z) - self.family.log_prob(params, z))(latents)
        atoms, chances = self.tuples(params, num_samples)
        return chances @ jax.vmap(bound)(log_weights[atoms])

    def expectation(self, monkeypatch, estimate, num_samples):
        """E[estimate(key, family, log_joint(theta, .))] over all S-tuples of draws, with chances held fixed.

        Returns a function of params and theta whose gradient is the estimator's mean gradient.
        """
        draw, family = self.draw, self.family

        def sample(params, atom):
            latent = draw(params, jnp.ravel(atom)[0])  # ravel: the traits are read at a whole tuple
            score = family.score_log_probs(params, jax.lax.stop_gradient(latent)).shape[0]
            has_path = not score or family.name.startswith(("conditional", "joint"))
            return latent if has_path else jax.lax.stop_gradient(latent)

        def sample_and_log_prob(params, atom):
            latent = sample(params, atom)
            return latent, family.log_prob(params, latent)

        fixed = family._replace(sample=sample, sample_and_log_prob=sample_and_log_prob, sample_and_scores=None)
        monkeypatch.setattr(checks, "check_key", lambda key: None)  # atoms travel in its place
        monkeypatch.setattr(monte_carlo, "over_samples", lambda f, atoms, size, *rest: jax.vmap(f)(atoms, *rest))

        def mean(params, theta):
            atoms, chances = self.tuples(jax.lax.stop_gradient(params), num_samples)
            values = jax.vmap(lambda a: estimate(params, a, functools.partial(self.log_joint, theta), fixed))(atoms)
            return jax.lax.stop_gradient(chances) @ values

        return mean


def finite_problem(family, params, log_joint):
    """All randomness in the configurations."""
    key = jax.random.key(0)
    latents = family.configurations(params, key)[0]

    def draw(params, atom):
        return jax.tree.map(lambda leaf: leaf[atom], latents)

    return Problem(family, params, log_joint, draw, lambda params: jnp.exp(family.configurations(params, key)[1]))


def normal_atoms(num_nodes):
    """Nodes and weights of a standard normal by the trapezoid rule, which converges fast where Hermite's does not."""
    nodes = jnp.linspace(-7.5, 7.5, num_nodes)
    weights = jnp.exp(-0.5 * nodes**2)
    return nodes, weights / jnp.sum(weights)


def gaussian_problem(family, params, log_joint, num_nodes=65):
    """A mean-field Gaussian over one number."""
    nodes, weights = normal_atoms(num_nodes)

    def draw(params, atom):
        return (params["loc"] + jnp.exp(params["log_scale"]) * nodes[atom])[0]

    return Problem(family, params, log_joint, draw, lambda params: weights + 0 * params["loc"][0])


def flow_problem(num_nodes=65):
    """Noise through two planar layers, each bent in a place of its own."""
    nodes, weights = normal_atoms(num_nodes)
    flow = layers.chain(planes.planar(1, jnp.dtype("float64")), 2)
    params = GAUSSIAN | {
        "layers": {
            "weight": np.array([[1.3], [-0.8]]), "bias": np.array([0.4, -0.3]), "direction": np.array([[0.9], [-0.7]])
        }
    }  # fmt: skip

    def draw(params, atom):
        flat, _ = flow.forward(params["layers"], jnp.zeros(0), nodes[atom][None])
        return (params["loc"] + jnp.exp(params["log_scale"]) * flat)[0]

    family = families.planar_flow(0.0, num_layers=2)
    return Problem(family, params, quartic, draw, lambda params: weights + 0 * params["loc"][0])


def mixture_problem(num_nodes=41):
    """A component, and a number given it."""
    family = families.conditional(
        families.categorical(2), families.mean_field(0.0),
        lambda link, index: jax.tree.map(lambda leaf: leaf[index], link),
        lambda key: {"loc": jnp.zeros((2, 1)), "log_scale": jnp.zeros((2, 1))},
    )  # fmt: skip
    params = {
        "first": {"logits": jnp.array([0.4, -0.3])},
        "link": {"loc": jnp.array([[-0.7], [0.9]]), "log_scale": jnp.array([[-0.4], [-0.1]])},
    }
    nodes, weights = normal_atoms(num_nodes)

    def draw(params, atom):
        index, node = atom // num_nodes, atom % num_nodes
        link = jax.tree.map(lambda leaf: leaf[index], params["link"])
        return index, (link["loc"] + jnp.exp(link["log_scale"]) * nodes[node])[0]

    def log_joint(theta, latent):
        index, number = latent
        return -0.4 * (number - theta * (index - 0.3)) ** 2 + 0.5 * index + theta

    def chances(params):
        return (jax.nn.softmax(params["first"]["logits"])[:, None] * weights[None, :]).ravel()

    return Problem(family, params, log_joint, draw, chances)


def joint_problem(num_nodes=41):
    """A number and two bits that know of each other."""
    family = families.joint({"x": families.mean_field(0.0), "on": families.bernoulli(jnp.zeros(2))})
    params = {
        "x": {"loc": jnp.array([0.8]), "log_scale": jnp.array([-0.5])},
        "on": {"logits": jnp.array([0.4, -0.6])},
    }

    def log_joint(theta, z):
        return -0.5 * (z["x"] - theta - z["on"][0]) ** 2 + 0.7 * z["on"] @ jnp.array([1.0, -2.0]) * z["x"] + 2 * theta

    nodes, weights = normal_atoms(num_nodes)

    def draw(params, atom):
        x = params["x"]["loc"] + jnp.exp(params["x"]["log_scale"]) * nodes[atom // 4]
        return {"x": x[0], "on": jnp.stack([atom % 2, atom // 2 % 2]).astype(nodes.dtype)}

    def chances(params):
        p = jax.nn.sigmoid(params["on"]["logits"])
        bits = jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        of_bits = jnp.prod(jnp.where(bits, p[None], 1 - p[None]), axis=1)
        return (weights[:, None] * of_bits[None, :]).ravel()

    return Problem(family, params, log_joint, draw, chances)


def step_fn(params, carry, previous):
    return carry + 0.3 * jnp.sum(previous), {"logits": params["bias"] + params["weight"] * previous + carry}


def sequence_terms(theta, z):
    """[T], entry t a function of z_1, ..., z_t."""
    total = jnp.cumsum(z[:, 0])
    return theta * total - 0.3 * (total - 1.0) ** 2 + 0.2 * z[:, 0]


def local_terms(theta, z):
    """[D], entry i all terms that involve z_i."""
    bonds = 1.3 * z[:-1] * z[1:]
    own = theta * z * jnp.arange(1.0, len(z) + 1)
    return own + jnp.append(bonds, 0.0) + jnp.append(jnp.zeros(1), bonds)


TABLE = np.array([0.5, -1.0, 1.5, 0.2])
LOGITS = np.array([0.3, -0.5, 0.1, 0.8])
GAUSSIAN = {"loc": np.array([1.1]), "log_scale": np.array([-0.25])}
COUPLING = np.array([[1.0, 0.2, -0.5], [0.0, 1.0, 0.3], [-1.0, 0.4, 0.6]])


def quartic(theta, z):
    return -0.5 * (z - theta) ** 2 - 0.02 * z**4 + 0.9 * theta


def bits(theta, z):
    return (jnp.sum(local_terms(theta, z)) + theta * z @ jnp.arange(1.0, len(z) + 1)) / 2 - 1.0


def indexed(theta, z):
    return jnp.asarray(TABLE)[z] * theta - 0.1 * theta**2 * z


def one_hot(theta, z):
    return z @ jnp.asarray(TABLE) * theta - 0.3 * (z[1] + z[2]) * theta**2


def chain_of_bits():
    return families.sequential(
        families.bernoulli(jnp.zeros(1)), step_fn, lambda params: jnp.zeros(()),
        lambda key: {"bias": jnp.zeros(1), "weight": jnp.zeros(1)}, num_steps=3,
    )  # fmt: skip


MAKE = {
    "Gaussian, mean field": lambda: gaussian_problem(families.mean_field(0.0), GAUSSIAN, quartic),
    "Gaussian, full rank": lambda: gaussian_problem(
        families.full_rank(0.0), GAUSSIAN | {"unit_tril": np.zeros((1, 1))}, quartic
    ),
    "Gaussian, detached": lambda: gaussian_problem(families.detached(families.mean_field(0.0)), GAUSSIAN, quartic),
    "flow": flow_problem,
    "Bernoulli": lambda: finite_problem(
        families.bernoulli(jnp.zeros(3)), {"logits": np.array([0.3, -0.8, 0.5])}, bits
    ),
    "categorical, one index": lambda: finite_problem(families.categorical(4), {"logits": LOGITS}, indexed),
    "categorical, one-hot": lambda: finite_problem(families.one_hot_categorical(4), {"logits": LOGITS}, one_hot),
    "independent, of one-hot": lambda: finite_problem(
        families.independent(families.one_hot_categorical(3), 2),
        {"logits": np.array([[0.3, -0.5, 0.1], [0.9, 0.0, -0.4]])},
        lambda theta, z: theta * z[0] @ jnp.asarray(COUPLING) @ z[1],
    ),
    "joint, continuous and Bernoulli": joint_problem,
    "conditional, mixture": mixture_problem,
    "sequential, of Bernoulli": lambda: finite_problem(
        chain_of_bits(), {"bias": np.array([-0.2]), "weight": np.array([0.7])},
        lambda theta, z: jnp.sum(sequence_terms(theta, z)),
    ),
}  # fmt: skip
"""Name of the kind, as in `validity.KINDS` -> constructor of its `Problem`, to be called with 64-bit types on."""


def repeated(kind, theta, z):
    """[P], for a problem of P parts each of which is involved in everything."""
    problem = make_problem(kind)
    return jnp.broadcast_to(problem.log_joint(theta, z), problem.family.score_log_probs(problem.params, z).shape)


STEP_TERMS = {
    "Bernoulli": lambda theta, z: jnp.append(jnp.zeros(1), 1.3 * z[:-1] * z[1:])
    + theta * z * jnp.arange(1.0, len(z) + 1) - 1.0 / 3,
    "independent, of one-hot": lambda theta, z: jnp.stack([0.0, theta * z[0] @ jnp.asarray(COUPLING) @ z[1]]),
    "joint, continuous and Bernoulli": lambda theta, z: jnp.stack([
        -0.5 * (z["x"] - theta - z["on"][0]) ** 2 + 0.7 * z["on"][0] * z["x"] + 2 * theta, -1.4 * z["on"][1] * z["x"],
    ]),
    "sequential, of Bernoulli": sequence_terms,
}  # fmt: skip
"""Entry t a function of parts 1, ..., t; for kinds of one part, the log joint itself."""

LOCAL_TERMS = {
    "Bernoulli": local_terms,
    "joint, continuous and Bernoulli": STEP_TERMS["joint, continuous and Bernoulli"],
}
"""Entry i all terms that involve part i; for the others, everything."""


@functools.lru_cache
def make_problem(kind):
    problem = MAKE[kind]()
    return problem._replace(params=jax.tree.map(jnp.asarray, problem.params))
