//! What `doctor` finds in the schema: what would lose, delay or disorder messages.
//!
//! Each check is one statement that returns what is wrong, in words, one row for each; none means
//! that all is well. What a role may not see is said and hides nothing else.

use posthaste_core::finding::{Finding, Severity};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::doctor::{ask, good, problem};
use crate::error;
use crate::store::Store;

/// One thing to look at.
struct Check {
    subject: &'static str,
    /// Returns sentences.
    statement: &'static str,
    severity: Severity,
    advice: &'static str,
    /// What there is to say if nothing is wrong.
    well: &'static str,
}

const CHECKS: [Check; 22] = [
    Check {
        subject: "database.identity",
        statement: "select format('this is database %s, and the checkpoints belong to %s of %s', \
               d.datname, c.database_name, case when c.system_identifier = s.system_identifier \
               then 'this cluster' else 'another cluster' end) \
             from posthaste.cluster c, pg_control_system() s, pg_database d \
             where d.datname = current_database() and (c.system_identifier, c.database_oid) \
               <> (s.system_identifier, d.oid::bigint)",
        severity: Severity::Problem,
        advice: "run `posthaste adopt` once nobody relays from the original any more",
        well: "the checkpoints belong to this database",
    },
    Check {
        subject: "database.rights",
        statement: "select format('role %s lacks %s on %s', current_user, m.privilege, m.name) \
             from (values ('outbox', 'SELECT'), ('checkpoint', 'SELECT'), ('held', 'SELECT'), \
               ('lease', 'SELECT'), ('lanes', 'SELECT'), ('batch', 'SELECT'), \
               ('dead_letter', 'SELECT'), ('cluster', 'SELECT'), ('checkpoint', 'INSERT'), \
               ('checkpoint', 'UPDATE'), ('held', 'INSERT'), ('held', 'UPDATE'), \
               ('held', 'DELETE'), ('lease', 'INSERT'), ('lease', 'UPDATE'), ('batch', 'INSERT'), \
               ('batch', 'DELETE'), ('dead_letter', 'INSERT'), ('outbox', 'DELETE')) \
               as m (name, privilege) \
             where not has_table_privilege('posthaste.' || m.name, m.privilege)",
        severity: Severity::Notice,
        advice: "a relay needs it; a writer, a consumer or an operator may not",
        well: "this role may do what a relay does",
    },
    Check {
        subject: "database.sequence",
        statement: "select format('the sequence of the outbox hands out %s numbers at a time, so \
               messages of one key may be sent out of order', s.seqcache) \
             from pg_sequence s where s.seqrelid = \
               pg_get_serial_sequence('posthaste.outbox', 'seq')::regclass and s.seqcache <> 1",
        severity: Severity::Warning,
        advice: "run: alter table posthaste.outbox alter column seq set cache 1",
        well: "the sequence of the outbox hands out one number at a time",
    },
    Check {
        subject: "database.sequence",
        statement: "select format('the sequence of the outbox is at %s, behind %s: messages are \
               sent out of order, and numbers that are there already refuse writers', \
               coalesce(l.last, 0), m.highest) \
             from (select pg_sequence_last_value(pg_get_serial_sequence('posthaste.outbox', \
               'seq')::regclass) as last) l, \
               (select greatest((select max(through) from posthaste.checkpoint), \
                 (select max(seq) from posthaste.outbox)) as highest) m \
             where m.highest > coalesce(l.last, 0)",
        severity: Severity::Warning,
        advice: "set the sequence above it with setval",
        well: "the sequence of the outbox is ahead of all rows",
    },
    Check {
        subject: "database.outbox",
        statement: "select format('trigger %s is on %s and may change or swallow messages', \
               t.tgname, t.tgrelid::regclass) \
             from pg_trigger t where not t.tgisinternal and (t.tgrelid = \
               'posthaste.outbox'::regclass or t.tgrelid in (select inhrelid from pg_inherits \
               where inhparent = 'posthaste.outbox'::regclass)) and t.tgenabled <> 'D'",
        severity: Severity::Warning,
        advice: "drop it, and let a consumer do what it does",
        well: "no trigger is on the outbox",
    },
    Check {
        subject: "database.outbox",
        statement: "select format('%s is unlogged: a crash of the server empties it', \
               c.oid::regclass) from pg_class c where c.relpersistence <> 'p' \
             and c.relkind in ('r', 'p') and c.relnamespace = (select relnamespace \
               from pg_class where oid = 'posthaste.outbox'::regclass)",
        severity: Severity::Problem,
        advice: "run: alter table … set logged",
        well: "every table survives a crash of the server",
    },
    Check {
        subject: "database.outbox",
        statement: "select format('row security is on for %s: the relay fails, or would not see \
               some messages', c.oid::regclass) from pg_class c where c.relrowsecurity \
             and c.relnamespace = (select relnamespace from pg_class \
               where oid = 'posthaste.outbox'::regclass)",
        severity: Severity::Warning,
        advice: "run: alter table … disable row level security",
        well: "no row security hides messages",
    },
    Check {
        subject: "database.functions",
        statement: "select format('%s was changed and is not stable any more: a reading could \
               skip messages', p.oid::regprocedure) from pg_proc p where p.provolatile <> 's' \
             and p.proname in ('read_outbox', 'read_held') and p.pronamespace = (select \
               relnamespace from pg_class where oid = 'posthaste.outbox'::regclass)",
        severity: Severity::Problem,
        advice: "run: alter function … stable",
        well: "each reading sees one snapshot",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('messages go to the last partition of the outbox, %s, because \
               nobody makes others', c.oid::regclass) \
             from pg_inherits i join pg_class c on c.oid = i.inhrelid \
             where i.inhparent = 'posthaste.outbox'::regclass \
               and pg_get_expr(c.relpartbound, c.oid) like '%(MAXVALUE)' \
               and c.oid in (select tableoid from (select tableoid from posthaste.outbox \
                 order by seq desc limit 1) l)",
        severity: Severity::Warning,
        advice: "let the role of the relay be a member of the role that owns the tables; until \
                 then old messages are deleted one by one",
        well: "there are partitions ahead",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('role %s does not own the outbox, so it neither makes \
               partitions nor takes them away; old messages are deleted one by one', current_user) \
             from pg_class c where c.oid = 'posthaste.outbox'::regclass \
               and not pg_has_role(c.relowner, 'USAGE')",
        severity: Severity::Notice,
        advice: "fine for a writer or a consumer; grant the owner's role to that of the relay",
        well: "this role may make partitions and take them away",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('the last partition %s still has a bound, at which writers are \
               refused one day', c.conrelid::regclass) \
             from pg_constraint c where c.conname = 'posthaste_bound' and c.conrelid in \
               (select inhrelid from pg_inherits where inhparent = 'posthaste.outbox'::regclass)",
        severity: Severity::Warning,
        advice: "start a relay, which takes it away",
        well: "the last partition has no end",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('partition %s of the outbox is half detached: its messages are \
               not seen by anybody', i.inhrelid::regclass) from pg_inherits i \
             where i.inhparent = 'posthaste.outbox'::regclass and i.inhdetachpending",
        severity: Severity::Problem,
        advice: "start a relay that is a member of the owner's role, which attaches it again; or \
                 run alter table … detach partition … finalize and attach it",
        well: "every partition is attached",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('partition %s belongs to %s and the outbox to %s, who cannot \
               dump or migrate it', c.oid::regclass, pg_get_userbyid(c.relowner), \
               pg_get_userbyid(o.relowner)) \
             from pg_inherits i join pg_class c on c.oid = i.inhrelid \
               join pg_class o on o.oid = i.inhparent \
             where i.inhparent = 'posthaste.outbox'::regclass and c.relowner <> o.relowner",
        severity: Severity::Warning,
        advice: "run: alter table … owner to the owner of the outbox",
        well: "every partition belongs to the owner of the outbox",
    },
    Check {
        subject: "database.partitions",
        statement: "select format('the outbox has %s partitions, and every look takes locks on \
               all of them', count(*)) from pg_inherits \
             where inhparent = 'posthaste.outbox'::regclass having count(*) > 100",
        severity: Severity::Warning,
        advice: "let a relay run as a member of the owner's role, keep what was sent for a shorter \
                 time, or choose larger partitions",
        well: "there are not too many partitions",
    },
    Check {
        subject: "database.outbox",
        statement: "select format('rule %s is on %s and may change or swallow messages', \
               r.rulename, r.ev_class::regclass) from pg_rewrite r \
             where r.ev_enabled <> 'D' and (r.ev_class = 'posthaste.outbox'::regclass \
               or r.ev_class in (select inhrelid from pg_inherits \
                 where inhparent = 'posthaste.outbox'::regclass))",
        severity: Severity::Warning,
        advice: "drop it, and let a consumer do what it does",
        well: "no rule is on the outbox",
    },
    Check {
        subject: "database.identity",
        statement: "select 'nothing says which database the checkpoints belong to, so no relay \
               reads' where not exists (select 1 from posthaste.cluster)",
        severity: Severity::Problem,
        advice: "run: insert into posthaste.cluster (system_identifier, database_oid, \
                 database_name) values (0, 0, 'unknown'); then `posthaste adopt`",
        well: "the database the checkpoints belong to is known",
    },
    Check {
        subject: "database.isolation",
        statement: "select format('transactions are %s unless they say otherwise', \
               current_setting('default_transaction_isolation')) \
             where current_setting('default_transaction_isolation') <> 'read committed'",
        severity: Severity::Warning,
        advice: "set default_transaction_isolation = 'read committed' for the role of the relay; \
                 what Posthaste does is made for it",
        well: "transactions are read committed unless they say otherwise",
    },
    Check {
        subject: "database.transactions",
        statement: "select format('transaction of %s (pid %s) is open for %s s, %s; its messages \
               are not sent before it commits, and nothing that it could still read is cleaned \
               up', coalesce(usename, '?'), pid, \
               extract(epoch from clock_timestamp() - xact_start)::bigint, state) \
             from pg_stat_activity where xact_start < clock_timestamp() - interval '1 minute' \
               and backend_type = 'client backend' and datname = current_database() \
             order by xact_start limit 10",
        severity: Severity::Notice,
        advice: "end it if nobody needs it any more; it delays no other messages",
        well: "no transaction is open for longer than a minute",
    },
    Check {
        subject: "database.transactions",
        statement: "select format('prepared transaction %s of %s waits for %s s for its commit or \
               rollback', quote_literal(gid), owner, \
               extract(epoch from clock_timestamp() - prepared)::bigint) \
             from pg_prepared_xacts where database = current_database() \
               and prepared < clock_timestamp() - interval '1 minute' order by prepared limit 10",
        severity: Severity::Warning,
        advice: "run commit prepared or rollback prepared; its messages wait for it",
        well: "no prepared transaction is left over",
    },
    Check {
        subject: "database.unroutable",
        statement: "select format('nobody is bound to %s messages of topic %s, kind %s', \
               count(*), topic, kind) from posthaste.held where state = 'unroutable' \
             group by topic, kind order by count(*) desc limit 10",
        severity: Severity::Warning,
        advice: "bind a queue to the topic; the messages are sent when one appears",
        well: "somebody is bound to every topic and kind",
    },
    Check {
        subject: "database.dead_letters",
        statement: "select case state when 'dead' then format('%s dead letters wait for a \
               decision', count(*)) else format('%s dead letters were reposted and wait for their \
               consumers', count(*)) end from posthaste.dead_letter group by state",
        severity: Severity::Notice,
        advice: "look at them with `posthaste dead list`",
        well: "there are no dead letters",
    },
    Check {
        subject: "database.reading",
        statement: "select format('a message that no relay has come to is %s s old', age) from ( \
               select extract(epoch from clock_timestamp() - o.stated_at)::bigint as age \
               from posthaste.outbox o where o.seq > coalesce((select min(c.through) \
                 from posthaste.checkpoint c where c.of = coalesce((select l.now \
                   from posthaste.lanes l where l.destination = c.destination), 1)), 0) \
               and (o.due_at is null or o.due_at <= clock_timestamp()) order by o.seq limit 1) a \
             where age > 60",
        severity: Severity::Warning,
        advice: "look whether a relay runs: `posthaste status`",
        well: "relays have come to every message of the last minute",
    },
];

