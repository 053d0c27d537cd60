"""Structures against graphs that are known, and fill-in against elimination on dense matrices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import structures
from jaxelbo.demo import eight_schools

KEY = jax.random.key(0)


def eliminated(edges, order):
    """Symbolic Cholesky factorisation on a dense matrix: what remains of each entry's neighbours when it goes."""
    matrix, parents = np.array(edges, bool), {}
    for place, entry in enumerate(order):
        later = [other for other in order[place + 1 :] if matrix[entry, other]]
        parents[entry] = set(later)
        matrix[np.ix_(later, later)] = True
    return [parents[entry] for entry in range(len(order))]


def order_of(structure):
    return list(itertools.chain.from_iterable(structures.levels(structure)))


def sets(structure):
    return [set(parents) for parents in structure.parents]


def random_graph(rng, size, density):
    edges = np.triu(rng.random((size, size)) < density, 1)
    return edges | edges.T


def test_eight_schools_is_an_arrow():
    structure = structures.from_log_joint(eight_schools.log_joint, eight_schools.LATENT_LIKE, KEY)
    assert sets(structure)[:8] == [{8, 9}] * 8  # eta given log_tau and mu
    assert sorted(map(len, structure.parents[8:])) == [0, 1]
    assert [len(level) for level in structures.levels(structure)] == [1, 1, 8]


def test_hierarchical_regression():
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(50, 4)), "float32"), jnp.asarray(rng.normal(size=(50, 4)), "float32")
    like = {name: jnp.zeros(50) for name in ("intercept", "slope")}
    like["shared"] = {name: 0.0 for name in ("mean_i", "mean_s", "noise", "sd_i", "sd_s")}

    def log_joint(z):
        normal, shared = jax.scipy.stats.norm.logpdf, z["shared"]
        of_groups = normal(z["intercept"], shared["mean_i"], jnp.exp(shared["sd_i"]))
        of_groups += normal(z["slope"], shared["mean_s"], jnp.exp(shared["sd_s"]))
        predicted = z["intercept"][:, None] + z["slope"][:, None] * x
        likelihood = normal(y, predicted, jnp.exp(shared["noise"]))
        return jnp.sum(of_groups) + jnp.sum(likelihood) + sum(map(normal, shared.values()))

    structure = structures.from_log_joint(log_joint, like, KEY)
    shared, found = set(range(50, 55)), sets(structure)
    mean_i, mean_s, noise, sd_i, sd_s = range(50, 55)
    assert set().union(*found[50:55]) <= shared
    for group in range(50):
        intercept, slope = found[group], found[55 + group]
        first, second = (slope, intercept) if intercept == shared else (intercept, slope)
        assert second == shared  # the other effect of the group has been summed out, and joins all
        own = {55 + group, mean_i, noise, sd_i} if first is intercept else {group, mean_s, noise, sd_s}
        assert first == own
    assert set(order_of(structure)[:5]) == shared  # drawn first


def test_state_space_model_is_a_chain():
    def log_joint(z):
        steps = -0.5 * jnp.sum(jnp.diff(z) ** 2)
        return steps - 0.5 * z[0] ** 2 + jnp.sum(z - jnp.exp(z))  # Poisson counts of one each

    found = sets(structures.from_log_joint(log_joint, jnp.zeros(300), KEY))  # more than one piece of the Hessian
    assert sorted(map(len, found)) == [0] + [1] * 299
    joined = {frozenset((entry, parent)) for entry, parents in enumerate(found) for parent in parents}
    assert joined == {frozenset((time, time + 1)) for time in range(299)}


def test_state_space_model_with_an_unknown_scale():
    def log_joint(z):
        steps = jax.scipy.stats.norm.logpdf(jnp.diff(z["x"]), 0.0, jnp.exp(z["log_sd"]))
        return jnp.sum(steps) - 0.5 * jnp.sum((z["x"] - 1) ** 2) - 0.5 * z["log_sd"] ** 2

    structure = structures.from_log_joint(log_joint, {"log_sd": 0.0, "x": jnp.zeros(20)}, KEY)
    assert max(map(len, structure.parents)) == 2
    assert all(0 in parents for parents in structure.parents[1:] if len(parents) == 2)


