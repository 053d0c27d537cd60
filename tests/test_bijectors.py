"""Bijectors against Jacobians, volumes that are known, NumPyro, and identities on draws."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxelbo import bijectors
from tests.matrix import quick_jit

STRICT = lambda value: value[np.tril_indices(value.shape[0], -1)]
LOWER = lambda value: value[np.tril_indices(value.shape[0])]
FIRST = lambda value: value[:-1]


class Member(NamedTuple):
    """A bijector, the shape of one value and of its unconstrained numbers, and the value's independent entries."""

    bijector: Any
    value_shape: tuple
    shape: tuple
    entries: Any = jnp.ravel


MEMBERS = {
    "real": Member(bijectors.real, (3,), (3,)),
    "positive": Member(bijectors.positive, (3,), (3,)),
    "positive_softplus": Member(bijectors.positive_softplus, (3,), (3,)),
    "greater_than": Member(bijectors.greater_than(1.5), (3,), (3,)),
    "less_than": Member(bijectors.less_than(-0.1), (3,), (3,)),
    "interval": Member(bijectors.interval(-1.0, 3.3), (3,), (3,)),
    "unit_interval": Member(bijectors.unit_interval, (3,), (3,)),
    "simplex": Member(bijectors.simplex, (4,), (3,), FIRST),
    "ordered": Member(bijectors.ordered, (3,), (3,)),
    "positive_ordered": Member(bijectors.positive_ordered, (3,), (3,)),
    "sphere": Member(bijectors.sphere, (4,), (3,)),
    "lower_cholesky": Member(bijectors.lower_cholesky, (3, 3), (6,), LOWER),
    "correlation_cholesky": Member(bijectors.correlation_cholesky, (4, 4), (6,), STRICT),
    "correlation": Member(bijectors.correlation, (4, 4), (6,), STRICT),
    "positive_definite": Member(bijectors.positive_definite, (3, 3), (6,), LOWER),
}
SCALARS = list(MEMBERS)[:7]


def test_all_members_are_here():
    made = {name for name in bijectors.__all__ if name != "Bijector"}
    assert made == set(MEMBERS)


def unconstrained(member, seed=0, scale=1.0, copies=()):
    return scale * jax.random.normal(jax.random.key(seed), (*copies, *member.shape))


@pytest.mark.parametrize("name", MEMBERS)
def test_log_det_is_the_jacobians(name, float64):
    """Of the independent entries; of sqrt(det J'J) for the sphere."""
    member = MEMBERS[name]

    @quick_jit
    def both(u):
        jacobian = jax.jacfwd(lambda u: member.entries(member.bijector.forward(u)))(u)
        gram = jacobian.T @ jacobian if name == "sphere" else jacobian
        return member.bijector.log_det(u), jnp.linalg.slogdet(gram)[1] / (2 if name == "sphere" else 1)

    for seed, scale in itertools.product(range(3), (0.3, 1.0, 2.0)):
        value, expected = both(unconstrained(member, seed, scale))
        assert value.shape == ()
        np.testing.assert_allclose(value, expected, atol=1e-8)


def everything(bijector):
    """One function of the unconstrained numbers to all that a bijector says."""

    def of(u):
        value = bijector.forward(u)
        return value, bijector.inverse(value), bijector.log_det(u), bijector.contains(value)

    return of


