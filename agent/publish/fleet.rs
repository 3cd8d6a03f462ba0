//! `inspectd model status`, `approve` and `rollback`: the fleet as it reports itself, and words to it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use super::target::Target;
use crate::exit::{Exit, OrExit};
use crate::glob::glob;
use crate::mqtt::args::BrokerArgs;
use crate::mqtt::link::{Event, Link};
use crate::mqtt::payload::Reply;
use crate::mqtt::topics::Topics;
use crate::update::reported::Reported;

/// Retained messages have come by then.
const GATHER: Duration = Duration::from_secs(1);
/// Replies to a command have come by then.
const REPLIES: Duration = Duration::from_secs(10);

/// Arguments of `model status`.
#[derive(clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Which gateways: SITE/GATEWAY, with * for any text in the gateway's name.
    #[arg(long, value_name = "SITE/GATEWAY")]
    of: Target,
    /// One JSON line a gateway, for machines.
    #[arg(long)]
    json: bool,
}

/// Arguments of `model approve` and `model rollback`.
#[derive(clap::Args)]
pub struct WordArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Which gateways: SITE/GATEWAY, with * for any text in the gateway's name.
    #[arg(long, value_name = "SITE/GATEWAY")]
    to: Target,
}

/// Prints a line a gateway.
///
/// # Errors
/// The broker cannot be reached.
pub fn status(args: &StatusArgs) -> Result<()> {
    let fleet = runtime()?.block_on(async {
        let mut link = Link::connect(&args.broker.options("status")?).await.or_exit(Exit::Unavailable)?;
        let fleet = gather(&mut link, &args.of).await?;
        link.disconnect().await;
        anyhow::Ok(fleet)
    })?;
    if fleet.is_empty() {
        return Err(anyhow!("no gateway of {} takes updates (update.keys in its configuration)", args.of))
            .or_exit(Exit::Unavailable);
    }
    if !args.json {
        println!("{:20} {:12} {:14} {:>8}  {:32} reason", "gateway", "phase", "progress", "floor", "active");
    }
    for (gateway, reported) in fleet {
        if args.json {
            println!("{}", serde_json::json!({ "gateway": gateway, "reported": reported }));
            continue;
        }
        let phase =
            serde_json::to_value(reported.phase).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let done = (reported.progress * 10.0).round().clamp(0.0, 10.0) as usize;
        let bar = format!("{}{} {:3.0}%", "#".repeat(done), ".".repeat(10 - done), reported.progress * 100.0);
        let active = format!("{} {}", reported.active.name, reported.active.version);
        let reason = reported.reason.unwrap_or_default().escape_debug().to_string();
        println!("{gateway:20} {phase:12} {bar:14} {:>8}  {active:32} {reason}", reported.floor);
    }
    Ok(())
}

/// Says a word to each gateway, and prints what each replies.
///
/// # Errors
/// The broker cannot be reached, or a gateway refuses or does not reply.
pub fn say(args: &WordArgs, word: &str) -> Result<()> {
    let (asked, replies) = runtime()?.block_on(async {
        let mut link = Link::connect(&args.broker.options(word)?).await.or_exit(Exit::Unavailable)?;
        let fleet = gather(&mut link, &args.to).await?;
        link.subscribe(&Topics::new(&args.to.site, "+").reply("+")).map_err(|e| anyhow!(e))?;
        let id = uuid::Uuid::now_v7().to_string();
        for gateway in fleet.keys() {
            let topic = Topics::new(&args.to.site, gateway).order(word, &id);
            link.publish(&topic, b"{}".to_vec(), 1, false, None);
        }
        let (until, mut replies) = (Instant::now() + REPLIES, BTreeMap::new());
        while replies.len() < fleet.len()
            && let Ok(event) = tokio::time::timeout_at(until, link.next()).await
        {
            if let Event::Message { topic, payload, .. } = event
                && topic.ends_with(&id)
                && let (Some(gateway), Ok(reply)) = (topic.split('/').nth(3), serde_json::from_slice::<Reply>(&payload))
            {
                replies.insert(gateway.to_owned(), reply);
            }
        }
        link.disconnect().await;
        anyhow::Ok((fleet, replies))
    })?;
    let mut refused = asked.is_empty();
    for gateway in asked.keys() {
        let reply = replies.get(gateway);
        refused |= !reply.is_some_and(|reply| reply.ok);
        let text = match reply {
            None => "no reply".to_owned(),
            Some(Reply { ok: true, .. }) => "done".to_owned(),
            Some(reply) => reply.error.as_deref().unwrap_or_default().escape_debug().to_string(),
        };
        println!("{gateway}: {text}");
    }
    if refused {
        Err(anyhow!("not every gateway of {} has done it", args.to)).or_exit(Exit::Unavailable)
    } else {
        Ok(())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What the gateways of a target report.
async fn gather(link: &mut Link, of: &Target) -> Result<BTreeMap<String, Reported>> {
    link.subscribe(&Topics::new(&of.site, "+").reported()).map_err(|e| anyhow!(e))?;
    let (until, mut fleet) = (Instant::now() + GATHER, BTreeMap::new());
    while let Ok(event) = tokio::time::timeout_at(until, link.next()).await {
        match event {
            Event::Message { topic, payload, .. } => {
                let gateway = topic.split('/').nth(3).unwrap_or_default();
                if let (true, Ok(reported)) = (glob(&of.gateway, gateway), serde_json::from_slice(&payload)) {
                    fleet.insert(gateway.to_owned(), reported);
                }
            }
            Event::Refused => {
                return Err(anyhow!("the broker does not let this user read states")).or_exit(Exit::Unavailable);
            }
            event if event.is_last() => {
                return Err(anyhow!("the connection to the broker is lost")).or_exit(Exit::Unavailable);
            }
            _ => {}
        }
    }
    Ok(fleet)
}