def test_independent_leaves_are_blocks():
    def log_joint(z):
        return -(jnp.sum(z["a"]) ** 2) - jnp.sum(jnp.cosh(z["b"])) * jnp.sum(jnp.cosh(z["b"] - 1))

    like = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    found, written = structures.from_log_joint(log_joint, like, KEY), structures.blocks(like)
    pairs = [{frozenset((i, j)) for i, row in enumerate(s.parents) for j in row} for s in (found, written)]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 3 + 6


def test_what_is_not_finite_interacts():
    log_joint = lambda z: jnp.where(jnp.sum(z[:2]) > 100, jnp.sqrt(jnp.sum(z[:2]) - 100), 0.0)  # 0 with NaN behind
    found = sets(structures.from_log_joint(log_joint, jnp.zeros(130), KEY))
    assert found[2:] == [{0, 1}] * 128  # NaN in the rows of the two, whatever column is asked for
    assert sum(map(len, found[:2])) == 1


@pytest.mark.parametrize("density", [0.1, 0.3, 0.9])
def test_fill_in_is_that_of_elimination(density):
    rng = np.random.default_rng(int(100 * density))
    for _ in range(20):
        edges = random_graph(rng, 15, density)
        structure = structures.from_graph([np.flatnonzero(row).tolist() for row in edges])
        assert sets(structure) == eliminated(edges, order_of(structure)[::-1])
        assert structures.joined(structure).parents == tuple(
            tuple(sorted(parents, key=order_of(structure).index)) for parents in structure.parents
        )


@pytest.mark.parametrize("degree", [1, 3])
def test_graphs_that_need_no_fill_in_get_none(degree):
    """Random k-trees, of which trees are the first: minimum degree eliminates them perfectly."""
    rng = np.random.default_rng(degree)
    names, cliques = rng.permutation(200), [tuple(range(degree + 1))]
    edges = set(itertools.combinations(range(degree + 1), 2))
    for entry in range(degree + 1, 200):
        clique = cliques[rng.integers(len(cliques))]
        kept = tuple(rng.permutation(clique)[:degree].tolist())
        edges |= {(other, entry) for other in kept}
        cliques.append((*kept, entry))
    neighbours = [[] for _ in names]
    for first, second in edges:
        neighbours[names[first]].append(int(names[second]))
    found = structures.from_graph(neighbours)
    assert sum(map(len, found.parents)) == len(edges)
    assert max(map(len, found.parents)) == degree