/// All checks, each on its own.
pub(crate) async fn findings(store: &Store, connection: &mut PgConnection) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in &CHECKS {
        let question = store.namespace.text(check.statement).into_owned();
        let answer = ask(&mut *connection, question).await;
        let words = answer.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        let words: Result<Vec<String>, sqlx::Error> = words;
        match words {
            Ok(wrong) if wrong.is_empty() => findings.push(good(check.subject, check.well)),
            Ok(wrong) => findings.extend(wrong.into_iter().map(|what| {
                Finding::new(check.severity, check.subject, what).advise(check.advice)
            })),
            Err(refused) if error::is_denied(&refused) => {
                let what = format!("this role may not look at that ({refused})");
                findings.push(Finding::new(Severity::Notice, check.subject, what));
            }
            Err(other) => findings.push(problem(&store.error("looking at the schema", other))),
        }
    }
    findings.extend(payload_limit(store, connection).await);
    findings
}

async fn payload_limit(store: &Store, connection: &mut PgConnection) -> Option<Finding> {
    const SUBJECT: &str = "database.payload_limit";
    let question = "select value from posthaste.setting where name = 'payload_limit'";
    let answer = ask(connection, store.namespace.text(question).into_owned()).await;
    let limit = answer.and_then(|rows| rows.first().map(|row| row.try_get(0)).transpose());
    let table: i64 = match limit {
        Ok(table) => table.unwrap_or(1024 * 1024),
        Err(refused) if error::is_denied(&refused) => return None,
        Err(other) => return Some(problem(&store.error("looking at the schema", other))),
    };
    let ours = crate::number::signed(store.limits().payload());
    if ours <= table {
        return Some(good(SUBJECT, format!("payloads may have up to {table} bytes")));
    }
    let what = format!("payload_limit is {ours} bytes, but the table refuses more than {table}");
    let finding = Finding::new(Severity::Warning, SUBJECT, what);
    Some(finding.advise("run `posthaste migrate` with the same payload_limit"))
}
