"""Trace-time checks: a mistake is answered by one sentence that names the argument, what was expected and what came.

Floor 0. Under ``jit`` everything here reads shapes, dtypes and tree structure, never values, so it costs nothing.
"""

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxelbo.types import Family, Key, Params, PyTree


def is_traced(tree: PyTree) -> bool:
    """Whether any leaf is abstract, that is, whether we stand inside ``jit``, ``vmap`` or ``grad``."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def is_known(tree: PyTree) -> bool:
    """Whether values may be looked at: none is abstract, and we stand outside all traces, where operations are too."""
    return not is_traced((tree, jnp.zeros(())))


def leaf_names(tree: PyTree, prefix: str = "") -> list[str]:
    """The path of each leaf in order, such as ``prefix['a'][0]``."""
    return [prefix + jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def is_typed_key(leaf: Any) -> bool:
    """Whether it is one of ``jax.random.key``'s, or an array of them."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def check_key(key: Key, name: str = "key") -> None:
    """Requires one JAX random key, typed (``jax.random.key``) or raw (``jax.random.PRNGKey``)."""
    dtype = getattr(key, "dtype", None)
    if is_typed_key(key):
        if jnp.shape(key) == ():
            return
        raise ValueError(
            f"{name} must be one random key, got an array of keys of shape {jnp.shape(key)}; vmap over it."
        )
    if dtype is not None and dtype == jnp.uint32:
        if jnp.shape(key) == jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape:
            return
        raise ValueError(f"{name} must be one random key, got raw key data of shape {jnp.shape(key)}.")
    raise TypeError(f"{name} must be a JAX random key such as jax.random.key(0), got {describe(key)}.")


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """Requires a static Python integer of at least ``minimum`` and returns it as ``int``."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be a static integer, got a traced value; mark it static in jax.jit.")
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {describe(value)}.") from None
    if count < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {count}.")
    return count


def check_positive(value: Any, name: str) -> float:
    """Requires a positive Python number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be a positive number, got {describe(value)}.")
    return float(value)


def check_even_count(value: Any, name: str) -> int:
    """Requires a static even Python integer of at least 2, for draws that come with their mirror images."""
    count = check_count(value, name, minimum=2)
    if count % 2:
        raise ValueError(f"{name} must be even, as draws come with their mirror images, got {count}.")
    return count


def check_scalar(value: Any, name: str) -> jax.Array:
    """Requires one floating-point number and returns it as an array."""
    if not _is_array_like(value):
        raise TypeError(f"{name} must return a floating-point scalar, got {describe(value)}.")
    if jnp.shape(value) != ():
        raise ValueError(
            f"{name} must return a scalar, got shape {jnp.shape(value)}; sum the entries if they are its terms."
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"{name} must return a floating-point scalar, got {describe(value)}.")
    return jnp.asarray(value)


def check_real(value: Any, name: str) -> None:
    """Requires a real scalar: a Python number, or an array of shape ()."""
    if not _is_real(value):
        raise TypeError(f"{name} must be a real number, got {describe(value)}.")
    if jnp.shape(value) != ():
        raise ValueError(f"{name} must be a scalar, got shape {jnp.shape(value)}; vmap over it.")


def check_real_array(value: Any, name: str) -> None:
    """Requires real numbers of any shape."""
    if not _is_real(value):
        raise TypeError(f"{name} must be an array or a number, got {describe(value)}.")


def check_floating(array: Any, name: str, axes: tuple[str, ...]) -> None:
    """Requires a floating-point array with these axes; a last axis "..." stands for any more."""
    shape = "[" + ", ".join(axes) + "]"
    if not hasattr(array, "ndim") or not _is_array_like(array) or not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} {shape} must be a floating-point array, got {describe(array)}.")
    if array.ndim < len(axes) - 1 if axes[-1:] == ("...",) else array.ndim != len(axes):
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}; vmap over other axes.")


