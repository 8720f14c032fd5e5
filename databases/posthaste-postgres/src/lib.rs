//! Posthaste on PostgreSQL.
