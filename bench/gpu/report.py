"""The figures of a run as Markdown, for ``bench/README.md``."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.gpu.results import Results


def markdown(results: Results) -> str:
    blocks = [results.machine, _rates(results), _network(results.cells), _ideals(results)]
    blocks += [_loads(results, model) for model in results.loads]
    blocks += [_agreements(results), _left_out(results)]
    return "\n\n".join(block for block in blocks if block)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def _rates(results: Results) -> str:
    found = [f"{rate.dtype} {rate.tflops:.4g} TFLOP/s (side {rate.side})" for rate in results.rates]
    return f"Matrix rate: {', '.join(found)}." if found else ""


def _network(cells: Sequence[Any]) -> str:
    """One line a network and size, one column for each number of rows."""
    if not cells:
        return ""
    counts = sorted({cell.rows for cell in cells})
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for cell in cells:
        known = (cell.model, cell.part, str(cell.size_px), f"{cell.tflop / cell.rows:.3g}")
        lines.setdefault(known, {})[cell.rows] = _figures(cell)
    rows = [[*known, *(by_count.get(count, "") for count in counts)] for known, by_count in lines.items()]
    columns = ["model", "part", "px", "TFLOP a row", *(f"{count} rows" if count > 1 else "1 row" for count in counts)]
    return "ms a call / TFLOP/s / share of the matrix rate\n\n" + _table(columns, rows)


def _figures(cell: Any) -> str:
    if cell.ms is None:
        return "no memory"
    return f"{cell.ms:.4g} / {cell.tflops:.3g} / {100 * cell.share:.0f} %"


def _ideals(results: Results) -> str:
    return "\n".join(
        f"{model}: {images:.3g} images/s if all of an image ran at the matrix rate."
        for model, images in results.ideals.items()
    )


def _loads(results: Results, model: str) -> str:
    from bench.serve.report import table

    sides = ", ".join(f"{letter} = {label}" for letter, label in results.sides[model].items())
    return f"{model}: {sides}\n\n{table(results.loads[model])}"


def _agreements(results: Results) -> str:
    if not results.agreements:
        return ""
    rows = [
        [found.model, found.compared, "equal" if found.psnr is None else f"{found.psnr:.1f}", str(found.most)]
        for found in results.agreements
    ]
    return _table(["model", "pictures, inside the mask", "PSNR dB", "largest difference of 255"], rows)


def _left_out(results: Results) -> str:
    lines = [f"- {left.what}: {'failed: ' if left.failed else ''}{left.why}" for left in results.left_out]
    return "\n".join(["Left out:", *lines]) if lines else ""
