//! How far each lane has come, as it is stored.

use std::sync::Arc;

use posthaste_core::frontier::Frontier;
use posthaste_core::{Checkpoint, Lane, StoreError};
use sqlx::postgres::PgConnection;

use crate::cursor::Cursor;
use crate::number;
use crate::store::Store;

/// Parameters: destination, lane, of how many.
const CHECKPOINT: &str = "select c.token, posthaste.server_life() \
     from posthaste.refuse_foreign() f cross join posthaste.refuse_division($1, $3) d \
     left join posthaste.checkpoint c on c.destination = $1 and c.lane = $2 and c.of = $3";

/// Parameters: destination, of how many.
const ALL: &str = "select lane, token from posthaste.checkpoint \
     where destination = $1 and of = $2 order by lane";

impl Store {
    /// The checkpoint of a lane; where one begins that has none.
    pub(crate) async fn checkpoint(
        self: &Arc<Self>,
        lane: &Lane,
    ) -> Result<Checkpoint, StoreError> {
        let mut connection = self.reading().await?;
        let (token, life): (Option<String>, String) = self
            .query_as(CHECKPOINT)
            .bind(&lane.destination)
            .bind(i32::from(lane.index))
            .bind(i32::from(lane.of))
            .fetch_one(&mut *connection)
            .await
            .map_err(self.failed("reading a checkpoint"))?;
        match token {
            Some(token) => Ok(Cursor::load(&token, &life)),
            None => Ok(self.starting_frontier(&mut connection).await?.checkpoint()),
        }
    }

    /// The frontiers of all lanes of a destination, by their index.
    pub(crate) async fn lane_frontiers(
        &self,
        connection: &mut PgConnection,
        destination: &str,
        lanes: u16,
    ) -> Result<Vec<Frontier>, StoreError> {
        let start = self.starting_frontier(&mut *connection).await?;
        let mut frontiers = vec![start; usize::from(lanes)];
        let rows: Vec<(i32, String)> = self
            .query_as(ALL)
            .bind(destination)
            .bind(i32::from(lanes))
            .fetch_all(connection)
            .await
            .map_err(self.failed("reading the checkpoints"))?;
        for (lane, token) in rows {
            let place = usize::try_from(lane).ok().and_then(|lane| frontiers.get_mut(lane));
            if let Some(place) = place {
                *place = number::frontier(&Checkpoint::new(token))?;
            }
        }
        Ok(frontiers)
    }
}
