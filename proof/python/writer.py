"""Places orders on PostgreSQL from another language, with a driver of its own, under any fault.

    writer.py --database URL --name NAME --seed NUMBER [--messages NUMBER] ...

Each transaction notes the business in the tables of the shop and states one to three messages, in
every form there is: text, jsonb and bytea through the function, a plain insert, COPY. One in five is
rolled back, some use savepoints, some stay open for a while. The tables of the shop are the ground
truth: they have a row for each message, with its id and a digest of all that has to arrive
unchanged, committed together with it. So nobody has to know how a commit ended whose answer was
lost: the tables say it. They are those of the proofs, see proof/src/ledger.rs, and lie in the
search path of the role.

It ends when as many messages as asked for were acknowledged, or at SIGTERM. It survives a database
that is away, hangs or was killed. It prints one JSON object a line, each with one write:

    {"pid": 1, "at": 5, "saw": "begun"}                        the first line
    {"pid": 1, "at": 6, "saw": "acknowledged", "ids": [...]}   the commit was answered with success
    {"pid": 1, "at": 7, "saw": "rolled_back", "ids": [...]}    these must be nowhere
    {"pid": 1, "at": 8, "saw": "unknown", "ids": [...]}        the answer to the commit was lost
    {"pid": 1, "at": 9, "saw": "disturbed", "by": "..."}       a fault, and which
    {"pid": 1, "at": 9, "saw": "ended", "acknowledged": 9, "rolled_back": 2, "unknown": 1}

`at` counts nanoseconds on the clock that all processes of a machine share and that never goes back.
With --evidence the ends of transactions are appended to a file as well, as lines of a history.
What is left to chance follows from the seed and the name; ids do not.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import uuid

import psycopg
from psycopg.types.json import Jsonb

SHOP = """
create table if not exists shop_transaction (id text primary key, messages bigint not null);
create table if not exists shop_order (
    number bigint generated always as identity primary key, message text not null,
    part_of text not null, key text, digest text not null, amount bigint not null,
    stated bigint not null);
