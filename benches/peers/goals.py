"""What is to be reached, and whether this run has: each line a promise with its figure."""

from table import ratio


def judged(rows):
    """For each goal whose row has been measured: what it is, the figure, whether it is reached."""
    return [judgement for goal in GOALS for judgement in goal(rows)]


def at_most(row, key, other, limit, says):
    return lambda rows: verdict(rows, row, key, other, says, lambda it: it <= limit, f"≤ {limit:g}")


def at_least(row, key, other, limit, says):
    return lambda rows: verdict(rows, row, key, other, says, lambda it: it >= limit, f"≥ {limit:g}")


def verdict(rows, row, key, other, says, reached, limit):
    found = ratio(rows[row], key, "cutover", other) if row in rows else None
    if found is None:
        return []
    return [{"goal": f"{row}: {says} {limit} × {other}", "is": f"{found:.2f}", "reached": reached(found)}]


def figure(row, key, says, limit, unit):
    def judge(rows):
        found = rows.get(row, {}).get("cutover", {}).get(key)
        if found is None:
            return []
        return [{"goal": f"{row}: {says} ≤ {limit:,} {unit}", "is": f"{found:,.0f}", "reached": found <= limit}]

    return judge


def flat(row, one, many):
    """The cost of a request is the same, within 5 %, however much there is to choose from."""

    def judge(rows):
        found = ratio(rows.get(row, {}), "cpu_us", f"cutover, {many}", f"cutover, {one}")
        if found is None:
            return []
        goal = f"{row}: CPU per request with {many} within 5 % of that with {one}"
        return [{"goal": goal, "is": f"{found:.2f}", "reached": abs(found - 1) <= 0.05}]

    return judge


PEERS = ("haproxy", "nginx")
GOALS = [
    at_most("small", "cpu_us", "haproxy", 1, "CPU per request"),
    at_most("small", "cpu_us", "nginx", 1, "CPU per request"),
    at_most("small", "cpu_us", "relay", 1.35, "CPU per request"),
    *(at_least(row, "rps", peer, 1, "requests/s") for row in ("10k", "1m", "conns", "close") for peer in PEERS),
    at_least("h2c", "rps", "haproxy", 1.2, "requests/s"),
    *(at_least(row, "rps", peer, 1, "requests/s") for row in ("tls", "handshakes") for peer in PEERS),
    figure("idle", "bytes", "an idle connection", 4096, "bytes"),
    figure("switch", "lost", "requests lost", 0, ""),
    figure("switch", "late", "requests late on the old color", 0, ""),
    figure("switch", "switch_p50_us", "median switch", 1000, "µs"),
    figure("switch", "switch_p99_us", "p99 switch", 5000, "µs"),
    flat("services", "1 services", "1,000 services"),
    flat("endpoints", "1 endpoints", "1,000 endpoints"),
]
