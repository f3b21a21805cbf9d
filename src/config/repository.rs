//! `[repository]`: from a file, or from the environment alone.

use super::environment;
use super::explain::{explain, named};
use super::raw::RawRepository;
use super::secret::{either, resolve};
use crate::error::Result;
use crate::model::{size, time};
use crate::storage::open::StorageOptions;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

/// The repository of this URL on a machine without any file: all else of `[repository]` comes from the environment.
///
/// # Errors
/// [`Kind::Config`] with the key.
pub fn without_file(url: &str, environment: Option<HashMap<String, String>>) -> Result<StorageOptions> {
    #[derive(serde::Deserialize)]
    struct Only {
        repository: RawRepository,
    }
    environment::refuse_misspelt(environment.as_ref())?;
    let here = Path::new("the environment");
    let only: Only = config::Config::builder()
        .add_source(environment::layer(environment))
        .set_override("repository.url", url)
        .and_then(|b| b.build()?.try_deserialize())
        .map_err(|e| explain(e, here))?;
    storage_of(only.repository, Path::new("."))
}

/// The options of a store; relative paths of secrets are looked for in `dir`.
pub(super) fn storage_of(r: RawRepository, dir: &Path) -> Result<StorageOptions> {
    let rate = |text: Option<String>, key: &str| -> Result<Option<NonZeroU64>> {
        text.map(|t| size::parse(&t).map_err(|e| named(e, &format!("repository.{key}"))))
            .transpose()
            .map(|n| n.and_then(NonZeroU64::new))
    };
    Ok(StorageOptions {
        endpoint: r.endpoint,
        region: r.region,
        path_style: r.path_style.unwrap_or(false),
        storage_class: r.storage_class,
        limit_upload: rate(r.limit_upload, "limit_upload")?,
        limit_download: rate(r.limit_download, "limit_download")?,
        timeout: match r.timeout {
            Some(t) => Duration::from_secs(
                time::parse_duration(&t).map_err(|e| named(e, "repository.timeout"))?.as_secs().unsigned_abs().max(1),
            ),
            None => StorageOptions::new("").timeout,
        },
        anonymous: r.anonymous.unwrap_or(false),
        service_account_file: r.service_account_file.map(|f| resolve(&f, dir)),
        s3_access_key_id: r.access_key_id,
        s3_secret_access_key: either(
            r.secret_access_key,
            r.secret_access_key_file.as_deref(),
            "repository.secret_access_key",
            dir,
        )?
        .map(|s| s.expose().to_owned()),
        s3_session_token: either(r.session_token, r.session_token_file.as_deref(), "repository.session_token", dir)?
            .map(|s| s.expose().to_owned()),
        ..StorageOptions::new(r.url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_repository_comes_from_the_environment() {
        let variables = |more: &[(&str, &str)]| {
            let given = [
                ("BACKSTAY__REPOSITORY__ENDPOINT", "https://s3.example.org"),
                ("BACKSTAY__REPOSITORY__PATH_STYLE", "true"),
                ("BACKSTAY__REPOSITORY__SECRET_ACCESS_KEY", "0123"),
            ];
            Some(given.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let o = without_file(
            "s3://b/p",
            variables(&[("BACKSTAY__REPOSITORY__URL", "s3://other"), ("BACKSTAY__PLANS__X__SOURCES", "y")]),
        )
        .unwrap();
        assert_eq!(
            (o.url.as_str(), o.endpoint.as_deref(), o.path_style),
            ("s3://b/p", Some("https://s3.example.org"), true)
        );
        assert_eq!(o.s3_secret_access_key.as_deref(), Some("0123"));
        assert_eq!(without_file("file:///x", Some(HashMap::new())).unwrap().endpoint, None);
        let e = without_file("s3://b/p", variables(&[("BACKSTAY__REPOSITORY__REGOIN", "x")])).unwrap_err();
        assert!(e.to_string().contains("Did you mean `region`?"), "{e}");
        // It would go to Amazon instead.
        let e = without_file("s3://b/p", variables(&[("BACKSTAY__REPOSITORY_ENDPOINT", "x")])).unwrap_err();
        assert!(e.to_string().contains("BACKSTAY__REPOSITORY_ENDPOINT would not be read"), "{e}");
    }
}
