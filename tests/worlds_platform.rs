//! Worlds of other people: an application as they run it, backups as their own scripts made them with stock tools, and
//! then the program, by a worked example of `config/examples` and nothing else.

#[path = "worlds_platform/erp.rs"]
mod erp;
#[path = "worlds_platform/erp_app.rs"]
mod erp_app;
#[path = "worlds_platform/examples.rs"]
mod examples;
#[path = "worlds_platform/hosting.rs"]
mod hosting;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "worlds_platform/platform.rs"]
mod platform;
#[path = "support/port.rs"]
mod port;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "worlds_platform/stores.rs"]
mod stores;
#[allow(dead_code)]
mod support;
