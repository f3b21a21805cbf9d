//! Maintenance with real nginx servers: on this machine, in containers, and as services of a swarm of their own.

#[path = "maintenance/app.rs"]
mod app;
#[path = "maintenance/commands.rs"]
mod commands;
#[path = "maintenance/container.rs"]
mod container;
#[path = "maintenance/install.rs"]
mod install;
#[path = "docker/nginx.rs"]
mod nginx;
#[path = "support/port.rs"]
mod port;
#[path = "maintenance/refused.rs"]
mod refused;
#[path = "maintenance/requests.rs"]
mod requests;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "maintenance/staged.rs"]
mod staged;
#[path = "maintenance/steps.rs"]
mod steps;
#[path = "maintenance/switch.rs"]
mod switch;
#[path = "maintenance/web.rs"]
mod web;
