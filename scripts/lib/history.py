"""The history of a test under load: every request with its answer, and what the nodes hold at the end. Decides what was lost,
doubled, answered with a wrong id or read too late. Knows nothing of clusters, and sends no request.

A history is a list of records, one JSON object a line:
  {"kind": "post", "key", "text", "route", "start", "end", "status", "id"}    status null: no answer
  {"kind": "read", "route", "start", "end", "status", "rows": [[id, text]], "to_the_end"}
  {"kind": "point", "route", "start", "end", "status", "id", "text"}          one message; text null: there is none
  {"kind": "final", "node", "rows": [[id, text]]}
  {"kind": "no primary", "start", "end"}    none, or none that answers: reads may be of a replica, and need not be fresh
Times are seconds of one clock. Texts differ from post to post, and no message is edited or deleted.

usage: history.py FILE     checks a history again
       history.py          checks the checker: it must find what is planted in a history
"""
import bisect
import copy
import json
import random
import sys

STORED = (200, 201)
# A proxy has two more words for a server that does not answer.
REFUSED = (503, 502, 504)
RULES = {
    "lost": "acknowledged but missing at the end",
    "doubled": "stored or shown twice",
    "wrong ids": "ids answered that are not the row's",
    "stale": "reads that miss what was acknowledged before they began",
    "backwards": "reads that miss what an earlier read has shown",
    "vanished": "read, but missing at the end",
    "invented": "read or stored, although never sent",
    "differing": "rows that are not the same on all nodes",
    "other answers": "answers that are neither a success nor a refusal",
}


class Verdict:
    def __init__(self):
        self.findings = {rule: [] for rule in RULES}
        self.counts = {}

    def found(self, rule, what):
        self.findings[rule].append(what)

    def is_clean(self):
        return not any(self.findings.values())

    def lines(self):
        yield ", ".join(f"{number} {name}" for name, number in self.counts.items())
        for rule, meaning in RULES.items():
            findings = self.findings[rule]
            yield f"{meaning}: {len(findings)}" + (f"   e.g. {findings[0]}" if findings else "")


def check(records):
    verdict = Verdict()
    posts = [record for record in records if record["kind"] == "post"]
    reads = [record for record in records if record["kind"] in ("read", "point")]
    finals = [record for record in records if record["kind"] == "final"]
    acknowledged = check_answers(posts, verdict)
    check_rows(posts, reads, finals, acknowledged, verdict)
    outages = [record for record in records if record["kind"] == "no primary"]
    fresh = [read for read in reads if not any(read["end"] > outage["start"] and read["start"] < outage["end"] for outage in outages)]
    check_freshness(posts, [read for read in fresh if read["status"] == 200 or is_missing(read)], verdict)
    for record in posts + reads:
        status = record["status"]
        if status is not None and status not in STORED + REFUSED and not is_missing(record):
            verdict.found("other answers", {**record, "rows": None})
    verdict.counts = {
        "messages acknowledged": len(acknowledged),
        "posts refused": sum(post["status"] in REFUSED for post in posts),
        "without an answer": sum(post["status"] is None for post in posts),
        "repeated with the same key": len(posts) - len({post["key"] for post in posts}),
        "reads answered": sum(read["status"] == 200 for read in reads),
        "of them without a primary": sum(read["status"] == 200 for read in reads) - sum(read["status"] == 200 for read in fresh),
    }
    return verdict


def is_missing(record):
    return record["kind"] == "point" and record["status"] == 404


def check_answers(posts, verdict):
    """The id of each acknowledged text. One key has one id, and one id one key."""
    ids, keys = {}, {}
    for post in posts:
        if post["status"] in STORED:
            if ids.setdefault(post["text"], post["id"]) != post["id"]:
                verdict.found("wrong ids", f"{post['text']} was answered as {ids[post['text']]} and as {post['id']}")
            if keys.setdefault(post["id"], post["key"]) != post["key"]:
                verdict.found("wrong ids", f"the id {post['id']} was answered for {keys[post['id']]} and for {post['key']}")
    return ids


