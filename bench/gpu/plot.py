"""The figures of a run as one picture: how near the networks come to the machine's rate, and the sides' images/s."""

from pathlib import Path
from typing import Any

from bench.gpu.results import Results


def draw(results: Results, file: Path) -> None:
    """A panel for the networks and one for each model's loads."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = 1 + len(results.loads)
    figure, axes = plt.subplots(1, panels, figsize=(6 * panels, 4.5), squeeze=False, layout="constrained")
    _networks(axes[0][0], results)
    for panel, model in zip(axes[0][1:], results.loads, strict=True):
        _loads(panel, results, model)
    figure.suptitle(results.machine, fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _networks(panel: Any, results: Results) -> None:
    lines: dict[str, list[tuple[int, float]]] = {}
    for cell in results.cells:
        if cell.part == "step" and cell.share is not None:
            lines.setdefault(f"{cell.model} {cell.size_px} px", []).append((cell.rows, 100 * cell.share))
    for label, points in lines.items():
        panel.plot(*zip(*points, strict=True), marker="o", label=label)
    panel.set(title="network call", xlabel="rows", ylabel=f"% of the {results.dtype} matrix rate")
    counts = sorted({cell.rows for cell in results.cells})
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.set_ylim(bottom=0)
    if lines:
        panel.legend(fontsize=8)


def _loads(panel: Any, results: Results, model: str) -> None:
    cells = results.loads[model]
    letters = sorted({letter for cell in cells for letter in cell.sides})
    for offset, letter in enumerate(letters):
        places = [number + offset / (len(letters) + 1) for number, cell in enumerate(cells) if letter in cell.sides]
        heights = [cell.sides[letter].images_per_s for cell in cells if letter in cell.sides]
        panel.bar(places, heights, 1 / (len(letters) + 1), label=results.sides[model].get(letter, letter))
    if model in results.ideals:
        panel.axhline(results.ideals[model], linestyle="--", color="grey", label="at the matrix rate")
    middle = (len(letters) - 1) / 2 / (len(letters) + 1)
    panel.set_xticks([number + middle for number in range(len(cells))], [cell.load for cell in cells], fontsize=8)
    panel.set(title=model, ylabel="images/s")
    panel.legend(fontsize=8)
