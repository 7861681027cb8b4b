//! Bringing tables that are in use under isolation, and back.

mod resume;
mod support;
mod vechat;