def check_rows(posts, reads, finals, acknowledged, verdict):
    sent = {post["text"] for post in posts}
    stored = {}
    for final in finals:
        rows = {}
        for number, text in final["rows"]:
            if text in rows:
                verdict.found("doubled", f"{text} is stored twice on {final['node']}: {rows[text]} and {number}")
            rows[text] = number
            if text not in sent:
                verdict.found("invented", f"{text} on {final['node']}")
        if stored and rows != stored:
            for row in sorted(rows.items() ^ stored.items()):
                verdict.found("differing", f"{row} of {final['node']}")
        stored = stored or rows
    for text, number in acknowledged.items():
        if text not in stored:
            verdict.found("lost", f"{text}, answered as {number}")
        elif stored[text] != number:
            verdict.found("wrong ids", f"{text} was answered as {number}, and is {stored[text]}")
    shown = set()
    for read in reads:
        if read["status"] != 200:
            continue
        rows = rows_of(read)
        if len({text for _, text in rows}) < len(rows) or len({number for number, _ in rows}) < len(rows):
            verdict.found("doubled", f"a read at {read['start']:.3f} shows a message twice")
        shown.update(map(tuple, rows))
    for number, text in shown:
        if text not in sent:
            verdict.found("invented", f"{text}, read as {number}")
        elif text not in stored:
            verdict.found("vanished", f"{text}, read as {number}")
        elif stored[text] != number:
            verdict.found("wrong ids", f"{text} was read as {number}, and is {stored[text]}")


def rows_of(read):
    return [[read["id"], read["text"]]] if read["kind"] == "point" else read["rows"]


class Known:
    """Ids of which readers must know from some moment on."""

    def __init__(self, events):
        self.events = sorted(events)
        self.next = 0
        self.ids = []
        self.seen = set()

    def until(self, moment):
        while self.next < len(self.events) and self.events[self.next][0] < moment:
            number = self.events[self.next][1]
            if number not in self.seen:
                self.seen.add(number)
                bisect.insort(self.ids, number)
            self.next += 1


def check_freshness(posts, reads, verdict):
    """A set check: each id known before a read began is in it, as far down as the read goes."""
    acknowledged = [(post["end"], post["id"]) for post in posts if post["status"] in STORED]
    first_shown = {}
    for read in sorted((read for read in reads if read["status"] == 200), key=lambda read: read["end"]):
        for number, _ in rows_of(read):
            first_shown.setdefault(number, read["end"])
    sources = {
        "stale": Known(acknowledged),
        "backwards": Known([(moment, number) for number, moment in first_shown.items()]),
    }
    for read in sorted(reads, key=lambda read: read["start"]):
        for rule, known in sources.items():
            known.until(read["start"])
            if is_missing(read):
                missing = [read["id"]] if read["id"] in known.seen else []
            elif read["kind"] == "point":
                missing = []
            else:
                numbers = {number for number, _ in read["rows"]}
                lowest = 0 if read["to_the_end"] else min(numbers, default=0)
                at = bisect.bisect_left(known.ids, lowest)
                missing = [number for number in known.ids[at:] if number not in numbers]
            if missing:
                verdict.found(rule, f"a read at {read['start']:.3f} on {read['route']} misses {missing[:5]}")


def interrupted(moments, begin, end, unbroken):
    """How long nothing succeeded from begin to end: the sum of all pauses longer than `unbroken`. A few successes between two
    pauses are no service."""
    edges = [begin] + sorted(moment for moment in moments if begin < moment < end) + [end]
    pauses = [after - before for before, after in zip(edges, edges[1:])]
    return sum(pause for pause in pauses if pause > unbroken)


