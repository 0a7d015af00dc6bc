"""Results read back from JSON, those of earlier versions too."""

from __future__ import annotations

from pathlib import Path

from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation.formulas import CHAINS, bntt_ratio, chain_rates
from leanspike.evaluation.result import Result
from leanspike.files import checked_json


def load_result(path: str | Path) -> Result:
    """Read a ``result.json`` back; a damaged or foreign file is an error of one line.

    In records from before BNTT's formula its ratio is worked out where they say enough. They do for
    networks whose layers each read the neurons before them.

    Raises:
        LeanspikeError: for a file that is missing, damaged, or no result.

    >>> load_result(Path("nowhere.json"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no result at nowhere.json; write one with ...
    """
    path = Path(path)
    if not path.is_file():
        raise LeanspikeError(f"no result at {path}; write one with `leanspike evaluate RUN`")
    try:
        result = parse_result(checked_json(path.read_text()))
        for row in result.neurons:
            if len(row.spikes_per_step) != result.timesteps:
                raise ValueError(f"spikes of {row.path[:40]!r} are not of {result.timesteps} steps")
        return result
    except ValueError as error:  # ValidationError and UnicodeDecodeError among them
        raise LeanspikeError(
            f"{path} is not a leanspike result ({one_line(error)}); "
            "write it again with `leanspike evaluate RUN`"
        ) from None


def parse_result(text: str) -> Result:
    """Return a result from its JSON, as `load_result` reads it from a file.

    Raises:
        ValueError: if the text is no result.

    >>> parse_result("{}")
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ... validation errors for Result...
    """
    return _with_bntt_formula(Result.model_validate_json(text))


def _with_bntt_formula(result: Result) -> Result:
    """Return the result with the ratio by BNTT's formula, if it lacks the ratio and says enough."""
    energy, model = result.energy, result.provenance.recipe.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    chain = name in CHAINS and len(result.operations) == len(result.neurons) + 1
    if energy.bntt_formula_ratio is not None or not chain:
        return result
    rates = chain_rates(result.operations, result.neurons)
    layers = tuple(
        row.model_copy(update={"spike_rate": rate})
        for row, rate in zip(result.operations, rates, strict=True)
    )
    ratio = bntt_ratio(layers, result.timesteps, energy.mac_pj, energy.ac_pj)
    update = {"energy": energy.model_copy(update={"bntt_formula_ratio": ratio})}
    return result.model_copy(update={**update, "operations": layers})