def test_joined_is_elimination_of_the_graph_of_products():
    """(I - W)'(I - W) is other than zero where two entries are parent and child, or parents of one child."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        weights = np.tril(rng.random((12, 12)) < 0.2, -1)
        names = rng.permutation(12)
        weights = weights[np.ix_(names, names)]
        structure = structures.Structure(tuple(tuple(np.flatnonzero(row).tolist()) for row in weights))
        product = (np.eye(12) + weights).T @ (np.eye(12) + weights) > 0
        assert sets(structures.joined(structure)) == eliminated(product, order_of(structure)[::-1])


def test_blocks_and_groups():
    like = {"a": jnp.zeros(2), "b": {"c": jnp.zeros(2), "d": 0.0}}
    assert structures.blocks(like).parents == ((), (0,), (), (2,), ())
    assert structures.blocks(like, {"a": 0, "b": 1}).parents == ((), (0,), (), (2,), (2, 3))
    assert structures.blocks(like, {"a": "x", "b": {"c": "y", "d": "x"}}).parents == ((), (0,), (), (2,), (0, 1))
    assert structures.blocks(like, 0).parents == tuple(tuple(range(entry)) for entry in range(5))


def test_chain_of_two_leaves():
    like = {"x": jax.ShapeDtypeStruct((3,), "float32"), "y": jax.ShapeDtypeStruct((3, 1), "float32")}
    assert structures.chain(like).parents == ((), (0, 3), (1, 4), (0,), (0, 3, 1), (1, 4, 2))


def test_structures_are_hashable():
    assert hash(structures.chain(jnp.zeros(3))) == hash(structures.Structure(((), (0,), (1,))))


def test_same_key_same_structure():
    log_joint = lambda z: -jnp.sum(jnp.diff(z) ** 2)
    found = [structures.from_log_joint(log_joint, jnp.zeros(9), key) for key in (KEY, KEY, jax.random.key(7))]
    assert found[0] == found[1] == found[2]


def test_bad_input():
    with pytest.raises(ValueError, match=r"structure must have no cycle, got one through entry [12]\.$"):
        structures.levels(structures.Structure(((), (2, 0), (1,), (2,))))
    with pytest.raises(ValueError, match=r"structure.parents\[1\] must hold entries from 0 to 1, got 2"):
        structures.levels(structures.Structure(((), (2,))))
    with pytest.raises(ValueError, match=r"structure.parents\[1\] must not hold an entry twice"):
        structures.levels(structures.Structure(((), (0, 0))))
    with pytest.raises(TypeError, match=r"structure.parents\[1\] must hold integers, got float 0.5"):
        structures.levels(structures.Structure(((), (0.5,))))
    with pytest.raises(TypeError, match=r"structure must be a structures.Structure, got tuple"):
        structures.levels(((), (0,)))
    with pytest.raises(ValueError, match=r"neighbours\[0\] must hold entries from 0 to 1, got -1"):
        structures.from_graph([{-1}, {0}])
    for make in (structures.blocks, structures.chain, lambda like: structures.from_log_joint(jnp.sum, like, KEY)):
        with pytest.raises(ValueError, match="latent_like must have at least one leaf"):
            make({})
        with pytest.raises(TypeError, match="latent_like must be floating-point"):
            make(jnp.arange(3))
    with pytest.raises(ValueError, match=r"groups must be a prefix of latent_like, with leaves \[.*\], got leaves"):
        structures.blocks({"a": 0.0, "b": 0.0}, {"a": 0})
    with pytest.raises(TypeError, match="groups must hold hashable labels"):
        structures.blocks({"a": 0.0}, {"a": np.zeros(1)})
    with pytest.raises(ValueError, match=r"latent_like\['b'\] must have a leading axis of 3 steps, got shape \(2,\)"):
        structures.chain({"a": jnp.zeros(3), "b": jnp.zeros(2)})
    with pytest.raises(ValueError, match="latent_like must have a leading axis"):
        structures.chain(0.0)


def test_bad_log_joints():
    like = jnp.zeros(2)
    with pytest.raises(ValueError, match="log_joint must return a scalar, got shape"):
        structures.from_log_joint(lambda z: z, like, KEY)
    with pytest.raises(ValueError, match="log_joint must be finite near latent_like, got none at 3 random points"):
        structures.from_log_joint(lambda z: jnp.sum(z) * jnp.nan, like, KEY)
    with pytest.raises(TypeError, match="log_joint must be a function"):
        structures.from_log_joint(0.0, like, KEY)
    with pytest.raises(TypeError, match="key must be a JAX random key"):
        structures.from_log_joint(jnp.sum, like, 0)
    with pytest.raises(ValueError, match="from_log_joint reads values; call it outside jit"):
        jax.jit(lambda like: jnp.zeros(len(structures.from_log_joint(jnp.sum, like, KEY).parents)))(like)
    with pytest.raises(ValueError, match="from_log_joint reads values; call it outside jit, vmap and grad"):
        jax.grad(lambda a: 0 * a + len(structures.from_log_joint(lambda z: a * jnp.sum(z), like, KEY).parents))(1.0)
