"""Tables for a terminal: columns, and the timing report."""

from collections.abc import Mapping, Sequence

NOT_PHASES = ("total", "steps", "step_p50", "batch_mean")
BAR = 24


def columns(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they have to be; the last one is not filled up."""
    cells = [list(names), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in cells)


def timing_table(timings: Mapping[str, float]) -> str:
    """Every phase with its milliseconds and its share of the total, then the total and the step figures."""
    total = timings["total"]
    phases = {name: ms for name, ms in timings.items() if name not in NOT_PHASES}
    rows = [_row(name, ms, ms / total if total else 0.0) for name, ms in phases.items()]
    summed = sum(phases.values())
    return "\n".join(
        [
            f"{'phase':<12} {'ms':>9} {'share':>7}",
            *rows,
            f"{'sum':<12} {summed:>9.1f} {summed / total if total else 0:>7.1%}",
            f"{'total':<12} {total:>9.1f}",
            f"{timings['steps']:.0f} steps, median step {timings['step_p50']:.1f} ms, "
            f"{timings['batch_mean']:.1f} images in a forward pass on average",
        ]
    )


def _row(name: str, ms: float, share: float) -> str:
    return f"{name:<12} {ms:>9.1f} {share:>7.1%}  {'#' * round(BAR * share)}".rstrip()
