//! Which dead letters an act is for, and the act itself: named ones at once, many only with
//! `--yes` and a preview before that.

use posthaste_core::StoreError;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use serde_json::{Value, json};

use super::list;
use super::stores::{Place, Stores, told};
use crate::actor;
use crate::context::Context;
use crate::failure::Failure;
use crate::shape;

/// Most that are read, and acted on in one transaction, at a time.
const PAGE: usize = 200;

/// Most that a preview shows.
const PREVIEW: usize = 20;

/// Which dead letters, and who acts.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// References, or ids of messages
    #[arg(value_name = "REFERENCE", required_unless_present_any = ["all", "topic"])]
    references: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "references")]
    all: bool,
    /// All of this topic
    #[arg(long, conflicts_with_all = ["references", "all"])]
    topic: Option<String>,
    /// Do it to all of them; without this the command only shows which they are
    #[arg(long)]
    yes: bool,
    /// Who is recorded as having done it [default: user@host]
    #[arg(long)]
    actor: Option<String>,
}

/// What is done.
#[derive(Debug)]
pub(super) enum Act {
    Repost,
    Discard { reason: String },
}

impl Act {
    async fn carry_out(
        &self,
        store: &dyn DeadLetters,
        references: &[String],
        actor: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Repost => store.repost(references, actor).await,
            Self::Discard { reason } => store.discard(references, actor, reason).await,
        }
    }

    /// Whether this can be done to it: what was reposted already waits for its consumer.
    fn is_for(&self, dead: &DeadLetter) -> bool {
        matches!(self, Self::Discard { .. }) || !dead.reposted
    }

    fn past(&self) -> &'static str {
        match self {
            Self::Repost => "reposted",
            Self::Discard { .. } => "discarded",
        }
    }

    fn infinitive(&self) -> &'static str {
        match self {
            Self::Repost => "repost",
            Self::Discard { .. } => "discard",
        }
    }
}

/// Does it, or shows what it would be done to.
pub(super) async fn run(selection: Selection, act: &Act, context: &Context) -> Result<(), Failure> {
    let actor = selection.actor.clone().unwrap_or_else(actor::this_user);
    if actor.trim().is_empty() {
        return Err(Failure::usage("--actor must not be empty, because it is recorded"));
    }
    let stores = Stores::open(context, &selection.references).await?.whole()?;
    let mut done = Vec::new();
    let result = if selection.references.is_empty() {
        stores.warn_of_unnamed(context.output);
        if !selection.yes {
            return preview(&stores, &selection, act, context).await;
        }
        many(&stores, selection.topic.as_deref(), act, &actor, &mut done).await
    } else {
        named(&stores, &selection.references, act, &actor, &mut done).await
    };
    // What was done before something failed is told as well.
    if context.output.is_json() {
        if result.is_ok() || !done.is_empty() {
            context.output.object(&json!({ act.past(): done, "actor": actor }))?;
        }
    } else {
        for reference in &done {
            context.output.line(&format!("{} {reference}", act.past()))?;
        }
        if done.is_empty() && result.is_ok() {
            context.output.say("no dead letters");
        }
    }
    result
}

/// All of one place in one transaction, so that a mistake in one reference changes nothing there.
async fn named(
    stores: &Stores,
    names: &[String],
    act: &Act,
    actor: &str,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut references: Vec<(Place, String)> = Vec::new();
    for name in names {
        let (place, dead) = stores.find(name).await?;
        if !references.contains(&(place, dead.reference.clone())) {
            references.push((place, dead.reference));
        }
    }
    for place in [Place::Database, Place::Broker] {
        let here = references.iter().filter(|(at, _)| *at == place);
        let here: Vec<String> = here.map(|(_, reference)| reference.clone()).collect();
        let Some(store) = stores.get(place).filter(|_| !here.is_empty()) else { continue };
        act.carry_out(store, &here, actor).await.map_err(|error| told(place, &error))?;
        done.extend(here);
    }
    Ok(())
}

/// Page by page. Those that appear meanwhile stand at the end and are reached as well; one that
/// dies again after its repost gets a new reference, so each place is read up to the last one that
/// was there at the start.
async fn many(
    stores: &Stores,
    topic: Option<&str>,
    act: &Act,
    actor: &str,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    for place in [Place::Database, Place::Broker] {
        let Some(store) = stores.get(place) else { continue };
        let references = references(store, topic, act).await;
        let references = references.map_err(|error| told(place, &error))?;
        for page in references.chunks(PAGE) {
            act.carry_out(store, page, actor).await.map_err(|error| told(place, &error))?;
            done.extend_from_slice(page);
        }
    }
    Ok(())
}

async fn references(
    store: &dyn DeadLetters,
    topic: Option<&str>,
    act: &Act,
) -> Result<Vec<String>, StoreError> {
    let (mut references, mut after) = (Vec::new(), None);
    loop {
        let page = page(store, topic, after).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|dead| dead.reference.clone());
        let page = page.into_iter().filter(|dead| act.is_for(dead));
        references.extend(page.map(|dead| dead.reference));
        if !full {
            return Ok(references);
        }
    }
}

async fn page(
    store: &dyn DeadLetters,
    topic: Option<&str>,
    after: Option<String>,
) -> Result<Vec<DeadLetter>, StoreError> {
    let topic = topic.map(str::to_owned);
    store.list(&DeadFilter { topic, id: None, after, limit: PAGE }).await
}

async fn preview(
    stores: &Stores,
    selection: &Selection,
    act: &Act,
    context: &Context,
) -> Result<(), Failure> {
    let mut count = 0;
    let mut shown = Vec::new();
    for place in [Place::Database, Place::Broker] {
        let Some(store) = stores.get(place) else { continue };
        let mut after = None;
        loop {
            let page = page(store, selection.topic.as_deref(), after).await;
            let page = page.map_err(|error| told(place, &error))?;
            after = page.last().map(|dead| dead.reference.clone());
            let full = page.len() == PAGE;
            for dead in page.into_iter().filter(|dead| act.is_for(dead)) {
                count += 1;
                if shown.len() < PREVIEW {
                    shown.push(dead);
                }
            }
            if !full {
                break;
            }
        }
    }
    if context.output.is_json() {
        let dead: Vec<Value> = shown.iter().map(|dead| shape::dead_letter(dead).into()).collect();
        context
            .output
            .object(&json!({ "would": act.infinitive(), "count": count, "first": dead }))?;
    } else {
        list::print(context, &shown)?;
    }
    if count == 0 {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "nothing was done; dead letters that match: {count}; add --yes to {} them",
        act.infinitive()
    )))
}
