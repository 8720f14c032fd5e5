// States messages in the same transactions as the orders they follow from, on PostgreSQL.
//
//     posthaste migrate --database "$POSTHASTE_DATABASE"
//     npm install
//     POSTHASTE_DATABASE=postgres://shop@localhost/shop node orders.js
//
// Needs the package `pg` (Debian: node-pg, then with NODE_PATH=/usr/share/nodejs instead of
// `npm install`). The role needs the rights of a consumer (see docs/postgres.md) and the right
// to create the two tables of the shop. It prints the id of each message that it has published
// through the function, and what became of the rest.

'use strict';

const { Client } = require('pg');

const SHOP = `
create table if not exists orders (
    id bigint generated always as identity primary key,
    customer text not null, folder text not null, note text not null);
create table if not exists shipments (order_id bigint not null);
`;

/** Runs `work` in a transaction: what it does is committed, or, if it throws, is as if it never was. */
async function transaction(db, work) {
  await db.query('begin');
  try {
    const result = await work();
    await db.query('commit');
    return result;
  } catch (error) {
    await db.query('rollback');
    throw error;
  }
}

/** The business row. Whoever calls this is inside a transaction. */
async function insertOrder(db, customer) {
  const order = { customer, folder: 'C:\\new\\table', note: 'said "grüße"' };
  const { rows } = await db.query(
    'insert into orders (customer, folder, note) values ($1, $2, $3) returning id',
    [order.customer, order.folder, order.note],
  );
  return { order: Number(rows[0].id), ...order };
}

/** Publishes and returns the id; `call` is what stands between the brackets. */
async function publish(db, call, values) {
  const { rows } = await db.query(`select posthaste.publish(${call}) as id`, values);
  return rows[0].id;
}

/** An order, its message, and a reminder that is sent in an hour: all of it, or nothing. */
async function place(db, customer) {
  return transaction(db, async () => {
    const order = await insertOrder(db, customer);
    const headers = { folder: 'C:\\temp', said: '"grüße"' };
    // Text arrives byte for byte as JSON.stringify has printed it.
    const placed = await publish(
      db,
      `'orders', 'order.placed', $1::text, key => $2, headers => $3, content_type => $4`,
      [JSON.stringify(order), customer, headers, 'application/json'],
    );
    const due = await publish(
      db,
      `'reminders', 'payment.due', $1::text, due => now() + interval '1 hour'`,
      [JSON.stringify({ order: order.order })],
    );
    return { number: order.order, placed, due };
  });
}

/** The same without the function: a plain insert is enough. */
async function placePlainly(db, customer) {
  await transaction(db, async () => {
    const order = await insertOrder(db, customer);
    await db.query(
      'insert into posthaste.outbox (topic, kind, key, payload) values ($1, $2, $3, $4)',
      ['orders', 'order.placed', customer, JSON.stringify(order)],
    );
  });
}

/** Bytes, and JSON that PostgreSQL may print as it likes to. Only the cast tells bytes from text. */
async function pay(db, number, customer) {
  return transaction(db, async () => ({
    label: await publish(
      db,
      `'labels', 'label.printed', $1::bytea, key => $2, content_type => $3`,
      [Buffer.from([0x00, 0xff, 0x5c, 0x22, 0x0a]), customer, 'application/octet-stream'],
    ),
    paid: await publish(db, `'orders', 'order.paid', $1::jsonb, key => $2`, [
      { order: number, folder: 'C:\\new\\table' },
      customer,
    ]),
  }));
}

/** An order that fails after its message was stated: neither of them exists. */
async function refuse(db, customer) {
  try {
    await transaction(db, async () => {
      const order = await insertOrder(db, customer);
      await publish(db, `'orders', 'order.placed', $1::text, key => $2`, [
        JSON.stringify(order),
        customer,
      ]);
      throw new RangeError(`${customer} has no credit`);
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    console.log(`rolled back: ${error.message}`);
  }
}

/** Handles a message once, however often it comes; tell the broker after this has returned. */
async function ship(db, message, number) {
  const first = await transaction(db, async () => {
    const inbox = await db.query(
      `insert into posthaste.inbox (consumer, id) values ('shipping', $1) on conflict do nothing`,
      [message],
    );
    if (inbox.rowCount === 1) {
      await db.query('insert into shipments (order_id) values ($1)', [number]);
    }
    return inbox.rowCount === 1;
  });
  console.log(first ? 'shipped' : 'shipped before');
}

async function main(url) {
  const db = new Client({ connectionString: url });
  await db.connect();
  try {
    await db.query(SHOP);
    const { number, placed, due } = await place(db, 'c1');
    console.log(`order.placed ${placed}\npayment.due ${due}`);
    await placePlainly(db, 'c2');
    const { label, paid } = await pay(db, number, 'c1');
    console.log(`label.printed ${label}\norder.paid ${paid}`);
    await refuse(db, 'c3');
    await ship(db, placed, number);
    await ship(db, placed, number);
  } finally {
    await db.end();
  }
}

if (!process.env.POSTHASTE_DATABASE) {
  console.error('set POSTHASTE_DATABASE to postgres://USER@HOST/DATABASE');
  process.exitCode = 2;
} else {
  main(process.env.POSTHASTE_DATABASE).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
