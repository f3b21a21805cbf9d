//! What becomes of what is deleted in a bucket.

use super::Versions;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule};

/// Asks the bucket. Nothing when it does not tell: few credentials may ask, and few other servers know an answer.
pub(super) async fn of_bucket(client: &Client, bucket: &str) -> Option<Versions> {
    let versioning = client.get_bucket_versioning().bucket(bucket).send().await.ok()?;
    if versioning.status() != Some(&BucketVersioningStatus::Enabled) {
        return Some(Versions::None);
    }
    let expires = |rule: &LifecycleRule| {
        *rule.status() == ExpirationStatus::Enabled && rule.noncurrent_version_expiration().is_some()
    };
    let rules = client.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
    Some(match rules {
        Ok(rules) if rules.rules().iter().any(expires) => Versions::Expiring,
        _ => Versions::Kept,
    })
}
