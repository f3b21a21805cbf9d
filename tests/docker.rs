//! Containers and volumes on a real Docker daemon. No image is pulled: they are made of busybox.

#[path = "docker/deployment.rs"]
mod deployment;
#[path = "docker/exec.rs"]
mod exec;
#[path = "docker/find.rs"]
mod find;
#[path = "docker/image.rs"]
mod image;
#[path = "docker/quiesce.rs"]
mod quiesce;
#[path = "docker/registry.rs"]
mod registry;
#[path = "docker/restore.rs"]
mod restore;
#[path = "docker/services.rs"]
mod services;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "docker/upload.rs"]
mod upload;
#[path = "docker/volume.rs"]
mod volume;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
