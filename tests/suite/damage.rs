//! Stores that are damaged: what can't be right is refused, for the task alone that it is about.

mod chaos;
mod files;
mod future;
mod readers;
