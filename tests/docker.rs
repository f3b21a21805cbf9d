//! Containers and volumes on a real Docker daemon. No image is pulled: they are made of busybox.

#[path = "docker/exec.rs"]
mod exec;
#[path = "docker/find.rs"]
mod find;
#[path = "docker/stage.rs"]
mod stage;
