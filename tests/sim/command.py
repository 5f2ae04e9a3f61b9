"""The commands of `python -m tests.sim`."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

from tests.sim import nights, run

CASES = Path(__file__).parent / "cases"
ADVICE = 'What to do with a complaint: "A complaint" in tests/sim/README.md.'


class Unreadable(Exception):
    """An argument names no plan that can be run; the text says why."""


def main(arguments=None):
    """Exit status 0: nothing is wrong. 1: the judge complains. 2: the simulation itself failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["mutants"]:
        from tests.sim import mutants

        return mutants.main(arguments[1:])
    given = parser().parse_args(arguments)
    run.imported()
    try:
        return given.do(given)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2


def parser():
    top = argparse.ArgumentParser(
        prog="python -m tests.sim",
        description="Run the whole agent in simulated time, on a simulated disk, in a simulated"
        " building, and judge what platforms, devices and people got. The same plan gives the same"
        " run.",
        epilog="Exit status 0: nothing is wrong. 1: the judge complains, one line for each"
        " complaint (ORACLE: CLAUSE at TIME: TEXT [RECORDS]). 2: the simulation itself failed, or"
        " an argument is wrong. tests/sim/README.md says what to do with a complaint. There is also"
        " the command mutants, with a help text of its own.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    seed = commands.add_parser("seed", help="draw a plan from a seed, and run it")
    seed.add_argument("seed", type=int)
    seed.add_argument("--plan", metavar="FILE", help="also write the plan to a file")
    seed.set_defaults(do=of_seed)

    plan = commands.add_parser("plan", help="run a plan from a file")
    plan.add_argument("file", type=Path, help="for example one of tests/sim/cases")
    plan.set_defaults(do=of_file)

    replay = commands.add_parser(
        "replay", help="make a plan with synthetic values from a support bundle, and run it"
    )
    text = "a file that `gardien support-bundle --out FILE` has written"
    replay.add_argument("bundle", type=Path, help=text)
    text = "write the plan to a file (default: the bundle's name with .plan.json, in this folder)"
    replay.add_argument("--plan", type=Path, metavar="FILE", help=text)
    replay.add_argument("--seed", type=int, help="decides what the bundle does not say")
    text = "shorten longer times in which nothing happens to so many days, by whole days"
    replay.add_argument("--squeeze", type=int, metavar="DAYS", help=text)
    replay.add_argument(
        "--only-plan", action="store_true", help="write the plan, and do not run it"
    )
    replay.set_defaults(do=of_replay)

    first = commands.add_parser(
        "first", help="run the smallest world, without judge: does the agent start and stop?"
    )
    first.set_defaults(do=of_first)
    for command in (seed, plan, replay, first):
        command.add_argument("--log", action="store_true", help="print the agent's log")
        text = "write the journal to a file, a record on each line, with its index"
        command.add_argument("--journal", metavar="FILE", help=text)
        text = "write the trace to a file: journal and agent's log, in the order in which they came"
        command.add_argument("--trace", metavar="FILE", help=text)
        command.add_argument(
            "--keep", metavar="FILE", help="write plan and journal to a file, pickled"
        )
        command.add_argument(
            "--profile", metavar="FILE", help="write a profile of each life to FILE.LIFE"
        )

    corpus = commands.add_parser("corpus", help="run the plans of tests/sim/cases")
    text = "plans by their names, without .json (default: all)"
    corpus.add_argument("names", nargs="*", metavar="NAME", help=text)
    text = (
        "begin with those that notice most mutants in a second, and in turn with others that the"
        " agent's code chooses: the same code runs the same plans"
    )
    corpus.add_argument("--in-turn", action="store_true", help=text)
    corpus.set_defaults(do=of_corpus)

    seeds = commands.add_parser("seeds", help="run the plans of seeds FIRST to LAST")
    seeds.add_argument("first", type=int)
    seeds.add_argument("last", type=int)
    seeds.set_defaults(do=of_seeds)

    twice = commands.add_parser("twice", help="run plans twice, and compare their traces")
    twice.add_argument("first", type=int)
    twice.add_argument("last", type=int)
    twice.set_defaults(do=of_twice)

    night = with_night(commands)
    with_shrink(commands)
    for command in (seed, seeds, twice):
        text = "draw plans of so many days (default: hours or days, as the kind of plan needs them)"
        command.add_argument("--days", type=float, help=text)
    for command in (corpus, seeds):
        text = "begin no further plan after so many seconds of CPU"
        command.add_argument("--within", type=float, metavar="SECONDS", help=text)
    for command in (corpus, seeds, twice, night):
        command.add_argument(
            "--jobs", type=int, default=2, help="runs at the same time (default: 2)"
        )

    return top


def with_night(commands):
    night = commands.add_parser(
        "night", help="run new seeds for hours, and write the page of results"
    )
    text = "begin runs for so long; those that are under way then are finished"
    night.add_argument("--hours", type=float, required=True, help=text)
    more = {"type": Path, "metavar": "FILE"}
    text = "results of all nights, added up (default: %(default)s)"
    night.add_argument("--results", default=nights.RESULTS, help=text, **more)
    text = "the page that is written (default: %(default)s)"
    night.add_argument("--page", default=nights.PAGE, help=text, **more)
    text = "plans of so many days (default: mostly as their kind needs, some three to nine)"
    night.add_argument("--days", type=float, help=text)
    night.set_defaults(do=of_night)
    return night


def with_shrink(commands):
    shrink = commands.add_parser(
        "shrink", help="leave out of a plan what a complaint does not need, and write the rest"
    )
    shrink.add_argument("what", metavar="SEED|FILE", help="a seed, or a file with a plan")
    shrink.add_argument("--days", type=float, help="of a seed: draw a plan of so many days")
    text = "what the smaller plan must show, as ORACLE:CLAUSE (default: its first complaint)"
    shrink.add_argument("--shows", metavar="SENT:P13", help=text)
    shrink.add_argument("--most", type=int, default=150, help="runs at most (default: 150)")
    text = "where the smaller plan is written, after each step (default: %(default)s)"
    shrink.add_argument("--plan", type=Path, metavar="FILE", default="small.json", help=text)
    shrink.set_defaults(do=of_shrink)


def shown(outcome):
    """Print an outcome; return its status."""
    days = outcome.seconds / 86_400
    speed = outcome.seconds / outcome.cpu if outcome.cpu else 0
    verdict = (
        "broken"
        if outcome.broken
        else f"{len(outcome.faults)} complaint{'s'[: len(outcome.faults) != 1]}"
        if outcome.faults
        else "right"
    )
    ends = ", ".join(f"{count} {how}" for how, count in sorted(outcome.ends.items()))
    print(
        f"seed {outcome.seed} ({outcome.kind}): {verdict}. {days:.1f} days, {outcome.lives} lives"
        f" ({ends}), {outcome.batches} batches, {outcome.cpu:.1f} s of CPU ({speed:,.0f} times),"
        f" plan {outcome.plan}, trace {outcome.trace}",
        flush=True,
    )
    for error in outcome.errors:
        print(f"a life ended with {error}")
    for fault in outcome.faults:
        print(fault)
    if outcome.broken:
        print(f"BROKEN: {outcome.broken}", file=sys.stderr)
    return outcome.status


def each(plans, jobs=1, within=None, names=None, **options):
    """Run plans, and print what became of each. `within`: begin none after so many s of CPU;
    `names`: of plans of the corpus, by their hash.
    """
    used, status, count = 0.0, 0, 0

    def wanted():
        nonlocal count
        for plan in plans:
            if within is not None and used > within:
                print(f"{within:.0f} s of CPU are used: the other plans are left out")
                return
            count += 1
            name = f"{names[run.sha(plan)]}: " if names else ""
            print(f"{name}seed {plan['seed']} ({plan.get('kind', '')}) is run", file=sys.stderr)
            yield plan

    for outcome in run.run_all(wanted(), jobs, **options):
        used += outcome.cpu
        if names:
            print(names[outcome.plan], end=": ")
        status = max(status, shown(outcome))
    print(f"{count} plan{'s'[: count != 1]}, {used:.1f} s of CPU")
    if status == 1:
        print(ADVICE)
    return status


def planned(file):
    """A plan from a file. Raises Unreadable."""
    from tests.sim import plan

    try:
        return plan.load(file)
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(f"{file} is no plan that can be run: {error}") from error


def options(given):
    wishes = {name: getattr(given, name) for name in ("journal", "trace", "keep", "profile")}
    return wishes | {"shown": given.log}


def of_seed(given):
    made = run.plan_of(given.seed, given.days)
    if given.plan:
        Path(given.plan).write_text(json.dumps(made, indent=1), encoding="utf-8")
    return each([made], **options(given))


def of_file(given):
    return each([planned(given.file)], **options(given))


def of_replay(given):
    from tests.sim import plan, replay

    try:
        made, lines = replay.replay(given.bundle, given.seed, given.squeeze)
    except replay.Unusable as error:
        print(error, file=sys.stderr)
        return 2
    file = given.plan or Path(f"{given.bundle.name}.plan.json")
    file.write_text(plan.dump(made), encoding="utf-8")
    counts = f"{len(made['events'])} events in {made['days']} days"
    print(
        *lines, f"The plan has {counts}. To run it again: python -m tests.sim plan {file}", sep="\n"
    )
    return 0 if given.only_plan else each([made], **options(given))


def of_first(given):
    from tests.sim.first import PLAN

    return each([PLAN], **options(given))


def of_corpus(given):
    from tests.sim import corpus

    named = corpus.short() if given.in_turn else corpus.whole()
    if unknown := sorted(set(given.names) - named.keys()):
        raise Unreadable(f"tests/sim/cases has no plan named {', '.join(unknown)}")
    named = {name: plan for name, plan in named.items() if name in given.names or not given.names}
    names = {run.sha(plan): name for name, plan in named.items()}
    return each(named.values(), given.jobs, given.within, names)


def of_seeds(given):
    plans = (run.plan_of(seed, given.days) for seed in range(given.first, given.last + 1))
    return each(plans, given.jobs, given.within)


def of_twice(given):
    """Traces must be equal: else a draw, a time or an order comes from outside of the world.

    Nothing is judged, so an hour of quiet is enough.
    """
    plans = [run.plan_of(seed, given.days) for seed in range(given.first, given.last + 1)]
    plans = [plan | {"quiet": min(plan["quiet"], 3600)} for plan in plans]
    traces, status = {}, 0
    for outcome in run.run_all(
        [plan for plan in plans for _ in range(2)], given.jobs, judged=False
    ):
        if outcome.broken:
            status = shown(outcome)
        traces.setdefault(outcome.plan, []).append((outcome.trace, outcome.seed))
    differ = [runs[0][1] for runs in traces.values() if len({trace for trace, _ in runs}) > 1]
    print(f"{len(traces)} plans run twice, {len(differ)} with different traces: {differ or ''}")
    return max(status, 1 if differ else 0)


def of_night(given):
    files = given.results, given.page
    runs = functools.partial(run.run_all, jobs=given.jobs)
    return nights.night(given.hours, files, runs, shown, given.days)


def of_shrink(given):
    """Status 0: a plan that still shows the complaint is written; 2: it does not show it."""
    from tests.sim import plan, shrink

    whole = run.plan_of(int(given.what), given.days) if given.what.isdecimal() else None
    whole = whole or planned(given.what)
    print("The whole plan is run first, then smaller ones", file=sys.stderr)
    faults = shrink.complaints(whole)
    sorts = [shrink.sort_of(fault) for fault in faults]
    sort = tuple(given.shows.split(":")) if given.shows else next(iter(sorts), None)
    if sort not in sorts:
        what = (
            f"The plan does not show {given.shows}, but:" if faults else "No complaint, or broken"
        )
        print(what, *faults, sep="\n", file=sys.stderr)
        return 2
    print(f"{sort[0]}: {sort[1]}", flush=True)

    def kept(smaller, line):
        given.plan.write_text(plan.dump(smaller), encoding="utf-8")
        print(line, flush=True)

    runs = lambda tried: {shrink.sort_of(fault) for fault in shrink.complaints(tried)}  # noqa: E731
    shrinking = shrink.Shrinking(whole, sort, runs, kept, given.most)
    small = shrinking.smallest()
    kept(small, f"{given.plan}: {len(small['events'])} events after {shrinking.made} runs")
    if shrinking.made >= given.most:
        print(f"It stopped at --most {given.most}. To go on: shrink {given.plan}")
    return 0
