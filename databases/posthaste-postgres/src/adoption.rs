//! Which database the transaction ids of the outbox belong to, and taking over a copy.

use posthaste_core::StoreError;
use sqlx::postgres::PgConnection;

use crate::store::Store;

/// A database by its identity: transaction ids mean the same only within one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) system_identifier: i64,
    pub(crate) database_oid: i64,
    pub(crate) database_name: String,
}

impl Store {
    /// The identity of the database that the connection is in.
    pub(crate) async fn identity(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Identity, StoreError> {
        self.identity_by(
            connection,
            "select s.system_identifier, d.oid::bigint, d.datname::text \
             from pg_catalog.pg_control_system() s, pg_catalog.pg_database d \
             where d.datname = pg_catalog.current_database()",
        )
        .await
    }

    /// The identity that the checkpoints were written under.
    pub(crate) async fn noted_identity(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Identity, StoreError> {
        self.identity_by(
            connection,
            "select system_identifier, database_oid, database_name from posthaste.cluster",
        )
        .await
    }

    async fn identity_by(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<Identity, StoreError> {
        let (system_identifier, database_oid, database_name) = self
            .query_as(statement)
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking for the identity of the database"))?;
        Ok(Identity { system_identifier, database_oid, database_name })
    }
}
