//! Which app a call belongs to that names none: the one whose body is being polled, else the installed one.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::{Core, Qtasks};
use crate::error::{Error, ErrorKind, Result};
use crate::isolation;
use crate::task::TaskId;
use crate::trace::TraceContext;
use crate::worker::Sink;

/// An app, and the task whose body is being polled.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    core: Weak<Core>,
    task: Option<TaskId>,
    /// The very attempt: after it there may be others at the same task, also while its body is not over.
    attempt: Weak<Sink>,
    trace: Option<TraceContext>,
}

impl Scope {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Scope { core: Arc::downgrade(core), task: None, attempt: Weak::new(), trace: None }
    }

    /// What the app is made of, while that is there.
    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.upgrade()
    }

    /// The app, while somebody has it.
    pub(crate) fn app(&self) -> Option<Qtasks> {
        Qtasks::of(self.core.upgrade()?)
    }

    pub(crate) fn within(&self, attempt: &Arc<Sink>, trace: Option<TraceContext>) -> Self {
        Scope { core: self.core.clone(), task: Some(attempt.id()), attempt: Arc::downgrade(attempt), trace }
    }
}

thread_local! {
    static POLLED: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Until it is dropped, the scope is the current one of this thread.
pub(crate) struct Entered(Option<Scope>);

pub(crate) fn enter(scope: &Scope) -> Entered {
    Entered(POLLED.with(|p| p.replace(Some(scope.clone()))))
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        POLLED.with(|p| p.replace(before));
    }
}

static INSTALLED: RwLock<Option<Weak<Core>>> = RwLock::new(None);

fn installed() -> Option<Arc<Core>> {
    let installed = INSTALLED.read().unwrap_or_else(PoisonError::into_inner);
    installed.as_ref().and_then(Weak::upgrade).filter(|core| !core.is_closed())
}

/// Makes an app the default one.
pub(super) fn install(app: &Qtasks) -> Result<()> {
    let mut installed = INSTALLED.write().unwrap_or_else(PoisonError::into_inner);
    let open = installed.as_ref().and_then(Weak::upgrade).filter(|core| !core.is_closed());
    if open.is_some_and(|core| !Arc::ptr_eq(&core, &app.core)) {
        let message = "another app is installed and open: shut it down first, or add tasks to this one by `.on(&app)`";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    *installed = Some(Arc::downgrade(&app.core));
    Ok(())
}

/// The app that a call belongs to which names none, and the task that makes it.
pub(crate) fn core() -> Result<(Arc<Core>, Option<TaskId>)> {
    let polled = POLLED.with(|p| p.borrow().as_ref().and_then(|s| Some((s.core.upgrade()?, s.task))));
    polled.or_else(|| installed().map(|core| (core, None))).ok_or_else(|| {
        let installed = INSTALLED.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(gone)) = installed.as_ref().and_then(Weak::upgrade).map(|core| core.life.check()) {
            return gone;
        }
        if isolation::is_child() {
            let message = "no app in the process of an isolated task: yield what is to be added, and let whoever \
                           watches add it, or open an app in the body and name it by `.on(&app)`";
            return Error::new(ErrorKind::NoApp, message);
        }
        Error::new(
            ErrorKind::NoApp,
            "no app to add the task to: call `qtasks::init(url)` first, or name one by `.on(&app)`",
        )
    })
}

/// What this thread polls, if that is a body: for what is polled elsewhere on its behalf.
pub(crate) fn here() -> Option<Scope> {
    POLLED.with(|p| p.borrow().clone())
}

/// Until it is dropped, this thread polls no body: what it does is the worker's own affair.
#[cfg(feature = "tracing-log")]
pub(crate) fn leave() -> Entered {
    Entered(POLLED.with(RefCell::take))
}

/// The attempt whose body this thread polls.
#[cfg(feature = "tracing-log")]
pub(crate) fn attempt() -> Option<Arc<Sink>> {
    // Whoever asks may do so while the thread ends.
    POLLED.try_with(|p| p.borrow().as_ref().and_then(|s| s.attempt.upgrade())).ok().flatten()
}

/// While it is held, the body that this thread polls, if any, lends its slot to others.
#[derive(Default)]
pub(crate) struct Lent(Option<Arc<Sink>>);

/// The body that this thread polls begins to wait for other tasks, which may need its slot.
pub(crate) fn lend() -> Lent {
    let attempt = POLLED.with(|p| p.borrow().as_ref().and_then(|s| s.attempt.upgrade()));
    attempt.iter().for_each(|attempt| attempt.lend());
    Lent(attempt)
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.iter().for_each(|attempt| attempt.take_back());
    }
}

/// The trace of the task whose body this thread polls for an app.
pub(crate) fn trace(core: &Core) -> Option<TraceContext> {
    POLLED.with(|p| {
        let polled = p.borrow();
        polled.as_ref().filter(|s| std::ptr::eq(s.core.as_ptr(), core)).and_then(|s| s.trace.clone())
    })
}

/// That of the task whose body this thread polls, whatever app runs it.
#[cfg(feature = "client")]
pub(crate) fn any_trace() -> Option<TraceContext> {
    POLLED.with(|p| p.borrow().as_ref().and_then(|s| s.trace.clone()))
}

/// The task whose body this thread polls for an app.
pub(crate) fn parent(core: &Arc<Core>) -> Option<TaskId> {
    POLLED.with(|p| {
        let polled = p.borrow();
        polled.as_ref().filter(|s| s.core.ptr_eq(&Arc::downgrade(core))).and_then(|s| s.task)
    })
}
