"""The timing report as a table."""

from collections.abc import Mapping

NOT_PHASES = ("total", "steps", "step_p50", "batch_mean")
BAR = 24


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
