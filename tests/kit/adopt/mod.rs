//! Bringing tables that are in use under isolation, and back.

mod fifteen;
mod fleet;
mod hostile;
mod random;
mod reported;
mod resume;
mod rules;
mod schemas;
mod special;
mod support;
mod vechat;
mod writers;
