"""Commands and options. Each command imports what it needs when it runs, so that `--help` stays light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="heliotrope", help="Chat with a model that learns from its people, and look after it.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
policies = typer.Typer(help="Versions: list, show, promote, roll back.", no_args_is_help=True)
feedback = typer.Typer(help="What people say of the answers.", no_args_is_help=True)
app.add_typer(policies, name="policies")
app.add_typer(feedback, name="feedback")
log = typer.Typer(help="The log: replay it, look into quarantine.", no_args_is_help=True)
quarantine = typer.Typer(help="Records that could not be used.", no_args_is_help=True)
log.add_typer(quarantine, name="quarantine")
app.add_typer(log, name="log")

Address = Annotated[
    str, typer.Option("--address", envvar="HELIOTROPE_ADDRESS", help="Public listener, host:port.")
]
Private = Annotated[
    str, typer.Option("--private", envvar="HELIOTROPE_PRIVATE_ADDRESS", help="Private listener, host:port.")
]
Version = Annotated[str, typer.Argument(help="For example policy-v3.")]
PUBLIC_ADDRESS = "127.0.0.1:50051"
PRIVATE_ADDRESS = "127.0.0.1:50052"
HUMAN = ["human"]


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Ask this and end; left out: a conversation.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Ask for two answers side by side each time.")
    ] = False,
    address: Address = PUBLIC_ADDRESS,
) -> None:
    """Chat; /good and /bad judge an answer, keys pick between two."""
    from heliotrope.cli.chat import run

    raise typer.Exit(run(message, compare, address))


@app.command()
def status(private: Private = PRIVATE_ADDRESS) -> None:
    """Show what is live, what is resident and what is in flight."""
    from heliotrope.cli import show

    show.status(private)


@policies.command("list")
def list_(private: Private = PRIVATE_ADDRESS) -> None:
    """List all versions, newest first."""
    from heliotrope.cli import show

    show.policies(private)


@policies.command("show")
def show_(version: Version, private: Private = PRIVATE_ADDRESS) -> None:
    """Show one version: what it came from, its gates and figures."""
    from heliotrope.cli import show

    show.policy(version, private)


@policies.command()
def promote(
    version: Version,
    force: Annotated[bool, typer.Option("--force", help="Although the judge did not pass it.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; needed with --force.")] = "",
    epoch: Annotated[
        int, typer.Option("--epoch", min=0, help="Only if this is still the newest epoch; 0: any.")
    ] = 0,
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Make a version live."""
    from heliotrope.cli import show

    show.promote(version, force, reason, epoch, private)


@policies.command()
def rollback(
    reason: Annotated[str, typer.Option("--reason", help="Why, in words.")] = "",
    stop_in_flight: Annotated[
        bool, typer.Option("--stop-in-flight", help="Also stop answers being given.")
    ] = False,
    epoch: Annotated[
        int, typer.Option("--epoch", min=0, help="Only if this is still the newest epoch; 0: any.")
    ] = 0,
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Put the last good version back, now."""
    from heliotrope.cli import show

    show.roll_back(reason, stop_in_flight, epoch, private)


@feedback.command()
def tail(
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Begin after this position; 0: all.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End when there is nothing more.")] = False,
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Print judgements as they are committed."""
    from heliotrope.cli import show

    show.tail(after, stop, private)


@app.command()
def lineage(
    name: Annotated[str, typer.Argument(help="A version, such as policy-v3, or an event id.")],
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Print what a version came from, or the versions that an event touched, as JSON."""
    from heliotrope.cli import stores

    stores.lineage(name, private)


@log.command()
def replay(private: Private = PRIVATE_ADDRESS) -> None:
    """Make serving's derived store again from the log and say whether the hashes agree; status 1 when they do not."""
    from heliotrope.cli import stores

    raise typer.Exit(stores.replay(private))


@quarantine.command("list")
def quarantine_list(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 50,
    before: Annotated[int, typer.Option(min=0, help="Only smaller numbers; 0: from the newest.")] = 0,
    reason: Annotated[str, typer.Option(help="Only this reason.")] = "",
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Show what could not be used, newest first, and how many of each reason there are."""
    from heliotrope.cli import stores

    stores.quarantined(limit, before, reason, private)


@quarantine.command("replay")
def quarantine_replay(private: Private = PRIVATE_ADDRESS) -> None:
    """Look again at all of it: a newer program, a later time or another broker may be able to use some."""
    from heliotrope.cli import stores

    stores.replay_quarantine(private)


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="File to write: .jsonl, or .parquet where pyarrow is.")],
    form: Annotated[str, typer.Option("--format", help="dpo, kto, reward or sft.")] = "dpo",
    source: Annotated[list[str], typer.Option("--source", help="Whose feedback; may be repeated.")] = HUMAN,
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Write what may be learned from in the columns that TRL and Hugging Face datasets read."""
    from heliotrope.cli import transfer

    raise typer.Exit(transfer.export(form, out, source, private))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines or Parquet; TRL's columns, or HH-RLHF's.")],
    origin: Annotated[
        str, typer.Option("--origin", help="Name of the data set, for rows without a `source`; the file's.")
    ] = "",
    judge: Annotated[str, typer.Option("--judge", help="Column that says who judged.")] = "judge",
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Take in an existing preference set. A learner trains on it once learner.sources names `imported`."""
    from heliotrope.cli import transfer

    raise typer.Exit(transfer.import_(file, origin, judge, private))


@app.command()
def forget(
    user: Annotated[str, typer.Argument(help="The person's pseudonym, as `feedback tail` shows it.")],
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Erase what a person gave: unreadable at once, everywhere. Cannot be undone."""
    from heliotrope.cli import forget as command

    command.forget(user, private)


@app.command()
def erasure(
    erasure_id: Annotated[str, typer.Argument(help="What `forget` or ForgetMe gave.")],
    private: Private = PRIVATE_ADDRESS,
) -> None:
    """Show how far an erasure is, and which versions had learned from the person."""
    from heliotrope.cli import forget as command

    command.progress(erasure_id, private)


@app.command()
def simulate(
    people: Annotated[int, typer.Option(min=1, max=10_000, help="How many there are.")] = 100,
    comparisons: Annotated[int, typer.Option(min=1, max=100_000, help="How many they judge in all.")] = 300,
    concurrency: Annotated[int, typer.Option(min=1, max=1_000, help="How many ask at once.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="The same seed: the same people and questions.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 48,
    address: Address = PUBLIC_ADDRESS,
) -> None:
    """Let simulated people chat and judge. A learner ignores them unless learner.sources names `simulated`."""
    from heliotrope.cli.simulate import run
    from heliotrope.simulate.drive import Plan

    plan = Plan(comparisons, people, concurrency, seed, max_tokens=max_tokens)
    raise typer.Exit(run(plan, address))