def check_unit_interval(array: Any, name: str) -> None:
    """Requires numbers between 0 and 1 where their values are known."""
    if is_traced(array) or array.size == 0:
        return
    numbers = np.asarray(array)  # jax would trace the comparison under jit
    lowest, highest = numbers.min(), numbers.max()
    if not 0 <= lowest <= highest <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got numbers from {lowest} to {highest}.")


def check_label(label: Any, num_classes: int) -> None:
    """Requires one integer, within range where its value is known."""
    if not _is_array_like(label) or jnp.shape(label) != () or not jnp.issubdtype(jnp.result_type(label), jnp.integer):
        raise TypeError(f"label must be one integer, got {describe(label)}; vmap over data.")
    if not is_traced(label) and not 0 <= int(label) < num_classes:
        raise ValueError(f"label must be between 0 and {num_classes - 1}, got {int(label)}.")


def check_labels(labels: Any, num_labels: int, num_classes: int) -> None:
    """Requires that many integers, within range where their values are known."""
    if not _is_array_like(labels) or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels must be integers [{num_labels}], got {describe(labels)}.")
    if jnp.shape(labels) != (num_labels,):
        raise ValueError(f"labels must have shape ({num_labels},), got {jnp.shape(labels)}; vmap over data.")
    if not is_traced(labels) and not all(0 <= int(label) < num_classes for label in labels.tolist()):
        raise ValueError(f"labels must be between 0 and {num_classes - 1}, got {labels}.")


def check_callable(function: Any, name: str) -> None:
    """Requires something that can be called."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {describe(function)}.")


def check_estimator(estimator: Any) -> None:
    """Requires a function of the six arguments of an estimator, not one that makes it nor one with a state."""
    check_callable(estimator, "estimator")
    try:
        inspect.signature(estimator).bind(*"123456")
    except TypeError:
        name = getattr(estimator, "__name__", describe(estimator))
        raise TypeError(
            f"estimator must take (params, key, log_joint, family, bound, num_samples), which {name} does not: call it "
            "with its options first, as in estimators.rebar(); one with a state is called by itself and returns "
            "(value, state)."
        ) from None


def check_bound(bound: Any) -> None:
    """Requires a function of log-weights alone."""
    check_callable(bound, "bound")
    try:
        inspect.signature(bound).bind("log_weights")
    except TypeError:
        name = getattr(bound, "__name__", describe(bound))
        raise TypeError(
            f"bound must take log_weights alone, which {name} does not: give it its other arguments first, as in "
            "functools.partial(bounds.renyi, alpha=0.5)."
        ) from None
    except ValueError:  # a function whose signature cannot be read
        pass


def check_no_shared_leaves(own: PyTree, params: Params, name: str, loss: str) -> None:
    """Requires that nothing which is differentiated stands in both trees."""
    leaves = {id(leaf) for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.core.Tracer)}
    if any(id(leaf) in leaves for leaf in jax.tree.leaves(own)):
        raise ValueError(f"{name} must not share leaves with params: {loss} would train the policy.")


def check_static(function: Any, name: str) -> None:
    """Requires a function that can key the compiler's cache."""
    check_callable(function, name)
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{name} must be hashable to be compiled once; wrap it in a plain function and pass its arrays as data."
        ) from None


def check_family(family: Any, name: str = "family") -> None:
    """Requires a `Family` record (not the constructor of one)."""
    if isinstance(family, Family):
        return
    hint = "; call it with your latent first, as in families.mean_field(latent_like)" if callable(family) else ""
    raise TypeError(f"{name} must be a jaxelbo.Family, got {describe(family)}{hint}.")


def check_params(params: Params, family: Family, name: str = "params", family_name: str = "family") -> None:
    """Requires ``params`` to have the structure, shapes and dtypes that the family's ``init`` returns."""
    check_family(family, family_name)
    expected = jax.eval_shape(lambda: family.init(jax.random.key(0)))
    check_like(params, expected, name, f"family {family.name}")


