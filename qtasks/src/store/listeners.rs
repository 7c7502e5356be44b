//! Who listens in this process, and how hints reach them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{Hint, Hints, Interest};

/// How many hints wait for one listener; when more would, it is told to look at everything.
const HINTS_MAX: usize = 1024;

/// The processes, or apps of this one, that listen.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

struct Listener {
    interest: Arc<Interest>,
    hints: mpsc::Sender<Hint>,
    /// Some could not be sent.
    lost: Arc<AtomicBool>,
}

impl Listener {
    fn send(&self, hint: Hint) -> bool {
        match self.hints.try_send(hint) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost.store(true, Ordering::SeqCst);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Listeners {
    pub(super) fn add(&self, interest: Arc<Interest>) -> Hints {
        let (hints, receiver) = mpsc::channel(HINTS_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let listener = Listener { interest, hints, lost: Arc::clone(&lost) };
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who asks again has lost what it had.
        listeners.retain(|l| !Arc::ptr_eq(&l.interest, &listener.interest));
        listeners.push(listener);
        drop(listeners);
        let next = async |(mut receiver, lost): (mpsc::Receiver<Hint>, Arc<AtomicBool>)| {
            let hint = match receiver.try_recv() {
                Ok(hint) => hint,
                Err(_) if lost.swap(false, Ordering::SeqCst) => Hint::Look,
                Err(_) => receiver.recv().await?,
            };
            Some((hint, (receiver, lost)))
        };
        stream::unfold((receiver, lost), next).boxed()
    }

    pub(super) fn tell(&self, hints: Vec<Hint>) {
        if hints.is_empty() {
            return;
        }
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for hint in hints {
            match &hint {
                Hint::Moved { id, .. } => {
                    listeners.retain(|l| !l.interest.has_task(*id) || l.send(hint.clone()));
                }
                Hint::Ready { queue, name } => {
                    while let Some(i) = listeners.iter().position(|l| l.interest.wake(queue, name)) {
                        let listener = listeners.remove(i);
                        if listener.send(hint.clone()) {
                            // Another one comes first the next time.
                            listeners.push(listener);
                            break;
                        }
                    }
                }
                Hint::Cancel { .. } | Hint::Look => listeners.retain(|l| l.send(hint.clone())),
            }
        }
    }
}
