"""The figures of a run as Markdown, and as records for ``bench/README.md``."""

from pathlib import Path
from typing import Any

from bench.gpu.results import Results
from bench.record import Record


def markdown(results: Results) -> str:
    return "\n\n".join([*(record.markdown() for record in records(results).values()), _left_out(results)]).strip()


def keep(results: Results, file: Path) -> None:
    """Each table beside ``file``: ``NAME-network.json`` and so on."""
    for part, record in records(results).items():
        record.keep(file.with_name(f"{file.stem}-{part}.json"))


def records(results: Results) -> dict[str, Record]:
    """The tables that there is something for: rates, network, one for each model that was served, and pictures."""
    found = {"rates": _rates(results), "network": _network(results)}
    found |= {model: _loads(results, model) for model in results.loads}
    found["pictures"] = _agreements(results)
    for record in found.values():
        record.machine, record.date = results.machine, results.date
    return {part: record for part, record in found.items() if record.rows}


def _rates(results: Results) -> Record:
    rows = [[rate.dtype, f"{rate.tflops:.4g}", str(rate.side)] for rate in results.rates]
    return Record(["matrix rate", "TFLOP/s", "side"], rows)


def _network(results: Results) -> Record:
    """One line a network and size, one column for each number of rows."""
    cells = results.cells
    counts = sorted({cell.rows for cell in cells})
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for cell in cells:
        known = (cell.model, cell.part, str(cell.size_px), f"{cell.tflop / cell.rows:.3g}")
        lines.setdefault(known, {})[cell.rows] = _figures(cell)
    rows = [[*known, *(by_count.get(count, "") for count in counts)] for known, by_count in lines.items()]
    columns = ["model", "part", "px", "TFLOP a row", *(f"{count} rows" if count > 1 else "1 row" for count in counts)]
    ideals = [
        f"{model}: {images:.3g} images/s if all of an image ran at the matrix rate."
        for model, images in results.ideals.items()
    ]
    return Record(columns, rows, ["ms a call / TFLOP/s / share of the matrix rate.", *ideals])


def _figures(cell: Any) -> str:
    if cell.ms is None:
        return "no memory"
    return f"{cell.ms:.4g} / {cell.tflops:.3g} / {100 * cell.share:.0f} %"


def _loads(results: Results, model: str) -> Record:
    from bench.throughput.report import table

    record = table(results.loads[model])
    sides = ", ".join(f"{letter} = {label}" for letter, label in results.sides[model].items())
    record.notes = [f"{model}: {sides}."]
    return record


def _agreements(results: Results) -> Record:
    rows = [
        [found.model, found.compared, "equal" if found.psnr is None else f"{found.psnr:.1f}", str(found.most)]
        for found in results.agreements
    ]
    return Record(["model", "pictures, inside the mask", "PSNR dB", "largest difference of 255"], rows)


def _left_out(results: Results) -> str:
    lines = [f"- {left.what}: {'failed: ' if left.failed else ''}{left.why}" for left in results.left_out]
    return "\n".join(["Left out:", *lines]) if lines else ""
