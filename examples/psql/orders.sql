-- States messages in the same transactions as the orders they follow from, with psql alone.
--
--     posthaste migrate --database "$POSTHASTE_DATABASE"
--     export POSTHASTE_DATABASE=postgres://shop@localhost/shop
--     psql "$POSTHASTE_DATABASE" --quiet --no-psqlrc --file orders.sql
--
-- The role needs the rights of a consumer (see docs/postgres.md) and the right to create the two
-- tables of the shop. It prints the id of each message that it has published through the
-- function, and what became of the rest.

\set ON_ERROR_STOP on
\encoding UTF8
set client_min_messages = warning;

create table if not exists orders (
    id bigint generated always as identity primary key,
    customer text not null, folder text not null, note text not null);
create table if not exists shipments (order_id bigint not null);

-- JSON as text arrives byte for byte; the %s is the number of the order.
\set payload '{"order":%s,"customer":"CUSTOMER","folder":"C:\\\\new\\\\table","note":"said \\"grüße\\""}'
\set folder 'C:\\new\\table'
\set note 'said "grüße"'

-- An order, its message, and a reminder that is sent in an hour: all of it, or nothing.
begin;
insert into orders (customer, folder, note) values ('c1', :'folder', :'note')
returning id as number \gset
select posthaste.publish('orders', 'order.placed',
    format(replace(:'payload', 'CUSTOMER', 'c1'), :number), key => 'c1',
    headers => '{"folder": "C:\\temp", "said": "\"grüße\""}', content_type => 'application/json')
    as placed \gset
select posthaste.publish('reminders', 'payment.due', format('{"order":%s}', :number),
    due => now() + interval '1 hour') as due \gset
commit;
\echo order.placed :placed
\echo payment.due :due

-- The same without the function: a plain insert is enough.
begin;
insert into orders (customer, folder, note) values ('c2', :'folder', :'note')
returning id as second \gset
insert into posthaste.outbox (topic, kind, key, payload)
values ('orders', 'order.placed', 'c2', format(replace(:'payload', 'CUSTOMER', 'c2'), :second));
commit;

-- Bytes, and JSON that PostgreSQL may print as it likes to.
begin;
select posthaste.publish('labels', 'label.printed', '\x00ff5c220a'::bytea, key => 'c1',
    content_type => 'application/octet-stream') as label \gset
select posthaste.publish('orders', 'order.paid',
    jsonb_build_object('order', :number, 'folder', :'folder'), key => 'c1') as paid \gset
commit;
\echo label.printed :label
\echo order.paid :paid

-- An order that is given up after its message was stated: neither of them exists.
begin;
insert into orders (customer, folder, note) values ('c3', :'folder', :'note')
returning id as third \gset
select posthaste.publish('orders', 'order.placed',
    format(replace(:'payload', 'CUSTOMER', 'c3'), :third), key => 'c3') as refused \gset
rollback;
\echo rolled back: c3 has no credit

-- Handles a message once, however often it comes: the effect follows from the row of the inbox,
-- which is there only the first time. Tell the broker after the commit.
prepare ship (uuid, bigint) as
with first as (
    insert into posthaste.inbox (consumer, id) values ('shipping', $1)
    on conflict do nothing returning 1),
shipped as (
    insert into shipments (order_id) select $2 from first returning 1)
select case when exists (select 1 from shipped) then 'shipped' else 'shipped before' end
    as outcome;

begin;
execute ship (:'placed', :number) \gset
commit;
\echo :outcome
begin;
execute ship (:'placed', :number) \gset
commit;
\echo :outcome
