//! `inspectd schema`: JSON Schemas, generated from the types themselves.

use std::io::Write as _;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use schemars::{Schema, schema_for};

use crate::asyncapi;
use crate::command::{
    Acknowledge, Approve, Changeover, Comment, Forget, ListAlarms, ListLessons, Products, Quieten, Relearn, Release,
    Reload, Rollback, Shelve, Teach, Trigger,
};
use crate::config::Config;
use crate::model::bundle::Manifest;
use crate::mqtt::payload::{Alarm, AlarmEvent, CameraState, FrameResult, GatewayState, Reply};
use crate::reference;
use crate::taught::Lesson;
use crate::update::admission::Desired;
use crate::update::release;
use crate::update::reported::Reported;

/// Arguments of `schema`.
#[derive(clap::Args)]
pub struct Args {
    /// What to describe.
    name: Name,
    /// The configuration as a reference in Markdown, for people.
    #[arg(long)]
    markdown: bool,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Name {
    /// `…/events`
    Event,
    /// `…/alarms/{id}`
    Alarm,
    /// `…/state`
    State,
    /// `…/cameras/{camera}/state`
    Camera,
    /// `…/cameras/{camera}/results`
    Result,
    /// `…/replies/{id}`
    Reply,
    /// `…/commands/changeover/{id}`
    Changeover,
    /// `…/commands/products/{id}`
    Products,
    /// `…/commands/relearn/{id}`
    Relearn,
    /// `…/commands/teach/{id}`
    Teach,
    /// `…/commands/forget/{id}`
    Forget,
    /// `…/commands/lessons/{id}`
    Lessons,
    /// `…/commands/ack/{id}`
    Ack,
    /// `…/commands/comment/{id}`
    Comment,
    /// `…/commands/shelve/{id}`
    Shelve,
    /// `…/commands/unshelve/{id}`
    Unshelve,
    /// `…/commands/suppress/{id}`
    Suppress,
    /// `…/commands/unsuppress/{id}`
    Unsuppress,
    /// `…/commands/out_of_service/{id}`
    #[value(name = "out_of_service")]
    OutOfService,
    /// `…/commands/in_service/{id}`
    #[value(name = "in_service")]
    InService,
    /// `…/commands/alarms/{id}`
    Alarms,
    /// `…/commands/approve/{id}`
    Approve,
    /// `…/commands/rollback/{id}`
    Rollback,
    /// `…/commands/reload/{id}`
    Reload,
    /// `…/commands/trigger/{id}`
    Trigger,
    /// `…/commands/snapshot/{id}`
    Snapshot,
    /// `inspect/v1/{site}/taught/{class}`
    Lesson,
    /// `…/model/desired`
    Desired,
    /// The release in it
    Release,
    /// `…/model/reported`
    Reported,
    /// The configuration file.
    Config,
    /// bundle.json
    Bundle,
    /// All topics, as an AsyncAPI 3 document
    Asyncapi,
}

/// The schema of a name.
#[must_use]
pub fn schema(name: Name) -> Schema {
    match name {
        Name::Event => schema_for!(AlarmEvent),
        Name::Alarm => schema_for!(Alarm),
        Name::State => schema_for!(GatewayState),
        Name::Camera => schema_for!(CameraState),
        Name::Result => schema_for!(FrameResult),
        Name::Reply => schema_for!(Reply),
        Name::Changeover => schema_for!(Changeover),
        Name::Products => schema_for!(Products),
        Name::Relearn => schema_for!(Relearn),
        Name::Teach => schema_for!(Teach),
        Name::Forget => schema_for!(Forget),
        Name::Lessons => schema_for!(ListLessons),
        Name::Ack => schema_for!(Acknowledge),
        Name::Comment => schema_for!(Comment),
        Name::Shelve => schema_for!(Shelve),
        Name::Suppress | Name::OutOfService => schema_for!(Quieten),
        Name::Unshelve | Name::Unsuppress | Name::InService => schema_for!(Release),
        Name::Alarms => schema_for!(ListAlarms),
        Name::Approve => schema_for!(Approve),
        Name::Rollback => schema_for!(Rollback),
        Name::Reload => schema_for!(Reload),
        Name::Trigger | Name::Snapshot => schema_for!(Trigger),
        Name::Reported => schema_for!(Reported),
        Name::Lesson => schema_for!(Lesson),
        Name::Desired => schema_for!(Desired),
        Name::Release => schema_for!(release::Release),
        Name::Config => schema_for!(Config),
        Name::Bundle => schema_for!(Manifest),
        Name::Asyncapi => asyncapi::document().try_into().unwrap_or_default(), // it is an object
    }
}

/// Prints it.
///
/// # Errors
/// None that a user could cause.
pub fn run(args: &Args) -> Result<()> {
    let schema = schema(args.name);
    let text = if args.markdown {
        let is_config = matches!(args.name, Name::Config);
        ensure!(is_config, "--markdown is for the configuration: inspectd schema config --markdown");
        reference::markdown(schema.as_value()).trim_end().to_owned()
    } else {
        serde_json::to_string_pretty(&schema)?
    };
    let _ = writeln!(std::io::stdout(), "{text}"); // a reader that has gone (`| head`) is no reason to panic
    Ok(())
}
