//! What operators do with dead letters: on several of them all or nothing, each on record.

use posthaste_core::StoreError;
use sqlx::sqlite::SqliteConnection;

use crate::settle::normalise;
use crate::store::Store;

/// A repost, or a discard with its reason.
pub(crate) struct Act {
    pub(crate) actor: String,
    pub(crate) discarded_because: Option<String>,
}

/// Where a dead letter stands.
struct Place {
    number: i64,
    of_relay: bool,
    name: String,
    seq: Option<i64>,
    reposted: bool,
    now: i64,
}

/// Parameters: number, actor, action, reason. The body of a discarded letter is kept unless it is
/// large.
const AUDIT: &str = concat!(
    "insert into posthaste_audit (at, actor, action, dead_letter, side, name, seq, id, topic, \
       kind, key, headers, payload, died_of, reason) \
     select ",
    now!(),
    ", ?2, ?3, number, side, name, seq, id, topic, kind, key, \
       case when ?3 = 'discard' then headers end, \
       case when ?3 = 'discard' and octet_length(payload) <= 65536 then payload end, reason, ?4 \
     from posthaste_dead_letter where number = ?1"
);

/// Parameters: destination, seq, topic, kind, key, now.
const RESUME: &str = "insert into posthaste_held \
       (destination, seq, topic, kind, key, state, ready_at) \
     values (?1, ?2, ?3, ?4, ?5, 'retry', ?6) \
     on conflict (destination, seq) do update set state = 'retry', attempts = 0, \
       ready_at = excluded.ready_at, detail = null, first_failed_at = null, history = '[]'";

/// Topic, kind and key as they were written.
type Written = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// Topic, kind and key for the side table, which holds text only: a row that is not a message has
/// no line to stand in, and no route.
fn address((topic, kind, key): Written) -> (String, String, Option<String>) {
    let text = String::from_utf8;
    match (text(topic), text(kind), key.map(text).transpose()) {
        (Ok(topic), Ok(kind), Ok(key)) => (topic, kind, key),
        _ => (String::new(), String::new(), None),
    }
}

impl Store {
    /// Carries out an act on every letter, or on none.
    pub(crate) async fn act(&self, references: &[String], act: &Act) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for reference in references {
            let place = self.find(&mut transaction, reference).await?;
            if place.reposted && act.discarded_because.is_none() {
                return Err(StoreError::rejected(format!(
                    "dead letter {reference} was reposted and waits for the consumer '{}'; nothing \
                     was changed",
                    place.name
                )));
            }
            self.record(&mut transaction, &place, act).await?;
            match (&act.discarded_because, place.of_relay) {
                (None, true) => self.resume(&mut transaction, &place).await?,
                (None, false) => self.hand_back(&mut transaction, &place).await?,
                (Some(_), true) => self.give_up(&mut transaction, &place).await?,
                (Some(_), false) => self.close(&mut transaction, &place).await?,
            }
        }
        self.commit(transaction).await
    }

    async fn find(
        &self,
        connection: &mut SqliteConnection,
        reference: &str,
    ) -> Result<Place, StoreError> {
        let number: Option<i64> = reference.parse().ok();
        let found: Option<(i64, bool, String, Option<i64>, bool, i64)> = sqlx::query_as(concat!(
            "select number, side = 'relay', name, seq, state = 'reposted', ",
            now!(),
            " from posthaste_dead_letter where number = ?1"
        ))
        .bind(number)
        .fetch_optional(connection)
        .await
        .map_err(self.failed("looking for a dead letter"))?;
        let (number, of_relay, name, seq, reposted, now) = found.ok_or_else(|| {
            StoreError::rejected(format!("no dead letter {reference}; nothing was changed"))
        })?;
        Ok(Place { number, of_relay, name, seq, reposted, now })
    }

    async fn record(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
        act: &Act,
    ) -> Result<(), StoreError> {
        let action = if act.discarded_because.is_some() { "discard" } else { "repost" };
        sqlx::query(AUDIT)
            .bind(place.number)
            .bind(&act.actor)
            .bind(action)
            .bind(&act.discarded_because)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(self.failed("recording an act on a dead letter"))
    }

    /// Relay: sends it again, ahead of those that wait behind it.
    async fn resume(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
    ) -> Result<(), StoreError> {
        let failed = self.failed("reposting a dead letter");
        let written: Option<Written> = sqlx::query_as(
            "select coalesce(cast(topic as blob), x''), coalesce(cast(kind as blob), x''), \
               cast(key as blob) from posthaste_outbox where seq = ?",
        )
        .bind(place.seq)
        .fetch_optional(&mut *connection)
        .await
        .map_err(&failed)?;
        let Some(written) = written else {
            return Err(StoreError::rejected(format!(
                "the message of dead letter {} was deleted from posthaste_outbox; publish it anew \
                 and discard the letter; nothing was changed",
                place.number
            )));
        };
        let (topic, kind, key) = address(written);
        sqlx::query(RESUME)
            .bind(&place.name)
            .bind(place.seq)
            .bind(topic)
            .bind(kind)
            .bind(key)
            .bind(place.now)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        self.delete(connection, place).await
    }

    /// Consumer: handles it again, and keeps it until it does.
    async fn hand_back(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
    ) -> Result<(), StoreError> {
        for statement in [
            "delete from posthaste_inbox where consumer = ?2 \
             and id = (select id from posthaste_dead_letter where number = ?1)",
            "delete from posthaste_attempt where consumer = ?2 \
             and id = (select id from posthaste_dead_letter where number = ?1)",
            "update posthaste_dead_letter set state = 'reposted' where number = ?1 and name = ?2",
        ] {
            self.on_letter(connection, place, statement).await?;
        }
        Ok(())
    }

    /// Relay: what waits behind it goes on.
    async fn give_up(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
    ) -> Result<(), StoreError> {
        let failed = self.failed("discarding a dead letter");
        let line: Option<(String, Option<String>)> = sqlx::query_as(
            "delete from posthaste_held where destination = ?1 and seq = ?2 and state = 'parked' \
             returning topic, key",
        )
        .bind(&place.name)
        .bind(place.seq)
        .fetch_optional(&mut *connection)
        .await
        .map_err(&failed)?;
        if let Some((topic, Some(key))) = line {
            normalise(connection, &place.name, &topic, &key, place.now).await.map_err(failed)?;
        }
        self.delete(connection, place).await
    }

    /// Consumer: its id stays in the inbox for the usual time.
    async fn close(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
    ) -> Result<(), StoreError> {
        let statement = concat!(
            "insert into posthaste_inbox (consumer, id) \
             select name, id from posthaste_dead_letter where number = ?1 and name = ?2 \
             on conflict (consumer, id) do update set outcome = 'done', done_at = ",
            now!()
        );
        self.on_letter(connection, place, statement).await?;
        self.delete(connection, place).await
    }

    async fn delete(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
    ) -> Result<(), StoreError> {
        let statement = "delete from posthaste_dead_letter where number = ?1 and name = ?2";
        self.on_letter(connection, place, statement).await
    }

    /// Runs a statement with the parameters number and name.
    async fn on_letter(
        &self,
        connection: &mut SqliteConnection,
        place: &Place,
        statement: &'static str,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(statement).bind(place.number).bind(&place.name);
        let done = query.execute(connection).await;
        done.map(|_| ()).map_err(self.failed("changing a dead letter"))
    }
}
