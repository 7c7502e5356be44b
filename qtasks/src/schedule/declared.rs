//! Schedules that stand in the attributes of task functions: `#[task(cron = "…")]`, `#[task(every = "…")]`.

use super::state::Definition;
use super::when::When;
use super::{CatchUp, check_schedule_name, template, tend};
use crate::add_task::Options;
use crate::app::{Defaults, new_task};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::registry::Registry;
use crate::store::Store;
use crate::task::{ScheduleSpec, TaskSpec};

/// What the attribute of a task function says.
fn definition(name: &str, spec: &TaskSpec, schedule: ScheduleSpec) -> Result<Definition> {
    check_schedule_name(name)?;
    let when = match schedule {
        ScheduleSpec::Cron { expression, timezone } => {
            When::Cron { expression: expression.to_owned(), timezone: timezone.to_owned() }
        }
        ScheduleSpec::Every(period) => When::every(period)?,
    };
    let args = Json::parse("{}").expect("no arguments");
    let task = template(new_task(name.to_owned(), Defaults::of(spec), args, Options::default(), None))?;
    let (starting, repeats) = (None, None);
    let definition = Definition { when, starting, repeats, catch_up: CatchUp::One, overlap: true, task };
    definition.check()?;
    Ok(definition)
}

fn declarations(registry: &Registry) -> Result<Vec<(String, Definition)>> {
    let scheduled = registry.iter().filter_map(|(name, spec)| Some((name, spec, spec.schedule?)));
    let read = scheduled.map(|(name, spec, schedule)| {
        let definition = definition(name, spec, schedule);
        let definition = definition
            .map_err(|e| Error::new(e.kind(), format!("the schedule of the task `{name}` ({}): {e}", spec.place())))?;
        Ok((name.to_owned(), definition))
    });
    read.collect()
}

/// Whether all of them can be read.
pub(crate) fn check(registry: &Registry) -> Result<()> {
    declarations(registry).map(drop)
}

/// Stores them. What an earlier version of a task function declared, and this one does not, is removed.
pub(crate) async fn declare(store: &dyn Store, registry: &Registry) -> Result<()> {
    for (name, definition) in declarations(registry)? {
        match tend::define(store, &name, &definition, true).await {
            // It is left to the version that stored it.
            Err(error) if error.kind() == ErrorKind::Conflict => tracing::warn!(%error, "a schedule is left alone"),
            defined => defined?,
        }
    }
    for (name, state) in tend::load_all(store).await? {
        let ours = registry.get(&name).is_some_and(|spec| spec.schedule.is_none());
        if state.declared && ours {
            tend::change(store, &name, |state| state.removed |= state.declared).await?;
        }
    }
    Ok(())
}
