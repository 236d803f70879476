"""`python -m learner [--config FILE] [--set section.key=value …] [run | replay | retrain policy-vN | retrain --without
USER]`: learn from the log until stopped; make the training set, or a version, again; or a version without somebody."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

from heliotrope.config import Config, load
from heliotrope.errors import HeliotropeError
from heliotrope.identity import DEFAULT_TENANT


def main() -> int:
    """Run the learner; 0 after SIGTERM or Ctrl-C, 2 when it cannot start."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = Event()

    def on_signal(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once: a kill loses nothing but work

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, on_signal)
    try:
        config = load(arguments.config, arguments.overrides)
        # Passive waits leave the cores to serving; they must be set before torch starts its threads.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from learner import verbs

        if arguments.verb == "replay":
            return verbs.replay(config)
        if arguments.without:
            return verbs.retrain_without(config, arguments.without, arguments.tenant)
        if arguments.verb == "retrain":
            return verbs.retrain(config, arguments.version)
        learn(config, stop)
    except HeliotropeError as error:
        print(f"learner: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m learner", description=__doc__)
    parser.add_argument("--config", type=Path, help="TOML file; defaults otherwise")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("verb", nargs="?", choices=("run", "replay", "retrain"), default="run",
                        help="replay: make the training set again from the log; retrain: make a version again")  # fmt: skip
    parser.add_argument("version", nargs="?", help="for retrain, such as policy-v3")
    parser.add_argument(
        "--without",
        default="",
        metavar="USER",
        help="retrain: a successor that never learned from this pseudonym",
    )
    parser.add_argument("--tenant", default=DEFAULT_TENANT, help="with --without: the person's tenant")
    arguments = parser.parse_args()
    if (arguments.verb == "retrain") != (bool(arguments.version) ^ bool(arguments.without)):
        parser.error(
            "name a version or a person with retrain, and with nothing else: retrain policy-v3, or retrain --without USER"
        )
    return arguments


def learn(config: Config, stop: Event) -> None:
    """Learn until told to stop."""
    from learner.build import build
    from learner.erasure import heed
    from learner.loop import run
    from learner.progress import show
    from learner.recovery import recover
    from learner.verbs import own

    with own(config):
        parts = build(config, show)
        try:
            recover(parts, stop)
            run(parts, stop, heed)
        finally:
            parts.close()


if __name__ == "__main__":
    sys.exit(main())