def read_file(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def sound_history(seed):
    """What a correct board answers: writers, repeats, refusals, lost answers and readers, all overlapping."""
    chance = random.Random(seed)
    records, committed, clock = [], [], 0.0
    for number in range(1, 301):
        clock += 0.01
        text, key = f"text {number}", f"key-{number}"
        start, commit = clock, clock + 0.002
        answered = chance.random() < 0.9
        post = {"kind": "post", "key": key, "text": text, "route": "a", "start": start}
        committed.append((commit, number * 3, text))
        records.append({**post, "end": clock + 0.005, "status": 201 if answered else chance.choice([503, None]), "id": number * 3 if answered else None})
        if not answered or chance.random() < 0.1:
            records.append({**post, "start": clock + 0.006, "end": clock + 0.008, "status": 201, "id": number * 3})
        moment = clock + chance.random() * 0.01
        rows = [[number, text] for at, number, text in committed if at <= moment]
        read = {"kind": "read", "route": "b", "start": moment, "end": moment + 0.001, "status": 200}
        records.append({**read, "rows": rows[-20:], "to_the_end": len(rows) <= 20})
        at, number, text = chance.choice(committed)
        if at <= moment:
            records.append({"kind": "point", "route": "b", "start": moment, "end": moment + 0.001, "status": 200, "id": number, "text": text})
    rows = [[number, text] for _, number, text in committed]
    return records + [{"kind": "final", "node": node, "rows": copy.deepcopy(rows)} for node in ("node1", "node2")]


def plant(rule, records):
    """Makes the history break one rule."""
    finals = [record for record in records if record["kind"] == "final"]
    lists = [record for record in records if record["kind"] == "read"]
    acknowledged = [record for record in records if record["kind"] == "post" and record["status"] == 201]
    post = acknowledged[100]
    late = next(read for read in lists if read["start"] > post["end"])
    row = [post["id"], post["text"]]
    if rule == "lost":
        for record in finals + lists:
            record["rows"] = [other for other in record["rows"] if other != row]
        records[:] = [record for record in records if record.get("text") != post["text"] or record["kind"] == "post"]
    elif rule == "doubled":
        for final in finals:
            final["rows"].append([99_999, post["text"]])
    elif rule == "wrong ids":
        post["id"] += 1
    elif rule == "stale":
        late["rows"].remove(row)
    elif rule == "backwards":
        # An answer that was lost: only another reader has seen the message.
        records[:] = [record for record in records if record is post or record["kind"] != "post" or record["text"] != post["text"]]
        post.update(status=None, id=None)
        later = [read for read in lists if row in read["rows"]][1]
        later["rows"].remove(row)
    elif rule == "vanished":
        records[:] = [record for record in records if record.get("text") != post["text"] or record["kind"] != "post"]
        records.append({**post, "status": None, "id": None})
        for final in finals:
            final["rows"].remove(row)
    elif rule == "invented":
        late["rows"].append([99_999, "of another board"])
    elif rule == "differing":
        finals[1]["rows"].append([99_999, finals[1]["rows"].pop()[1]])
    elif rule == "other answers":
        records.append({**post, "status": 500, "id": None})


def self_check():
    """What is planted must be found, and nothing in what is sound."""
    for seed in range(20):
        verdict = check(sound_history(seed))
        assert verdict.is_clean(), "\n".join(verdict.lines())
        for rule in RULES:
            records = sound_history(seed)
            plant(rule, records)
            assert check(records).findings[rule], f"planted and not found: {rule} (seed {seed})"
    stale_point = sound_history(1)
    point = next(record for record in stale_point if record["kind"] == "point")
    point.update(status=404, text=None)
    assert check(stale_point).findings["stale"], "planted and not found: a message that is not found"
    outage = {"kind": "no primary", "start": point["start"] - 0.1, "end": point["start"] + 0.1}
    assert check([*stale_point, outage]).is_clean(), "a read of a replica without a primary"
    assert interrupted([1, 2, 5, 6, 9], 0, 10, 2) == 6
    assert interrupted([], 1, 3, 1) == 2 and interrupted([1.2, 1.4], 1, 1.5, 1) == 0


def main():
    if len(sys.argv) == 1:
        self_check()
        print("the checker finds what is planted")
        return
    verdict = check(read_file(sys.argv[1]))
    print("\n".join(verdict.lines()))
    sys.exit(not verdict.is_clean())


if __name__ == "__main__":
    main()