@pytest.mark.parametrize("name", MEMBERS)
def test_there_and_back(name, dtype):
    member = MEMBERS[name]
    compiled = quick_jit(everything(member.bijector))
    u = unconstrained(member, 1, copies=(2, 3))
    value, back, log_det, contains = compiled(u)
    assert value.shape == (2, 3, *member.value_shape) and value.dtype == back.dtype == log_det.dtype == dtype
    assert log_det.shape == contains.shape == () and contains
    assert member.bijector.unconstrained_shape(value.shape) == u.shape
    np.testing.assert_allclose(back, u, atol=2e-5 if dtype == "float32" else 1e-12)
    # Copies are independent, and the log-determinant is of all of them.
    rtol = 1e-5 if dtype == "float32" else 1e-12
    rows = [compiled(row) for row in u.reshape(6, *member.shape)]
    np.testing.assert_allclose(value.reshape(6, *member.value_shape), [row[0] for row in rows], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(log_det, np.sum([row[2] for row in rows]), rtol=rtol)


@pytest.mark.parametrize("name", MEMBERS)
def test_compiled_and_mapped(name, float64):
    member = MEMBERS[name]
    function = everything(member.bijector)
    compiled, u = quick_jit(function), unconstrained(member, 2, copies=(2,))
    same = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    jax.tree.map(same, compiled(u[0]), function(u[0]))
    one_by_one = jax.tree.map(lambda *rows: np.stack(rows), *[compiled(row) for row in u])
    jax.tree.map(same, quick_jit(jax.vmap(function))(u), one_by_one)
    of_none = jax.eval_shape(function, jnp.zeros((0, *member.shape)))
    assert [part.shape for part in of_none] == [(0, *member.value_shape), (0, *member.shape), (), ()]


@pytest.mark.parametrize("name", MEMBERS)
def test_gradients_are_finite_differences(name, float64):
    member = MEMBERS[name]
    bijector = member.bijector
    u, direction = unconstrained(member, 3), unconstrained(member, 4)
    weights = jax.random.normal(jax.random.key(5), member.value_shape)
    step = 1e-5

    def along(t):
        value = bijector.forward(u + t * direction)
        of_inverse = jnp.sum(jnp.sin(0.7 * bijector.inverse(value)))
        return jnp.stack([jnp.sum(weights * value), bijector.log_det(u + t * direction), of_inverse])

    compiled = quick_jit(lambda t: (along(t), jax.jacrev(along)(t)))
    difference = (compiled(step)[0] - compiled(-step)[0]) / (2 * step)
    np.testing.assert_allclose(compiled(0.0)[1], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MEMBERS)
def test_float32_is_accurate_to_extremes(name):
    """Against float64, from small numbers to 80; no NaN anywhere, and finite log-determinants with their gradients."""
    member = MEMBERS[name]
    signs = list(itertools.product((-1.0, 1.0), repeat=3))
    corners = np.array([np.resize(sign, member.shape) for sign in signs])
    u = np.concatenate(
        [scale * corners for scale in (1e-4, 0.5, 8.0, 80.0)]
        + [scale * np.random.default_rng(0).standard_normal(corners.shape).clip(-2, 2) for scale in (1, 10, 40)]
    ).astype(np.float32)

    @jax.vmap
    def with_slopes(u):
        log_det, slope = jax.value_and_grad(member.bijector.log_det)(u)
        value, pull = jax.vjp(member.bijector.forward, u)
        back, contains = member.bijector.inverse(value), member.bijector.contains(value)
        return value, log_det, slope, pull(jnp.ones_like(value))[0], back, contains

    value, log_det, slope, pulled, back, contains = jax.tree.map(np.asarray, quick_jit(with_slopes)(u))
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, quick_jit(with_slopes)(u.astype(np.float64)))
    exact_value, exact_log_det, exact_slope = exact[:3]
    assert value.dtype == log_det.dtype == back.dtype == jnp.float32
    np.testing.assert_allclose(log_det, exact_log_det, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(slope, exact_slope, rtol=3e-5, atol=3e-5)
    assert not np.any(np.isnan(pulled))
    overflows = np.abs(u) > 40 if name == "positive_definite" else np.zeros_like(u, bool)
    sound = ~overflows.any(axis=1)
    assert np.all(np.isfinite(value[sound])) and np.all(np.isfinite(pulled[sound])) and not np.any(np.isnan(value))
    # Relative to each entry where it is a number by itself, to the largest one where it is a sum or rounds beside 1.
    tiny = np.finfo(np.float32).tiny
    if name == "simplex":
        exact_value = np.maximum(exact_value, tiny)
    scale = np.abs(exact_value)
    if name not in SCALARS and name != "simplex":
        scale = scale.max(axis=tuple(range(1, value.ndim)), keepdims=True)
    assert np.all((np.abs(value - exact_value) / np.maximum(scale, tiny))[sound] < 5e-5)
    if name in SCALARS or name in ("simplex", "sphere", "lower_cholesky", "correlation_cholesky"):
        assert np.all(contains)
    if name not in ("positive_definite", "correlation", "ordered", "positive_ordered"):  # the others may saturate
        assert np.all(np.isfinite(back))
    if name in ("real", "positive", "positive_softplus", "lower_cholesky", "sphere"):
        np.testing.assert_allclose(back, u, rtol=1e-5, atol=1e-6)


def grid(dim, reach, number):
    """Points ``[N, dim]`` and the weight of each under the trapezoid rule."""
    line = np.linspace(-reach, reach, number)
    points = np.stack(np.meshgrid(*[line] * dim, indexing="ij"), -1).reshape(-1, dim)
    return jnp.asarray(points), (2 * reach / (number - 1)) ** dim


@pytest.mark.parametrize(
    ("name", "dim", "expected"),
    [
        ("unit_interval", 1, 1.0),
        ("interval", 1, 4.3),
        ("simplex", 1, 1.0),
        ("simplex", 2, 1 / 2),
        ("correlation", 1, 2.0),
        ("correlation", 3, math.pi**2 / 2),  # the elliptope of three
    ],
)
def test_volumes(name, dim, expected, float64):
    """Of supports that have one: the integral of exp(log_det)."""
    points, weight = grid(dim, 25.0, {1: 2001, 2: 401, 3: 121}[dim])
    volume = weight * jnp.sum(jnp.exp(quick_jit(jax.vmap(MEMBERS[name].bijector.log_det))(points)))
    np.testing.assert_allclose(volume, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_area_of_the_sphere(size, float64):
    """2 pi^(K/2) / Gamma(K/2), by polar coordinates of the plane: rho the tangent of half the angle."""
    half = np.linspace(0, np.pi / 2, 20001)[1:-1]
    rho = np.tan(half)
    along = np.zeros((rho.size, size - 1))
    along[:, -1] = rho
    density = np.exp(jax.vmap(bijectors.sphere.log_det)(jnp.asarray(along)))
    of_plane = 2 * np.pi ** ((size - 1) / 2) / math.gamma((size - 1) / 2)  # of the unit sphere around zero
    radial = density * rho ** (size - 2) / np.cos(half) ** 2
    ends = 2 * 2 if size == 2 else 0.0  # the integrand is 2 at either end, or zero
    area = of_plane * (np.sum(radial) + ends / 2) * (half[1] - half[0])
    np.testing.assert_allclose(area, 2 * np.pi ** (size / 2) / math.gamma(size / 2), rtol=1e-6)


def test_simplex_is_the_softmax_of_helmerts_basis(float64):
    u = unconstrained(MEMBERS["simplex"])
    logits = np.asarray(u) @ scipy.linalg.helmert(4)
    np.testing.assert_allclose(bijectors.simplex.forward(u), np.exp(logits) / np.exp(logits).sum(), rtol=1e-12)


def test_sphere_is_the_tangent_of_half_the_angle(float64):
    angle = np.linspace(-3.1, 3.1, 9)
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(bijectors.sphere.forward(jnp.tan(angle / 2)[:, None]), expected, atol=1e-12)
    near_the_hole = jnp.array([-1.0, 1e-6], jnp.float32)  # where 1 + first is zero in float32
    np.testing.assert_allclose(bijectors.sphere.inverse(near_the_hole), [2e6], rtol=1e-6)
    assert not bijectors.sphere.contains(jnp.array([-1.0, 0.0]))
    assert bijectors.sphere.contains(jnp.array([1.0, 0.0]))


NUMPYRO = {
    "real": lambda t: t.IdentityTransform(),
    "positive": lambda t: t.ExpTransform(),
    "positive_softplus": lambda t: t.SoftplusTransform(),
    "greater_than": lambda t: t.ComposeTransform([t.ExpTransform(), t.AffineTransform(1.5, 1.0)]),
    "less_than": lambda t: t.ComposeTransform([t.ExpTransform(), t.AffineTransform(-0.1, -1.0)]),
    "interval": lambda t: t.ComposeTransform([t.SigmoidTransform(), t.AffineTransform(-1.0, 4.3)]),
    "unit_interval": lambda t: t.SigmoidTransform(),
    "ordered": lambda t: t.OrderedTransform(),
    "lower_cholesky": lambda t: t.LowerCholeskyTransform(),
    "correlation_cholesky": lambda t: t.CorrCholeskyTransform(),
    "correlation": lambda t: t.ComposeTransform([t.CorrCholeskyTransform(), t.CorrMatrixCholeskyTransform().inv]),
    "positive_definite": lambda t: t.ComposeTransform([t.LowerCholeskyTransform(), t.CholeskyTransform().inv]),
}


@pytest.mark.parametrize("name", NUMPYRO)
def test_numpyro_maps_alike(name, float64):
    transforms = pytest.importorskip("numpyro.distributions.transforms")
    member, theirs = MEMBERS[name], NUMPYRO[name](transforms)

    def of_theirs(u):
        value = theirs(u)
        return value, theirs.inv(value), jnp.sum(theirs.log_abs_det_jacobian(u, value))

    u = unconstrained(member, 6)
    with jax.numpy_rank_promotion("allow"):
        expected = quick_jit(of_theirs)(u)
    for value, like in zip(quick_jit(everything(member.bijector))(u), expected, strict=False):
        np.testing.assert_allclose(value, like, rtol=1e-8, atol=1e-12)


def test_numpyro_breaks_sticks_to_the_same_measure(float64):
    """The two log-determinants differ by that of the map from our unconstrained numbers to NumPyro's."""
    transforms = pytest.importorskip("numpyro.distributions.transforms")
    theirs, simplex = transforms.StickBreakingTransform(), bijectors.simplex

    def both(u):
        between = lambda u: theirs.inv(simplex.forward(u))
        extra = jnp.linalg.slogdet(jax.jacfwd(between)(u))[1]
        return simplex.log_det(u), theirs.log_abs_det_jacobian(between(u), simplex.forward(u)) + extra

    with jax.numpy_rank_promotion("allow"):
        value, expected = quick_jit(both)(unconstrained(MEMBERS["simplex"], 7))
    np.testing.assert_allclose(value, expected, rtol=1e-8)


@pytest.mark.parametrize("name", SCALARS)
def test_identities_on_draws(name, float64):
    """E[score] = 0 and E[(x - m) score] = -1 where q is N(0, 1) pushed forward and the score is d log q / d x.

    By 200,000 draws; one of the two would be off by 9 standard errors if the log-determinant were by a tenth.
    """
    bijector = MEMBERS[name].bijector
    u = jax.random.normal(jax.random.key(8), (200_000,))

    @quick_jit
    @jax.vmap
    def draw(u):
        value, slope = jax.value_and_grad(bijector.forward)(u)
        return value, jax.grad(lambda u: -0.5 * u**2 - bijector.log_det(u))(u) / slope

    value, score = (np.asarray(part) for part in draw(u))
    for terms in (score, (value - value.mean()) * score + 1):
        assert abs(terms.mean()) < 4 * terms.std() / np.sqrt(u.size)


def test_scalars_at_their_edges(dtype):
    """Values that would round to an edge lie beside it, so that log x and log(1 - x) are numbers."""
    u = jnp.array([-80.0, -30.0, 0.0, 30.0, 80.0])
    ends = ((0.0, 1.0), (-4.0, 4.0), (0.1, 0.7), (-1.0, 0.0), (1000.0, 1001.0))
    members = [bijectors.interval(*pair) for pair in ends]
    for bound in (0.0, 1.0, -1.0, 0.1, 1000.0):
        members += [bijectors.greater_than(bound), bijectors.less_than(bound)]
    found = quick_jit(lambda u: [everything(member)(u) for member in members])(u)
    for member, (value, back, _, contains) in zip(members, found, strict=True):
        assert contains and np.all(np.isfinite(back)), member.name
        if member.name.startswith("interval"):
            assert np.all(np.diff(value) >= 0)
            np.testing.assert_allclose(back[2], 0, atol=3e-4)
    np.testing.assert_allclose(found[3][0][-1], -np.exp(-80.0), rtol=1e-5)  # an end at zero keeps its digits


def test_inverse_softplus_keeps_small_and_large_values(dtype):
    value = jnp.array([1e-30, 1e-6, 0.5, 1.0, 20.0, 1e3, 1e30])
    expected = [float(np.log(np.expm1(np.longdouble(v)))) if v < 100 else v for v in np.asarray(value, np.float64)]
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(bijectors.positive_softplus.inverse(value), expected, rtol=rtol, atol=rtol)
    assert np.all(np.isfinite(jax.vmap(jax.grad(bijectors.positive_softplus.inverse))(value)))


OUTSIDE = {
    "real": [np.full(3, np.inf), np.full(3, np.nan)],
    "positive": [np.array([1.0, 0.0, 1.0]), np.full(3, np.inf), np.full(3, np.nan)],
    "positive_softplus": [np.array([1.0, -1.0, 1.0])],
    "greater_than": [np.array([2.0, 1.5, 2.0])],
    "less_than": [np.array([-2.0, -0.1, -2.0])],
    "interval": [np.array([-1.0, 0.0, 1.0]), np.array([0.0, 0.0, 3.3])],
    "unit_interval": [np.array([0.5, 0.5, 1.0])],
    "simplex": [np.full(4, 0.2), np.array([0.5, 0.5, 0.0, 0.0]), np.full(4, np.nan)],
    "ordered": [np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, np.inf])],
    "positive_ordered": [np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 3.0])],
    "sphere": [np.full(4, 0.6), np.array([-1.0, 0.0, 0.0, 0.0])],
    "lower_cholesky": [np.ones((3, 3)), -np.eye(3)],
    "correlation_cholesky": [2 * np.eye(4), np.ones((4, 4))],
    "correlation": [2 * np.eye(4), np.ones((4, 4)) * 2 - np.eye(4), np.eye(4) + 0.1 * np.eye(4, k=1)],
    "positive_definite": [-np.eye(3), np.eye(3) + 0.1 * np.eye(3, k=1), np.full((3, 3), np.nan)],
}


