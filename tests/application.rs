//! The application is stopped, held and started again as it was: on machines with a real systemd, and on a real Docker.

#[path = "application/containers.rs"]
mod containers;
#[path = "application/driver.rs"]
mod driver;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "support/port.rs"]
mod port;
#[path = "application/power.rs"]
mod power;
#[path = "application/refusals.rs"]
mod refusals;
#[path = "application/services.rs"]
mod services;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "application/units.rs"]
mod units;
