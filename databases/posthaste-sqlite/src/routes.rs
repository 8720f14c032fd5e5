//! Routes: what nobody is bound to, by topic and kind, in the order of the rows.
//!
//! Only the first row of a route has a time at which it is tried. That is 0 while the route was
//! found open and is worked off; then only rows whose key is among those set aside join them. Each
//! statement follows an index to the rows that it changes, however many are set aside.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

/// Most rows of a route that one settlement lets go.
const PORTION: i64 = 1000;

/// Parameters: destination, array of [`Tried`]. What is said of routes by those that were set aside
/// until now.
const TRIED: &str = "select h.topic, h.kind, max(v.value ->> 'open') \
     from json_each(?2) v cross join posthaste_held h \
     where h.destination = ?1 and h.seq = v.value ->> 'seq' and h.state = 'unroutable' \
     group by h.topic, h.kind";

/// Parameters: destination, array of lines with a delay. What is said of routes by those that are
/// set aside now.
const ASIDE: &str = "select h.topic, h.kind, max(v.value ->> 'delay') \
     from json_each(?2) v cross join posthaste_held h \
     where h.destination = ?1 and h.seq = v.value ->> 'seq' and h.state = 'unroutable' \
     group by h.topic, h.kind";

/// Parameters: destination, topic, kind, now, most rows.
const LET_GO: &str = "update posthaste_held set state = 'retry', ready_at = ?4 \
     where destination = ?1 and seq in (select seq from posthaste_held \
       indexed by posthaste_held_route where destination = ?1 and topic = ?2 and kind = ?3 \
       and state = 'unroutable' order by seq limit ?5) returning key";

/// Parameters: destination, topic, kind.
const NEXT_TRY: &str = "select min(ready_at) from posthaste_held \
     indexed by posthaste_held_probe where destination = ?1 and topic = ?2 and kind = ?3 \
     and state = 'unroutable' and ready_at is not null";

/// Parameters: destination, topic, kind. There is one, or two after a settlement.
const NO_TRY: &str = "update posthaste_held set ready_at = null \
     where destination = ?1 and seq in (select seq from posthaste_held \
       indexed by posthaste_held_probe where destination = ?1 and topic = ?2 and kind = ?3 \
       and state = 'unroutable' and ready_at is not null)";

/// Parameters: destination, topic, kind, when.
const TRY_FIRST: &str = "update posthaste_held set ready_at = ?4 \
     where destination = ?1 and seq = (select seq from posthaste_held \
       indexed by posthaste_held_route where destination = ?1 and topic = ?2 and kind = ?3 \
       and state = 'unroutable' order by seq limit 1)";

/// A row of the side table with a verdict.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tried {
    pub(crate) seq: i64,
    /// Whether it was sent or given up, so that its route is open if it was set aside.
    pub(crate) open: bool,
}

/// Topic and kind.
type Route = (String, String);

/// What a settlement says of one route.
#[derive(Clone, Copy, Debug, Default)]
struct Finding {
    open: bool,
    /// Milliseconds until those that came back are tried again; 0 if none did.
    probe_in: i64,
}

/// What a settlement says of the routes that it touches.
#[derive(Debug, Default)]
pub(crate) struct Routes(BTreeMap<Route, Finding>);

impl Routes {
    /// Notes which of these are set aside; to be called before anything is changed.
    pub(crate) async fn note_tried(
        &mut self,
        connection: &mut SqliteConnection,
        destination: &str,
        tried: &[Tried],
    ) -> Result<(), sqlx::Error> {
        for (route, open) in look(connection, TRIED, destination, tried).await? {
            self.0.entry(route).or_default().open |= open != 0;
        }
        Ok(())
    }

    /// Notes those that were set aside by this settlement, after they were filed.
    pub(crate) async fn note_aside(
        &mut self,
        connection: &mut SqliteConnection,
        destination: &str,
        lines: &[impl Serialize],
    ) -> Result<(), sqlx::Error> {
        for (route, delay) in look(connection, ASIDE, destination, lines).await? {
            let finding = self.0.entry(route).or_default();
            finding.probe_in = finding.probe_in.max(delay);
        }
        Ok(())
    }

    /// Lets rows go whose routes are open, and has the first of the others tried. Returns the lines
    /// of those that were let go.
    pub(crate) async fn normalise(
        &self,
        connection: &mut SqliteConnection,
        destination: &str,
        now: i64,
    ) -> Result<BTreeSet<(String, String)>, sqlx::Error> {
        let mut lines = BTreeSet::new();
        for ((topic, kind), finding) in &self.0 {
            let returned = finding.probe_in > 0;
            if finding.open && !returned {
                let keys: Vec<Option<String>> = sqlx::query_scalar(LET_GO)
                    .bind(destination)
                    .bind(topic)
                    .bind(kind)
                    .bind(now)
                    .bind(PORTION)
                    .fetch_all(&mut *connection)
                    .await?;
                lines.extend(keys.into_iter().flatten().map(|key| (topic.clone(), key)));
            }
            let next: Option<i64> = sqlx::query_scalar(NEXT_TRY)
                .bind(destination)
                .bind(topic)
                .bind(kind)
                .fetch_one(&mut *connection)
                .await?;
            let at = match next {
                _ if returned => now.saturating_add(finding.probe_in),
                _ if finding.open => 0,
                Some(next) => next,
                None => now,
            };
            let clear = sqlx::query(NO_TRY).bind(destination).bind(topic).bind(kind);
            clear.execute(&mut *connection).await?;
            let set = sqlx::query(TRY_FIRST).bind(destination).bind(topic).bind(kind).bind(at);
            set.execute(&mut *connection).await?;
        }
        Ok(lines)
    }
}

/// Runs a statement over an array, unless that is empty.
async fn look(
    connection: &mut SqliteConnection,
    statement: &'static str,
    destination: &str,
    lines: &[impl Serialize],
) -> Result<Vec<(Route, i64)>, sqlx::Error> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let json = serde_json::to_string(lines).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let query = sqlx::query_as::<_, (String, String, i64)>(statement).bind(destination).bind(json);
    let rows = query.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(topic, kind, value)| ((topic, kind), value)).collect())
}
