//! Tasks for many arguments that run in place.

use std::sync::Arc;

use super::source::Source;
use crate::add_task::{Plain, Template};
use crate::app::Core;
use crate::context::ResumePoint;
use crate::error::{Error, Result};
use crate::inline::{self, Recorder, Start};
use crate::json::Json;
use crate::task::{TaskFailure, TaskFn, TaskSpec};

/// What came of arguments that ran in place: of each what its task returned.
pub(super) struct Inline(Vec<std::result::Result<Json, TaskFailure>>);

impl Inline {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn results<F: TaskFn>(&self) -> Vec<Result<F::Returning>> {
        let read = |(index, result): (usize, &std::result::Result<Json, TaskFailure>)| match result {
            Ok(value) => F::__codec().returning(value.as_bytes()).map_err(|e| {
                Error::new(crate::ErrorKind::Codec, format!("the result of argument {index} can't be read: {e}"))
            }),
            Err(failure) => Err(Error::task_failed(format!("argument {index}: {failure}"), failure.clone())),
        };
        self.0.iter().enumerate().map(read).collect()
    }
}

/// Runs a task for each of the arguments, one after the other.
pub(super) async fn run(core: &Arc<Core>, template: Plain, mut source: Source) -> Result<Inline> {
    let Template { task, names, spec, .. } = template.template(core, None).await?;
    let spec = spec.ok_or_else(|| core.registry.unknown(&task.name))?;
    let mut results = Vec::new();
    while let Some(args) = source.next(names.as_ref()).await? {
        results.push(one(core, &spec, args).await);
    }
    Ok(Inline(results))
}

async fn one(core: &Arc<Core>, spec: &Arc<TaskSpec>, args: Json) -> std::result::Result<Json, TaskFailure> {
    let at = Start { states: Arc::clone(&core.states), attempt: 1, resume: ResumePoint::default(), scope: None };
    let recorder = Recorder::new(core.runtime.clone());
    let returned = inline::run(&recorder, spec, args, at).await?;
    // Of a generator the list of its values.
    if spec.generating { Ok(recorder.take().list()) } else { Ok(returned.unwrap_or_else(Json::null)) }
}
