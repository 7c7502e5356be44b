//! One binary, a module per noun.

mod life;
mod stores;
