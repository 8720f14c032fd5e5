//! What `doctor` has to say about a database.

use std::sync::Arc;

use posthaste_core::finding::{Finding, Severity};

use crate::store::Store;

/// Looks at the server, then at the schema.
pub(crate) async fn findings(store: &Arc<Store>) -> Vec<Finding> {
    match store.reading().await {
        Ok(_) => Vec::new(),
        Err(error) => vec![Finding::new(Severity::Problem, "database", error.to_string())],
    }
}
