//! `posthaste migrate`: the only command that changes the schema, and it says what it did.

use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::validation::Needs;

/// Create or update the tables of Posthaste in the database
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The only command that changes the schema. Doing it again changes nothing, \
    and several processes may do it at once.\n\nExamples:\n  posthaste migrate\n  \
    posthaste migrate --database sqlite:///var/lib/shop/app.db\n  \
    posthaste migrate --print-sql > posthaste.sql\n  \
    posthaste migrate --grants=shop | psql app   # rights of shop_writer, shop_relay, …"
)]
pub(crate) struct Arguments {
    /// Print the statements for an empty database and change nothing
    #[arg(long)]
    print_sql: bool,
    /// Print the statements that give PREFIX_writer, PREFIX_consumer, PREFIX_relay and
    /// PREFIX_operator the rights that they need, and change nothing
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "posthaste", conflicts_with = "print_sql")]
    grants: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    if arguments.print_sql || arguments.grants.is_some() {
        let database = configuration.open_database(&context.registry, false).await?;
        let Some(prefix) = &arguments.grants else { return print(&database.script(), context) };
        let grants = database.grants(prefix)?;
        let grants = grants.ok_or_else(|| {
            Failure::usage("this database has no roles: whoever can open the file may do all")
        })?;
        return print(&grants, context);
    }
    let database = configuration.open_database(&context.registry, true).await?;
    let migrated = database.migrate().await?;
    if context.output.is_json() {
        let changed = migrated.from != Some(migrated.to);
        return context.output.object(&json!({
            "from": migrated.from,
            "to": migrated.to,
            "changed": changed,
            "notes": migrated.notes,
        }));
    }
    context.output.line(&match migrated.from {
        None => format!("created schema version {}", migrated.to),
        Some(from) if from == migrated.to => {
            format!("schema version {from} is current; nothing was changed")
        }
        Some(from) => format!("updated the schema from version {from} to {}", migrated.to),
    })?;
    for note in &migrated.notes {
        context.output.line(note)?;
    }
    Ok(())
}

/// A script, for people who run it themselves.
fn print(script: &str, context: &Context) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.object(&json!({ "sql": script }));
    }
    context.output.bytes(format!("{}\n", script.trim_end()).as_bytes())
}