@pytest.mark.parametrize("name", MEMBERS)
def test_what_lies_outside(name):
    bijector = MEMBERS[name].bijector
    inside = np.asarray(quick_jit(bijector.forward)(unconstrained(MEMBERS[name])))
    contains = quick_jit(bijector.contains)
    assert contains(np.stack([inside, inside]))
    for value in OUTSIDE[name]:
        assert not contains(np.stack([inside, value.astype(inside.dtype)]))


def test_smallest_sizes():
    for name, size, value in (
        ("simplex", 0, [1.0]),
        ("ordered", 1, [0.0]),
        ("correlation", 0, [[1.0]]),
        ("correlation_cholesky", 0, [[1.0]]),
        ("lower_cholesky", 1, [[1.0]]),
    ):
        found, back, log_det, contains = quick_jit(everything(MEMBERS[name].bijector))(jnp.zeros(size))
        assert found.tolist() == value and back.shape == (size,) and log_det == 0 and contains
    assert bijectors.simplex.unconstrained_shape((5, 1)) == (5, 0)
    assert bijectors.real.unconstrained_shape(()) == ()


def test_equal_constants_compile_once():
    first, second = bijectors.interval(0.0, 2.0), bijectors.interval(0, np.float64(2.0))
    assert first == second and hash(first) == hash(second) and first != bijectors.interval(0.0, 3.0)
    traces = []

    @jax.jit
    def unrelated(u):
        return u

    def transformed(bijector, u):
        traces.append(bijector.name)
        return bijector.forward(u)

    compiled = jax.jit(transformed, static_argnums=0)
    for bijector in (first, second, bijectors.positive, bijectors.positive):
        compiled(bijector, unrelated(jnp.ones(2)))
    assert traces == ["interval(0.0, 2.0)", "positive"]