def check_like(tree: PyTree, expected: PyTree, name: str, owner: str) -> None:
    """Requires ``tree`` to have the structure, shapes and dtypes of ``expected``, which ``owner`` asks for."""
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        names, expected_names = leaf_names(tree), leaf_names(expected)
        raise ValueError(
            f"{name} must have the structure that {owner} asks for: expected leaves {expected_names}"
            f", got {names if names != expected_names else jax.tree.structure(tree)}."
        )
    for path, leaf, like in zip(leaf_names(tree, name), jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        if not _is_array_like(leaf):
            raise TypeError(f"{path} must be an array, got {describe(leaf)}.")
        if jnp.shape(leaf) != like.shape:
            raise ValueError(f"{path} must have shape {like.shape} for {owner}, got {jnp.shape(leaf)}.")
        if canonical_dtype(leaf) != like.dtype:
            raise TypeError(f"{path} must have dtype {like.dtype} for {owner}, got {canonical_dtype(leaf)}.")


def check_leading_axis(tree: PyTree, size: int, name: str, axis: str) -> None:
    """Requires leaves ``[size, ...]``."""
    for path, leaf in zip(leaf_names(tree, name), jax.tree.leaves(tree), strict=True):
        if jnp.shape(leaf)[:1] != (size,):
            raise ValueError(f"{path} must have a leading axis of {size} {axis}, got shape {jnp.shape(leaf)}.")


def check_float_leaves(tree: PyTree, name: str) -> None:
    """Requires at least one leaf, and floating-point numbers in all of them."""
    if not jax.tree.leaves(tree):
        raise ValueError(f"{name} must have at least one leaf, got an empty pytree.")
    for path, leaf in zip(leaf_names(tree, name), jax.tree.leaves(tree), strict=True):
        if not _is_array_like(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"{path} must be a floating-point array or shape, got {describe(leaf)}.")
        if not jnp.issubdtype(canonical_dtype(leaf), jnp.floating):
            raise TypeError(f"{path} must be floating-point, got dtype {canonical_dtype(leaf)}; write 0.0 for 0.")


def check_arrays(tree: PyTree, name: str) -> None:
    """Requires arrays or numbers in all leaves."""
    for path, leaf in zip(leaf_names(tree, name), jax.tree.leaves(tree), strict=True):
        if not _is_array_like(leaf):
            raise TypeError(f"{path} must be an array or a number, got {describe(leaf)}.")


def format_count(count: int) -> str:
    """A whole number in words of bearable length."""
    return f"{count:,}" if count < 10**15 else f"about 10^{int(count.bit_length() * math.log10(2))}"


def canonical_dtype(leaf: Any) -> jnp.dtype:
    """The dtype that jax gives this leaf: float32 for Python's and NumPy's floats unless 64-bit types are on."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.dtypes.canonicalize_dtype(dtype) if not jnp.issubdtype(dtype, jax.dtypes.prng_key) else dtype


def describe(value: Any) -> str:
    """A few words for an error message: type, and shape and dtype where it has them."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of dtype {value.dtype} and shape {tuple(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 and text != str(type(value)) else type(value).__name__


def _is_real(value: Any) -> bool:
    return _is_array_like(value) and any(
        jnp.issubdtype(jnp.result_type(value), kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    )


def _is_array_like(value: Any) -> bool:
    if isinstance(value, bool | int | float | complex):
        return True
    if not hasattr(value, "shape") or not hasattr(value, "dtype") or isinstance(value, jax.ShapeDtypeStruct):
        return False
    kinds = (jnp.number, jnp.bool_, jax.dtypes.prng_key)
    return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def largest_entry(tree: PyTree, name: str, size: Callable[[np.ndarray], np.ndarray]) -> tuple[str, float]:
    """What messages call the entry of largest ``size``, which is taken leaf by leaf, and the entry itself."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    sizes = [size(leaf) for leaf in leaves]
    index = int(np.argmax([each.max(initial=0) for each in sizes]))
    place = np.unravel_index(int(np.argmax(sizes[index])), leaves[index].shape)
    entry = "[" + ", ".join(map(str, place)) + "]" if place else ""
    return leaf_names(tree, name)[index] + entry, float(leaves[index][place])
