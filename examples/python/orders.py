"""Writes orders, each in one transaction with the message that follows from it.

    posthaste migrate --database sqlite:shop.db
    python3 orders.py shop.db 100

Needs nothing but Python. It may be killed at any time and started again: it goes on where the
table of orders ends. The last line says how many orders this run has committed.
"""

import json
import sqlite3
import sys

CUSTOMERS = 7


def place_order(db, number):
    """One order and its message: both are committed, or neither is."""
    order = {"id": number, "customer": f"c{number % CUSTOMERS}", "total": number * 100}
    db.execute("insert into orders values (:id, :customer, :total)", order)
    db.execute(
        "insert into posthaste_outbox (topic, kind, key, payload) values (?, ?, ?, ?)",
        ("orders", "order.placed", order["customer"], json.dumps(order)),
    )


def main(path, wanted):
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    db.execute(
        "create table if not exists orders "
        "(id integer primary key, customer text not null, total integer not null)"
    )
    committed = 0
    while True:
        db.execute("begin immediate")
        number = db.execute("select coalesce(max(id), 0) + 1 from orders").fetchone()[0]
        if number > wanted:
            db.execute("rollback")
            break
        place_order(db, number)
        db.execute("commit")
        committed += 1
    print(committed)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: orders.py DATABASE COUNT")
    main(sys.argv[1], int(sys.argv[2]))
