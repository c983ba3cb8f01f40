"""What Ray Tune is asked to try: a grid of stacks of heads, or what Optuna proposes."""

from typing import Any

from tune.space import SearchConfig
from tune.specs import DIMENSIONS, Trial, audc_of


def asked_of_tune(
    search: SearchConfig, done: dict[Trial, dict], unfinished: dict[Trial, dict]
) -> tuple[dict, Any, int, list[list[Trial]]]:
    """Return Tune's space, its search algorithm, the number of heads left, and their stacks.

    Args:
        search: The search.
        done: Finished trials and their records.
        unfinished: Trials that cannot be run.
    """
    from ray import tune

    if search.searcher != "optuna":
        known = done.keys() | unfinished
        stacks = search.stacks()
        missing = [[trial for trial in stack if trial not in known] for stack in stacks]
        todo = [stack for stack, left in zip(stacks, missing) if left]
        space = {"stack": tune.grid_search(list(range(len(todo))))}
        return space, None, sum(map(len, missing)), todo

    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    points = [
        # An older record does not know of a dimension in which it had one choice.
        {f"choices/{n}": record["asked"].get(n, getattr(search, n)[0]) for n in DIMENSIONS}
        for record in done.values()
    ]
    algorithm = OptunaSearch(
        seed=search.seed[0],
        points_to_evaluate=points or None,
        evaluated_rewards=[audc_of(record["metrics"]) for record in done.values()] or None,
    )
    choices = {name: tune.choice(getattr(search, name)) for name in DIMENSIONS}
    return {"choices": choices}, algorithm, search.trials - len(done), []
