"""States messages in the same transactions as the orders they follow from, on PostgreSQL.

    posthaste migrate --database "$POSTHASTE_DATABASE"
    POSTHASTE_DATABASE=postgres://shop@localhost/shop python3 orders_postgres.py

Needs psycopg 3 (Debian: python3-psycopg). The role needs the rights of a consumer (see
docs/postgres.md) and the right to create the two tables of the shop. It prints the id of each
message that it has published through the function, and what became of the rest.
"""

import json
import os
import sys

import psycopg
from psycopg.types.json import Jsonb

SHOP = """
create table if not exists orders (
    id bigint generated always as identity primary key,
    customer text not null, folder text not null, note text not null);
create table if not exists shipments (order_id bigint not null);
"""


def insert_order(db, customer):
    """The business row. Whoever calls this is inside a transaction."""
    order = {"customer": customer, "folder": "C:\\new\\table", "note": 'said "grüße"'}
    number = db.execute(
        "insert into orders (customer, folder, note)"
        " values (%(customer)s, %(folder)s, %(note)s) returning id",
        order,
    ).fetchone()[0]
    return {"order": number, **order}


def printed(order):
    """JSON as it shall arrive, byte for byte: it is text for PostgreSQL."""
    return json.dumps(order, ensure_ascii=False, separators=(",", ":"))


def place(db, customer):
    """An order, its message, and a reminder that is sent in an hour: all of it, or nothing."""
    with db.transaction():
        order = insert_order(db, customer)
        placed = db.execute(
            "select posthaste.publish('orders', 'order.placed', %s::text, key => %s,"
            " headers => %s, content_type => 'application/json')",
            (printed(order), customer, Jsonb({"folder": "C:\\temp", "said": '"grüße"'})),
        ).fetchone()[0]
        due = db.execute(
            "select posthaste.publish('reminders', 'payment.due', %s::text,"
            " due => now() + interval '1 hour')",
            (printed({"order": order["order"]}),),
        ).fetchone()[0]
    print(f"order.placed {placed}\npayment.due {due}")
    return order["order"], placed


def place_plainly(db, customer):
    """The same without the function: a plain insert is enough."""
    with db.transaction():
        order = insert_order(db, customer)
        db.execute(
            "insert into posthaste.outbox (topic, kind, key, payload) values (%s, %s, %s, %s)",
            ("orders", "order.placed", customer, printed(order)),
        )


def pay(db, number, customer):
    """Bytes, and JSON that PostgreSQL may print as it likes to."""
    with db.transaction():
        label = db.execute(
            "select posthaste.publish('labels', 'label.printed', %s::bytea, key => %s,"
            " content_type => 'application/octet-stream')",
            (b'\x00\xff\\"\n', customer),
        ).fetchone()[0]
        paid = db.execute(
            "select posthaste.publish('orders', 'order.paid', %s::jsonb, key => %s)",
            (Jsonb({"order": number, "folder": "C:\\new\\table"}), customer),
        ).fetchone()[0]
    print(f"label.printed {label}\norder.paid {paid}")


def refuse(db, customer):
    """An order that fails after its message was stated: neither of them exists."""
    try:
        with db.transaction():
            order = insert_order(db, customer)
            db.execute(
                "select posthaste.publish('orders', 'order.placed', %s::text, key => %s)",
                (printed(order), customer),
            )
            raise ValueError(f"{customer} has no credit")
    except ValueError as error:
        print(f"rolled back: {error}")


def ship(db, message, number):
    """Handles a message once, however often it comes; tell the broker after this has returned."""
    with db.transaction():
        inbox = db.execute(
            "insert into posthaste.inbox (consumer, id) values ('shipping', %s)"
            " on conflict do nothing",
            (message,),
        )
        if inbox.rowcount == 1:
            db.execute("insert into shipments (order_id) values (%s)", (number,))
    print("shipped" if inbox.rowcount == 1 else "shipped before")


def main(url):
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(SHOP)
        number, message = place(db, "c1")
        place_plainly(db, "c2")
        pay(db, number, "c1")
        refuse(db, "c3")
        for _ in range(2):
            ship(db, message, number)


if __name__ == "__main__":
    if "POSTHASTE_DATABASE" not in os.environ:
        sys.exit("set POSTHASTE_DATABASE to postgres://USER@HOST/DATABASE")
    main(os.environ["POSTHASTE_DATABASE"])
