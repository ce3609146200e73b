"""The result: medians over the rounds, ratios between proxies, as a table and as JSON."""

from statistics import median

KIB, MS = 1024, 1000
# For each set of figures: key, heading, how it is shown.
COLUMNS = {
    "load": [
        ("rps", "requests/s", lambda it: f"{it:,.0f}"),
        ("cpu_us", "CPU µs/req", lambda it: f"{it:.2f}"),
        ("user_us", "of it user", lambda it: f"{it:.2f}"),
        ("p50_us", "p50 ms", lambda it: f"{it / MS:.2f}"),
        ("p99_us", "p99 ms", lambda it: f"{it / MS:.2f}"),
        ("proxy_share", "its cores", lambda it: f"{it:.0%}"),
        ("failed", "failed", lambda it: f"{it:.0f}"),
    ],
    "memory": [
        ("bytes", "KiB each", lambda it: f"{it / KIB:.2f}"),
        ("before_mib", "before MiB", lambda it: f"{it:.1f}"),
        ("after_mib", "after MiB", lambda it: f"{it:.1f}"),
    ],
    "switch": [
        ("switches", "switches", lambda it: f"{it:.0f}"),
        ("lost", "lost", lambda it: f"{it:.0f}"),
        ("late", "late", lambda it: f"{it:.0f}"),
        ("switch_p50_us", "switch µs", lambda it: f"{it:.0f}"),
        ("switch_p99_us", "its p99 µs", lambda it: f"{it:.0f}"),
        ("near_p99_us", "p99 ms near", lambda it: f"{it / MS:.1f}"),
        ("away_p99_us", "p99 ms away", lambda it: f"{it / MS:.1f}"),
        ("rps", "requests/s", lambda it: f"{it:,.0f}"),
    ],
}
RATIOS = {"load": [("cpu_us", "CPU per request"), ("rps", "requests/s")], "memory": [("bytes", "memory")], "switch": []}
# Of these every one counts, not the one in the middle.
ADDED_UP = {"failed", "lost", "late", "switches"}


def summed_up(rounds):
    """The median of every figure over the rounds; what must not happen at all is added up."""
    figures = {key: (sum if key in ADDED_UP else median)(one[key] for one in rounds) for key in rounds[0]}
    return {**figures, "rounds": rounds}


def ratio(results, key, ours, theirs):
    """None where one of them has not been measured."""
    if ours not in results or theirs not in results or not results[theirs][key]:
        return None
    return results[ours][key] / results[theirs][key]


def print_row(row, results):
    columns = COLUMNS[row.columns]
    print(f"\n{row.name}: {row.says}")
    width = max(map(len, results))
    print(f"  {'':{width}}" + "".join(f"{heading:>12}" for _, heading, _ in columns))
    for name, it in results.items():
        figures = "".join(f"{show(it[key]):>12}" for key, _, show in columns)
        print(f"  {name:{width}}{figures}{remark(it)}")
    for key, says in RATIOS[row.columns]:
        for line in ratio_lines(row, results, key):
            print(f"  {says}: {line}")


def ratio_lines(row, results, key):
    """Cutover over each of the others, variant by variant; then each in the last variant over itself in the first."""
    first, *_, last = (*row.variants, *row.variants)
    names = list(dict.fromkeys(name.split(", ")[0] for name in results))
    for variant in row.variants:
        pairs = [(label(other, variant), ratio(results, key, label("cutover", variant), label(other, variant)))
                 for other in names[1:]]
        if pairs:
            yield f"{label('cutover', variant)} is " + "   ".join(f"{it:.2f} × {other}" for other, it in pairs if it)
    if first != last:
        pairs = [(name, ratio(results, key, label(name, last), label(name, first))) for name in names]
        yield f"{last} is, over {first}, " + "   ".join(f"{it:.2f} for {name}" for name, it in pairs if it)


def label(name, variant):
    return f"{name}, {variant}" if variant else name


def remark(it):
    """What was busy all the time: where it is not the proxy, requests/s say little about it."""
    if "proxy_idle" not in it:
        return ""
    if it["proxy_idle"] + it["proxy_share"] < 0.9 and it["apart"]:
        return "  ! others had its core: mind the CPU figure only"
    busy = [what for what, key in (("proxy's core", "proxy_idle"), ("load's core", "load_idle")) if it[key] < 0.03]
    return "  saturated: " + " and ".join(busy) if busy and it["apart"] else ""


def markdown(rows, says):
    """The ratios as the README shows them: Cutover over each of the others; of requests/s more is better."""
    shown = lambda results, key, peer: f"{it:.2f}" if (it := ratio(results, key, "cutover", peer)) else ""
    lines = ["| | CPU ÷ HAProxy | CPU ÷ nginx | CPU ÷ relay | requests/s ÷ HAProxy | requests/s ÷ nginx |",
             "|---|---|---|---|---|---|"]
    for name, results in rows.items():
        if "cpu_us" in results.get("cutover", {}):
            cells = [shown(results, "cpu_us", peer) for peer in ("haproxy", "nginx", "relay")]
            cells += [shown(results, "rps", peer) for peer in ("haproxy", "nginx")]
            lines.append(f"| {says[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def print_goals(judgements):
    if judgements:
        print("\ngoals")
    for it in judgements:
        print(f"  {'reached' if it['reached'] else 'MISSED ':8} {it['goal']}: {it['is']}")
