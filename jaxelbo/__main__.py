"""``python -m jaxelbo``: fit the eight schools, print the posterior, its bound and evidence, and draw them."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import jax
import jax.numpy as jnp
import optax

import jaxelbo
from jaxelbo import monte_carlo
from jaxelbo.demo import eight_schools

FAMILIES = {"full_rank": jaxelbo.families.full_rank, "mean_field": jaxelbo.families.mean_field}
EVALUATION_DRAWS = 20_000


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"jaxelbo: {message}; see python -m jaxelbo --help\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the main job."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    output = _writable(parser, options.output)
    try:
        from rich.console import Console

        from jaxelbo.demo import picture
    except ImportError as missing:
        parser.exit(1, f'jaxelbo: {missing.name} is not installed; pip install "jaxelbo[demo]"\n')
    console = Console()
    family = FAMILIES[options.family](eight_schools.LATENT_LIKE)
    key_init, key_fit, key_report = jax.random.split(jax.random.key(options.seed), 3)

    def loss_fn(params: jaxelbo.types.Params, key: jax.Array) -> jax.Array:
        return -jaxelbo.elbo(params, key, eight_schools.log_joint, family, num_samples=options.draws)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, options.steps))
    with jaxelbo.progress_bar("raising the bound") as callback:
        result = jaxelbo.fit(
            family.init(key_init), key_fit, loss_fn, optimizer, num_steps=options.steps, callback=callback
        )
    latents = jaxelbo.draws(result.params, key_report, family, num_samples=EVALUATION_DRAWS)
    summary = jaxelbo.summary({**latents, "effect": jax.vmap(eight_schools.effects)(latents)})
    log_weights = jaxelbo.log_weights(
        result.params, key_report, eight_schools.log_joint, family, num_samples=EVALUATION_DRAWS
    )
    exact = eight_schools.log_evidence()
    console.print(_table(summary, options.family))
    console.print(_account(log_weights, exact), highlight=False)
    effects, mu = (jaxelbo.Summary(*(leaf[name] for leaf in summary)) for name in ("effect", "mu"))
    picture.draw(output, -jax.device_get(result.history.loss), exact, effects, mu)
    console.print(f"picture: {output}", highlight=False)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m jaxelbo",
        description="Fits a Gaussian posterior to the eight schools (Rubin, 1981) by raising the evidence lower bound; "
        "prints its table, the bound with its error, the log evidence and the gap, and draws them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--family", choices=sorted(FAMILIES), default="full_rank", help="approximating family")
    parser.add_argument("--steps", type=_count, default=3_000, help="optimisation steps")
    parser.add_argument("--draws", type=_count, default=8, help="draws of the bound in each step")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of all random numbers")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("eight_schools.png"), help="picture, a PNG")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 2^31 - 1, got {text!r}")
    return int(text)


def _writable(parser: argparse.ArgumentParser, path: pathlib.Path) -> pathlib.Path:
    """The path, once it is known that a file can be written there; asked before the fit, not after."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except (OSError, ValueError) as reason:
        parser.error(f"cannot write {path}: {getattr(reason, 'strerror', reason)}")
    if not existed:
        path.unlink()
    return path


def _table(summary: jaxelbo.Summary, family: str):
    """A row a latent entry, and a row an effect."""
    from rich.table import Table

    table = Table("latent", title=f"posterior of the eight schools, {family}")
    for column in ("mean", "sd", "5%", "95%"):
        table.add_column(column, justify="right")
    for name in ("mu", "log_tau", "eta", "effect"):
        leaves = [jnp.atleast_1d(field[name]) for field in summary]
        labels = [name] if len(leaves[0]) == 1 else [f"{name}, school {school}" for school in eight_schools.SCHOOLS]
        for label, *numbers in zip(labels, *leaves, strict=True):
            table.add_row(label, *(f"{float(number):.2f}" for number in numbers), end_section=label == labels[-1])
    return table


def _account(log_weights: jax.Array, exact: float) -> str:
    """The bound, the evidence and the gap in words."""
    bound, bound_error = map(float, monte_carlo.estimate_of(log_weights))
    evidence = float(jaxelbo.bounds.importance_weighted(log_weights))
    # The error of a logarithm: that of the weights, relative to their mean.
    evidence_error = float(monte_carlo.estimate_of(jnp.exp(log_weights - evidence)).standard_error)
    return (
        f"bound         {bound:9.3f} +- {bound_error:.3f} nats   (ELBO, {log_weights.size:,} draws)\n"
        f"log evidence  {evidence:9.3f} +- {evidence_error:.3f} nats   (importance weighted, the same draws)\n"
        f"              {exact:9.3f}             nats   (quadrature)\n"
        f"gap           {evidence - bound:9.3f}             nats   (estimates KL(q || posterior))"
    )


if __name__ == "__main__":
    sys.exit(main())