def test_shapes_that_cannot_be():
    for name, shape, expected in (
        ("simplex", (), r"value of simplex must have shape \[..., K\] with K at least 1, got \(\)"),
        ("sphere", (3, 1), r"value of sphere must have shape \[..., K\] with K at least 2, got \(3, 1\)"),
        ("ordered", (2, 0), r"value of ordered must have shape \[..., K\] with K at least 1, got \(2, 0\)"),
        ("correlation", (2, 3), r"value of correlation must have shape \[..., K, K\] with K at least 1, got \(2, 3\)"),
        ("lower_cholesky", (3,), r"value of lower_cholesky must have shape \[..., K, K\]"),
    ):
        bijector = MEMBERS[name].bijector
        for call in (lambda b=bijector, s=shape: b.unconstrained_shape(s), lambda b=bijector, s=shape: b.inverse(
            jnp.ones(s)), lambda b=bijector, s=shape: b.contains(jnp.ones(s))):  # fmt: skip
            with pytest.raises(ValueError, match=expected):
                call()
    for name, shape, expected in (
        ("simplex", (), r"unconstrained of simplex must have shape \[..., K - 1\] with K at least 1, got \(\)"),
        ("sphere", (3, 0), r"unconstrained of sphere must have shape \[..., K - 1\] with K at least 2, got \(3, 0\)"),
        ("correlation", (2,), r"unconstrained of correlation must have shape \[..., K \(K - 1\) / 2\]"),
        ("positive_definite", (2, 4), r"shape \[..., K \(K \+ 1\) / 2\] with K at least 1, got \(2, 4\)"),
    ):
        for function in (MEMBERS[name].bijector.forward, MEMBERS[name].bijector.log_det):
            with pytest.raises(ValueError, match=expected):
                function(jnp.ones(shape))
            with pytest.raises(ValueError, match=expected):
                jax.jit(function)(jnp.ones(shape))