"""

FORMS = ("text", "jsonb", "bytea", "insert", "copy")
ALPHABET = "grüße, 世界 \\ \"\t\n\u0001 \U0001f4ee "
# How long it waits before it connects again.
AGAIN_SECONDS = 0.05
# How long what tidies up after a stall may take.
TIDY_SECONDS = 1


class Stalled(Exception):
    """The database has not answered for too long."""


def digest(topic, kind, key, content_type, payload, headers):
    """The digest that the proofs take of a message as it arrives: FNV-1a over its fields."""

    def field(data):
        return len(data).to_bytes(8, "little") + data

    def optional(text):
        return b"\0" if text is None else b"\1" + field(text.encode())

    whole = field(topic.encode()) + field(kind.encode()) + optional(key)
    whole += optional(content_type) + field(payload)
    for name in sorted(headers):
        whole += field(name.encode()) + field(headers[name].encode())
    value = 0xCBF29CE484222325
    for byte in whole:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


class Order:
    """An order that is about to be placed, and how its message shall be stated."""

    TOPIC, KIND, MEDIA = "orders", "order.placed", "application/json"

    def __init__(self, chance, customers):
        self.customer = None if chance.random() < 0.1 else f"customer {chance.randrange(customers)}"
        self.amount = chance.randrange(1, 501)
        self.form = chance.choice(FORMS)
        length = 20_000 if chance.random() < 0.02 else chance.randrange(80)
        note = (ALPHABET * (length // len(ALPHABET) + 1))[:length]
        order = {"customer": self.customer, "amount": self.amount, "note": note}
        self.text = json.dumps(order, ensure_ascii=chance.random() < 0.5)
        self.headers = {"amount": str(self.amount), "said": 'hé"llo\\ wörld'}
        # What is due later has no place in the order of its customer.
        late = self.customer is None and chance.random() < 0.5
        self.due_ms = chance.randrange(1, 2_000) if late else None

    def state(self, db):
        """States the message. Returns its id and its payload as it has to arrive."""
        return getattr(self, "state_as_" + self.form)(db)

    def publish(self, db, shape, value):
        row = db.execute(
            f"select posthaste.publish(%s, %s, body, key => %s, headers => %s, content_type => %s,"
            f" due => now() + %s * interval '1 ms'), body::text from (select %s::{shape} as body) b",
            (self.TOPIC, self.KIND, self.customer, Jsonb(self.headers), self.MEDIA, self.due_ms,
             value),
        ).fetchone()
        return str(row[0]), row[1]

    def state_as_text(self, db):
        return self.publish(db, "text", self.text)[0], self.text.encode()

    def state_as_jsonb(self, db):
        identity, as_printed = self.publish(db, "jsonb", self.text)
        return identity, as_printed.encode()

    def state_as_bytea(self, db):
        payload = self.text.encode()
        return self.publish(db, "bytea", payload)[0], payload

    def row(self, identity):
        return (identity, self.TOPIC, self.KIND, self.customer, self.MEDIA, Jsonb(self.headers),
                self.text)

    def state_as_insert(self, db):
        identity = str(uuid.uuid4())
        db.execute(
            "insert into posthaste.outbox (id, topic, kind, key, content_type, headers, payload,"
            " due_at) values (%s, %s, %s, %s, %s, %s, %s, now() + %s * interval '1 ms')",
            (*self.row(identity), self.due_ms),
        )
        return identity, self.text.encode()

    def state_as_copy(self, db):
        identity = str(uuid.uuid4())
        with db.cursor() as cursor, cursor.copy(
            "copy posthaste.outbox (id, topic, kind, key, content_type, headers, payload)"
            " from stdin"
        ) as copy:
            copy.write_row(self.row(identity))
        return identity, self.text.encode()


class Writer:
    """See the module."""

    def __init__(self, options):
        self.options = options
        self.chance = random.Random(f"{options.seed}/{options.name}")
        self.stop = threading.Event()
        self.evidence = None
        if options.evidence is not None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self.evidence = os.open(options.evidence, flags, 0o666)
        self.db = None
        self.number = 0
        self.counts = {"acknowledged": 0, "rolled_back": 0, "unknown": 0}
        # Names of transactions are unique over all starts of this writer.
        self.run_name = f"{options.name}/{uuid.uuid4()}"

    def note(self, saw, **more):
        line = {"pid": os.getpid(), "at": time.monotonic_ns(), "saw": saw, **more}
        line = (json.dumps(line) + "\n").encode()
        os.write(sys.stdout.fileno(), line)

    def note_commit(self, saw, ids):
        if self.evidence is None:
            return
        answer = "committed" if saw == "acknowledged" else saw
        line = {"at": time.monotonic_ns(), "node": self.run_name, "saw": "commit"}
        line.update(ids=ids, answer=answer)
        os.write(self.evidence, (json.dumps(line) + "\n").encode())

    def note_ids(self, saw, ids):
        if ids:
            self.counts[saw] += len(ids)
            self.note(saw, ids=ids)
            self.note_commit(saw, ids)

    def end_by_signal(self, *_):
        self.stop.set()
        # What hangs by then is given up.
        signal.setitimer(signal.ITIMER_REAL, self.options.grace, TIDY_SECONDS)

    def give_up(self, *_):
        raise Stalled("no answer in time")

    def connect(self):
        if self.db is None or self.db.closed or self.db.broken:
            self.db = psycopg.connect(
                self.options.database, connect_timeout=5, application_name=self.options.name
            )
        return self.db

    def disconnect(self):
        if self.db is not None:
            self.db.close()
        self.db = None

    def run(self):
        signal.signal(signal.SIGTERM, self.end_by_signal)
        signal.signal(signal.SIGALRM, self.give_up)
        self.note("begun")
        while not self.stop.is_set() and self.counts["acknowledged"] < self.options.messages:
            self.number += 1
            try:
                # One order of calls to chance for each transaction, whatever happens to it.
                chance = random.Random(self.chance.getrandbits(64))
                self.watched(lambda: self.transact(chance))
                self.stop.wait(self.options.pause_ms / 1000)
            except (psycopg.Error, Stalled, OSError) as fault:
                self.note("disturbed", by=f"{type(fault).__name__}: {fault}".strip()[:200])
                self.disconnect()
                self.stop.wait(AGAIN_SECONDS)
        self.disconnect()
        self.note("ended", **self.counts)

    def watched(self, work):
        """Runs work for as long as the database answers; a transaction may be held open besides."""
        if not self.stop.is_set():
            longest = self.options.patience + self.options.hold_ms / 1000
            # Again and again: what tidies up may hang as well.
            signal.setitimer(signal.ITIMER_REAL, longest, TIDY_SECONDS)
        try:
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def transact(self, chance):
        """One transaction. Nothing of it is there until it says `unknown` or `acknowledged`."""
        options = self.options
        orders = [Order(chance, options.customers) for _ in range(chance.randrange(1, 4))]
        name = f"{self.run_name}/{self.number}"
        stated, undone = [], []
        db = self.connect()
        try:
            for order in orders:
                self.place(db, chance, name, order, stated, undone)
            db.execute("insert into shop_transaction values (%s, %s)", (name, len(stated)))
            if chance.random() < options.hold_share:
                self.stop.wait(chance.uniform(0, options.hold_ms / 1000))
            if chance.random() < options.rollback_share:
                db.rollback()
                self.note_ids("rolled_back", stated + undone)
                return
        except BaseException:
            # COMMIT was not sent, and will not be: the connection goes.
            self.note_ids("rolled_back", stated + undone)
            raise
        self.note_ids("rolled_back", undone)
        try:
            db.commit()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException:
            self.note_ids("unknown", stated)
            raise
        self.note_ids("acknowledged", stated)

    def place(self, db, chance, name, order, stated, undone):
        """An order and its message; under a savepoint sometimes, which is taken back sometimes."""
        fate = chance.random()
        if fate >= 0.3:
            stated.append(self.insert(db, name, order))
            return
        db.execute("savepoint before_order")
        identity = self.insert(db, name, order)
        if fate < 0.15:
            undone.append(identity)
            db.execute("rollback to savepoint before_order")
            # The same order once more, as a program would that has mended what was wrong.
            identity = self.insert(db, name, order)
        stated.append(identity)
        db.execute("release savepoint before_order")

    def insert(self, db, name, order):
        stated = time.monotonic_ns()
        identity, payload = order.state(db)
        whole = digest(
            order.TOPIC, order.KIND, order.customer, order.MEDIA, payload, order.headers
        )
        db.execute(
            "insert into shop_order (message, part_of, key, digest, amount, stated)"
            " values (%s, %s, %s, %s, %s, %s)",
            (identity, name, order.customer, whole, order.amount, stated),
        )
        return identity


def make_tables(url):
    """Writers that start together make the tables once."""
    with psycopg.connect(url, connect_timeout=30) as db:
        db.execute("select pg_advisory_xact_lock(7253)")
        db.execute(SHOP)


def main():
    usage = argparse.ArgumentParser(description="Places orders on PostgreSQL under any fault.")
    add = usage.add_argument
    add("--database", required=True, help="postgres://USER@HOST:PORT/DATABASE")
    add("--name", default="python", help="who it is, in names of transactions")
    add("--seed", default="0", help="decides what is left to chance")
    add("--messages", type=int, default=sys.maxsize, help="end after as many acknowledged ones")
    add("--customers", type=int, default=7, help="how many keys there are")
    add("--pause-ms", type=float, default=2, help="between transactions")
    add("--hold-ms", type=float, default=2_000, help="longest time that a transaction stays open")
    add("--hold-share", type=float, default=0.02, help="of transactions that stay open")
    add("--rollback-share", type=float, default=0.2, help="of transactions that are rolled back")
    add("--patience", type=float, default=20, help="seconds to wait for an answer")
    add("--grace", type=float, default=5, help="seconds from SIGTERM until it gives up")
    add("--evidence", help="a file to append to")
    add("--make-tables", action="store_true", help="make the tables of the shop and end")
    options = usage.parse_args()
    if options.make_tables:
        make_tables(options.database)
    else:
        Writer(options).run()


if __name__ == "__main__":
    main()
