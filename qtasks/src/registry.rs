//! [`Registry`]: the task functions that an app knows, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::context::States;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store::{DocPut, Store};
use crate::task::{ArgSpec, BUILT_IN, Keep, TaskSpec, check_name, check_tag};

/// What `#[task]` submits at link time.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registration(pub fn() -> &'static TaskSpec);
inventory::collect!(Registration);

/// The task functions that an app knows.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    specs: BTreeMap<String, Entry>,
    /// Of those that bear another name here than in their own code.
    renamed: Vec<(&'static TaskSpec, String)>,
    /// Names that more than one function bears: an error when a worker starts.
    doubles: Vec<(String, Arc<TaskSpec>, Arc<TaskSpec>)>,
    /// Of those that are set differently here.
    changed: Vec<(&'static TaskSpec, Arc<TaskSpec>)>,
}

/// A task function as an app knows it.
#[derive(Debug)]
struct Entry {
    spec: Arc<TaskSpec>,
    /// As it is in the code; `None` of one that was made when the program ran.
    origin: Option<&'static TaskSpec>,
}

/// What an app is told about task functions.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) only: Option<Vec<&'static TaskSpec>>,
    pub(crate) more: Vec<&'static TaskSpec>,
    pub(crate) made: Vec<TaskSpec>,
    pub(crate) renames: Vec<(String, String)>,
    pub(crate) changes: Vec<(&'static TaskSpec, Change)>,
}

impl Choice {
    /// Whether there are no task functions at all.
    #[cfg(feature = "cli")]
    pub(crate) fn is_empty(&self) -> bool {
        let none = match &self.only {
            Some(only) => only.is_empty(),
            None => inventory::iter::<Registration>.into_iter().next().is_none(),
        };
        none && self.more.is_empty() && self.made.is_empty()
    }
}

/// Changes an app's copy of a spec.
pub(crate) type Change = Box<dyn FnOnce(TaskSpec) -> TaskSpec + Send>;

impl Registry {
    /// Of all that is linked and all that was registered by hand, or of a given set.
    pub(crate) fn collect(choice: Choice) -> Result<Self> {
        let Choice { only, more, made, renames, changes } = choice;
        let mut registry = Registry::default();
        let linked = inventory::iter::<Registration>.into_iter().map(|r| (r.0)());
        let mut specs: Vec<_> = only.unwrap_or_else(|| linked.collect());
        specs.extend(more);
        // The linker's order is nobody's.
        specs.sort_by_key(|s| (s.name, s.file, s.line));
        specs.dedup_by(|a, b| std::ptr::eq(*a, *b));
        let mut own: Vec<(&'static TaskSpec, TaskSpec)> = Vec::new();
        for (origin, change) in changes {
            if !specs.iter().any(|spec| std::ptr::eq(*spec, origin)) {
                let message = format!("`.spec::<{}>(…)`: the app has no such task function", origin.function);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            match own.iter_mut().find(|(of, _)| std::ptr::eq(*of, origin)) {
                Some((_, spec)) => *spec = change(spec.clone()),
                None => own.push((origin, change(origin.clone()))),
            }
        }
        let mut unused: BTreeSet<&String> = renames.iter().map(|(path, _)| path).collect();
        for origin in specs {
            let is = |path: &str| path == format!("{}::{}", origin.module, origin.function);
            let rename = renames.iter().find(|(path, _)| is(path));
            let name = rename.map_or(origin.name, |(_, name)| name);
            if let Some((path, name)) = rename {
                unused.remove(path);
                registry.renamed.push((origin, name.clone()));
            }
            let changed = own.iter().position(|(of, _)| std::ptr::eq(*of, origin)).map(|at| own.swap_remove(at).1);
            let is_changed = changed.is_some();
            let spec = Arc::new(changed.unwrap_or_else(|| origin.clone()));
            if is_changed {
                registry.changed.push((origin, Arc::clone(&spec)));
            }
            registry.insert(name, spec, Some(origin))?;
        }
        for spec in made {
            registry.insert(spec.name, Arc::new(spec), None)?;
        }
        if let Some(path) = unused.first() {
            let message = format!(
                "`.rename(\"{path}\", …)`: no task function has that path: give it as `crate::module::function`"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(registry)
    }

    fn insert(&mut self, name: &str, spec: Arc<TaskSpec>, origin: Option<&'static TaskSpec>) -> Result<()> {
        check_name("name of the task", name)
            .map_err(|e| Error::invalid(format!("{e} (the function at {})", spec.place())))?;
        check_name("name of the queue", spec.queue)
            .map_err(|e| Error::invalid(format!("{e} (of `{name}`, at {})", spec.place())))?;
        (spec.tags.iter().try_for_each(|tag| check_tag(tag)))
            .map_err(|e| Error::invalid(format!("{e} (of `{name}`, at {})", spec.place())))?;
        if name.starts_with(BUILT_IN) {
            let message = format!("`{name}` ({}): names that begin with `{BUILT_IN}` are our own", spec.place());
            return Err(Error::invalid(message));
        }
        if let Some(other) = self.specs.insert(name.to_owned(), Entry { spec: Arc::clone(&spec), origin }) {
            self.doubles.push((name.to_owned(), other.spec, spec));
        }
        Ok(())
    }

    /// Whether a worker can serve the set.
    pub(crate) fn check(&self, states: &States, lease: Duration) -> Result<()> {
        for (name, Entry { spec, .. }) in &self.specs {
            let least = lease + lease / 2;
            if spec.cancel_when_unwatched.is_some_and(|limit| limit < least) {
                let message = format!(
                    "`{name}` ({}): `cancel_when_unwatched` is at least one and a half leases, {least:?}: watchers \
                     tell of themselves every half lease",
                    spec.place()
                );
                return Err(Error::invalid(message));
            }
        }
        if !self.doubles.is_empty() {
            let mut message = "task functions that share a name:".to_owned();
            for (name, a, b) in &self.doubles {
                let _ = write!(message, " `{name}` at {} and {};", a.place(), b.place());
            }
            message.push_str(" give one `name = \"…\"`, or use `.rename(path, name)`");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let mut missing = String::new();
        for (name, Entry { spec, .. }) in &self.specs {
            for state in spec.state.iter().filter(|s| !states.contains_key(&(s.id)())) {
                let _ = write!(missing, "`{name}` ({}) needs a `State<{}>`; ", spec.place(), state.ty);
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "{missing}nobody has given it: give it by `.state(value)` of the builder (on the command line that of \
                 `qtasks::cli::main_with`), or leave those tasks out by `.tasks([…])`"
            );
            return Err(Error::invalid(message));
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<TaskSpec>> {
        self.specs.get(name).map(|entry| &entry.spec)
    }

    /// The app's own copy of a spec, where it has one.
    pub(crate) fn own<'a>(&'a self, spec: &'a TaskSpec) -> &'a TaskSpec {
        let changed = self.changed.iter().find(|(origin, _)| std::ptr::eq(*origin, spec));
        changed.map_or(spec, |(_, own)| own)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.specs.keys().map(String::as_str).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<TaskSpec>)> {
        self.specs.iter().map(|(name, entry)| (name.as_str(), &entry.spec))
    }

    /// The specs with what they are in the code.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (&str, &TaskSpec, Option<&'static TaskSpec>)> {
        self.specs.iter().map(|(name, entry)| (name.as_str(), &*entry.spec, entry.origin))
    }

    /// The name that a task function bears here.
    pub(crate) fn name_of(&self, spec: &'static TaskSpec) -> &str {
        let renamed = self.renamed.iter().find(|(renamed, _)| std::ptr::eq(*renamed, spec));
        renamed.map_or(spec.name, |(_, name)| name)
    }

    /// Every queue that a task function names, and the default one.
    pub(crate) fn queues(&self) -> Vec<String> {
        let named = self.specs.values().map(|entry| entry.spec.queue.to_owned());
        named.chain(["default".to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// There is no such name: which are near it?
    pub(crate) fn unknown(&self, name: &str) -> Error {
        let mut message = format!("no task named {name:?}");
        if self.specs.is_empty() {
            message.push_str("; no task function is linked: a crate of tasks needs a `use my_tasks as _;`");
        } else if let Some(near) = near(name, &self.names()) {
            let _ = write!(message, "; did you mean {near}?");
        }
        Error::new(ErrorKind::NotFound, message)
    }
}

/// The names that are near one that there is not, in words.
pub(crate) fn near(name: &str, names: &[&str]) -> Option<String> {
    let mut near: Vec<_> = names.iter().map(|known| (distance(name, known), *known)).collect();
    near.sort_unstable();
    near.retain(|(distance, known)| *distance <= known.len().max(name.len()) / 3 + 1);
    let near: Vec<_> = near.iter().take(3).map(|(_, known)| format!("{known:?}")).collect();
    (!near.is_empty()).then(|| near.join(" or "))
}

/// What needs a later version: such a task is refused when it is added.
pub(crate) fn unsupported(spec: &TaskSpec) -> Result<()> {
    let Keep::Last(n) = spec.keep else { return Ok(()) };
    let message =
        format!("the task `{}` sets `keep = last({n})`, which this version can't do yet: leave it out", spec.name);
    Err(Error::invalid(message))
}

/// What a worker publishes in the store of a task function, for those who add tasks by name and don't have it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) generating: bool,
    pub(crate) queue: String,
    pub(crate) priority: i16,
    pub(crate) tags: Vec<String>,
    args: Vec<PublishedArg>,
    /// Any arguments go.
    #[serde(default)]
    dynamic: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct PublishedArg {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    required: bool,
}

/// Where the spec of a name is published.
fn published_key(name: &str) -> String {
    format!("spec/{name}")
}

impl Published {
    pub(crate) fn of(spec: &TaskSpec) -> Self {
        let arg = |a: &ArgSpec| PublishedArg { name: a.name.to_owned(), ty: a.ty.to_owned(), required: a.required };
        Published {
            generating: spec.generating,
            queue: spec.queue.to_owned(),
            priority: spec.priority,
            tags: spec.tags.iter().map(|t| (*t).to_owned()).collect(),
            args: spec.args.iter().map(arg).collect(),
            dynamic: spec.is_dynamic(),
        }
    }

    /// The names of its arguments, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.args.iter().map(|a| a.name.clone()).collect()
    }

    /// Its arguments, in order: name, type, and whether a call must give it.
    #[cfg(feature = "cli")]
    pub(crate) fn args(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.args.iter().map(|arg| (&*arg.name, &*arg.ty, arg.required))
    }

    /// All that workers have published, by name.
    #[cfg(feature = "cli")]
    pub(crate) async fn all(store: &dyn Store) -> Result<Vec<(String, Self)>> {
        let prefix = published_key("");
        let docs = store.doc_list(prefix.clone()).await?;
        let read = |doc: crate::store::Doc| {
            let name = doc.key.strip_prefix(&prefix)?.to_owned();
            Some((name, serde_json::from_slice(&doc.bytes).ok()?))
        };
        Ok(docs.into_iter().filter_map(read).collect())
    }

    /// The spec that some worker has published under a name.
    pub(crate) async fn find(store: &dyn Store, name: &str) -> Result<Option<Self>> {
        let doc = store.doc_get(published_key(name)).await?;
        // One that can't be read is of another version: as good as none.
        Ok(doc.and_then(|doc| serde_json::from_slice(&doc.bytes).ok()))
    }

    /// Whether a call has the arguments that the function takes, as far as names tell.
    pub(crate) fn check(&self, args: &Json) -> Result<(), String> {
        if self.dynamic {
            return Ok(());
        }
        let given: serde_json::Value = args.get().map_err(|e| format!("arguments: {e}"))?;
        let is_given: Vec<bool> = match &given {
            serde_json::Value::Null => vec![false; self.args.len()],
            serde_json::Value::Array(list) if list.len() > self.args.len() => {
                return Err(format!("arguments: {} given, at most {} taken", list.len(), self.args.len()));
            }
            serde_json::Value::Array(list) => (0..self.args.len()).map(|i| i < list.len()).collect(),
            serde_json::Value::Object(map) => {
                if let Some(unknown) = map.keys().find(|key| self.args.iter().all(|a| a.name != **key)) {
                    let known: Vec<_> = self.args.iter().map(|a| format!("`{}`", a.name)).collect();
                    return Err(format!("arguments: `{unknown}` is not known: this task takes {}", known.join(", ")));
                }
                self.args.iter().map(|a| map.contains_key(&a.name)).collect()
            }
            _ => return Err("arguments: expected an object or an array of arguments".to_owned()),
        };
        match self.args.iter().zip(is_given).find(|(arg, is_given)| arg.required && !is_given) {
            Some((PublishedArg { name, ty, .. }, _)) => Err(format!("argument `{name}` (`{ty}`) is missing")),
            None => Ok(()),
        }
    }
}

impl Registry {
    /// Tells those who add tasks by name what the functions of this set take.
    pub(crate) async fn publish(&self, store: &dyn Store) -> Result<()> {
        for (name, spec) in self.iter() {
            let bytes = serde_json::to_vec(&Published::of(spec)).expect("names and numbers");
            let put = DocPut { key: published_key(name), if_version: None, bytes, expires: None };
            store.doc_put(put).await?;
        }
        Ok(())
    }
}

/// How many letters must be changed, added or left out to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
