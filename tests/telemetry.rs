//! What the operator sees, from the program as it is run: run records, metrics, Sentry, webhooks, and `serve`.

#[path = "telemetry/browser.rs"]
mod browser;
#[path = "telemetry/chromium.rs"]
mod chromium;
#[path = "telemetry/dashboards.rs"]
mod dashboards;
#[path = "telemetry/endpoint.rs"]
mod endpoint;
#[path = "telemetry/hooks.rs"]
mod hooks;
#[path = "telemetry/metrics.rs"]
mod metrics;
#[path = "telemetry/page.rs"]
mod page;
#[path = "support/port.rs"]
mod port;
#[path = "telemetry/prometheus.rs"]
mod prometheus;
#[path = "telemetry/render.rs"]
mod render;
#[path = "telemetry/runs.rs"]
mod runs;
#[path = "telemetry/secrets.rs"]
mod secrets;
#[path = "telemetry/sentry.rs"]
mod sentry;
#[path = "telemetry/serve.rs"]
mod serve;
#[allow(dead_code)]
#[path = "cli/world.rs"]
mod world;
