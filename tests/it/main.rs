//! Integration tests, one file an area.

mod report;
mod score;
mod synthetic;
