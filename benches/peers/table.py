"""The result: medians over the rounds, ratios between proxies, as a table and as JSON."""

from statistics import median

FIGURES = ["rps", "cpu_us", "p50_us", "p99_us", "proxy_share", "proxy_idle", "load_idle"]


def summed_up(rounds):
    """The median of every figure; failures are added up."""
    figures = {key: median(one[key] for one in rounds) for key in FIGURES}
    return {**figures, "failed": sum(one["failed"] for one in rounds), "rounds": rounds}


def ratios(results, key):
    """Cutover's figure over that of each other proxy."""
    ours = results["cutover"][key]
    return {name: ours / other[key] for name, other in results.items() if name != "cutover" and other[key]}


def print_row(row, results):
    print(f"\n{row.name}: {row.says}")
    print(f"  {'':10} {'requests/s':>11} {'CPU µs/req':>11} {'p50 ms':>8} {'p99 ms':>8} {'core':>7}  failed")
    for name, it in results.items():
        print(
            f"  {name:10} {it['rps']:11,.0f} {it['cpu_us']:11.2f} {it['p50_us'] / 1e3:8.2f} {it['p99_us'] / 1e3:8.2f}"
            f" {it['proxy_share']:7.0%}  {it['failed']}{bottleneck(it)}"
        )
    for key, says in (("cpu_us", "CPU per request"), ("rps", "requests/s")):
        shown = "   ".join(f"{ratio:.2f} × {name}" for name, ratio in ratios(results, key).items())
        print(f"  cutover's {says}: {shown}")


def bottleneck(it):
    """What was busy all the time; where it is not the proxy, requests/s say little about it."""
    busy = [what for what, key in (("proxy's core", "proxy_idle"), ("load's core", "load_idle")) if it[key] < 0.03]
    return "  saturated: " + " and ".join(busy) if busy else ""