def test_wrong_kinds():
    for wrong in (3, jnp.arange(3), [1.0, 2.0], None, jnp.ones(3, jnp.complex64), jax.ShapeDtypeStruct((3,), "int32")):
        with pytest.raises(TypeError, match=r"unconstrained of positive \[...\] must be a floating-point array, got"):
            bijectors.positive.forward(wrong)
        with pytest.raises(TypeError, match=r"value of simplex \[...\] must be a floating-point array, got"):
            bijectors.simplex.inverse(wrong)
    for wrong in (3, None, (2.5,), jnp.ones(2)):
        with pytest.raises(TypeError, match="shape must be a tuple of integers, got"):
            bijectors.real.unconstrained_shape(wrong)
    assert bijectors.positive.inverse(1.0) == 0  # a Python float is a floating-point number


def test_constants_that_cannot_be():
    with pytest.raises(ValueError, match=r"lower must be below upper, got 1.0 and 1.0"):
        bijectors.interval(1.0, 1)
    for wrong in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match="upper must be finite, got"):
            bijectors.less_than(wrong)
    with pytest.raises(TypeError, match="lower must be an array or a number, got str 'a'"):
        bijectors.greater_than("a")
    with pytest.raises(ValueError, match=r"lower must be one number, got shape \(2,\)"):
        bijectors.greater_than(jnp.zeros(2))
    with pytest.raises(TypeError, match="lower must be a number that is fixed before tracing, got a traced value"):
        jax.jit(lambda lower: bijectors.greater_than(lower).forward(0.0))(1.0)
