//! plumb-engine: pipeline TOML -> axes -> graph -> keys -> plan -> run. Knows graphs and keys; knows no reward,
//! no judge, no model. Never prints.

pub mod answers;
pub mod budget;
pub mod canonical;
pub mod clock;
pub mod command;
pub mod config;
pub mod courier;
pub mod diagnostic;
pub mod error;
pub mod estimate;
pub mod event;
pub mod execute;
pub mod explain;
pub mod graph;
pub mod growth;
pub mod history;
pub mod io;
pub mod key;
pub mod layers;
pub mod maker;
pub mod nearest;
pub mod pipeline;
pub mod plan;
pub mod protocol;
pub mod provenance;
pub mod schema;
pub mod settings;
pub mod sharing;
pub mod show;
pub mod source;
pub mod stage;
pub mod upstream;
pub mod verify;
