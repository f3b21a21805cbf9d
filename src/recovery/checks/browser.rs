//! Requests of one visit, with its cookies, as a browser makes them.

use super::cookies::{Cookies, Site};
use super::words::excerpt;
use crate::config::checks::{Http, address_of};
use crate::host::addresses::Addresses;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The largest answer that is read.
const MAX_BODY: usize = 8 << 20;
/// Redirections in a row.
const HOPS: usize = 10;

/// A request.
#[derive(Clone)]
pub(super) struct Asked {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// Whether redirections are followed.
    pub follow: bool,
}

/// An answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub url: Url,
    /// Where a redirection leads.
    pub location: Option<Url>,
    pub body: String,
}

/// See the module.
pub(super) struct Browser<'a> {
    http: &'a Http,
    client: Client,
    pub cookies: Cookies,
}

/// Names, each of which leads to this machine.
struct Here;

impl Resolve for Here {
    fn resolve(&self, _: Name) -> Resolving {
        let both: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        let both: Addrs = Box::new(both.into_iter());
        Box::pin(std::future::ready(Ok(both)))
    }
}

/// An error with its causes; not with the URL, which may hold a secret.
fn causes(e: reqwest::Error) -> String {
    let e = e.without_url();
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(&e);
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// A URL without what may be a secret.
pub(super) fn told(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = (url.set_username(""), url.set_password(None));
    url.to_string()
}

impl<'a> Browser<'a> {
    /// A visitor without cookies.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub(super) fn new(http: &'a Http) -> Result<Self, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // The application of this machine is asked, not somebody who answers for it.
            .no_proxy()
            .http1_only()
            .tls_danger_accept_invalid_certs(http.insecure);
        if http.only_here {
            builder = builder.dns_resolver(Here);
        }
        if let Some(address) = http.resolve {
            let names = [Some(&http.url), http.login.as_ref().map(|l| &l.url)];
            for name in names.into_iter().flatten().filter_map(|url| url.domain()) {
                builder = builder.resolve(name, SocketAddr::new(address, 0));
            }
        }
        if let Some(file) = &http.ca {
            let unreadable =
                |why: String| format!("the certificates of `ca` cannot be used: {}: {why}", file.display());
            let pem = std::fs::read(file).map_err(|e| unreadable(e.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(causes(e)))?;
            if certificates.is_empty() {
                return Err(unreadable("it holds none".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(causes)?;
        Ok(Browser { http, client, cookies: Cookies::default() })
    }

    /// The `Host` header for a URL, when it is not the URL's own.
    fn host_header(&self, url: &Url) -> Option<&str> {
        let own = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        self.http.host.as_deref().filter(|_| own(url) == own(&self.http.url))
    }

    /// Host and port as the server knows them.
    pub(super) fn authority(&self, url: &Url) -> String {
        match self.host_header(url) {
            Some(host) => host.to_owned(),
            None => url.authority().to_owned(),
        }
    }

    /// Where a URL's cookies belong.
    pub(super) fn site<'u>(&'u self, url: &'u Url) -> Site<'u> {
        let host = match self.host_header(url) {
            Some(host) => {
                host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(h, _)| h)
            }
            None => url.host_str().unwrap_or_default(),
        };
        Site { host, path: url.path(), https: url.scheme() == "https" }
    }

    /// Whether a URL, as one that was redirected to, has an address of another machine where only this one may be asked.
    fn leads_away(&self, url: &Url) -> bool {
        let foreign = |address| !Addresses::read().is_ok_and(|own| own.has(address));
        self.http.only_here && address_of(url).is_some_and(foreign)
    }

    /// Asks, and takes the cookies.
    ///
    /// # Errors
    /// Why there is no answer, without the URL.
    pub(super) async fn ask(&mut self, mut asked: Asked) -> Result<Answer, String> {
        for _ in 0..=HOPS {
            if self.leads_away(&asked.url) {
                return Err("it leads to another machine, which is not asked".to_owned());
            }
            let mut request =
                self.client.request(asked.method.clone(), asked.url.clone()).headers(asked.headers.clone());
            if let Some(host) = self.host_header(&asked.url) {
                request = request.header(header::HOST, host);
            }
            if let Some(cookies) = self.cookies.header(&self.site(&asked.url)) {
                let mut value =
                    HeaderValue::from_str(&cookies).map_err(|_| "a cookie cannot be sent back".to_owned())?;
                value.set_sensitive(true);
                request = request.header(header::COOKIE, value);
            }
            if let Some(body) = &asked.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(causes)?;
            for cookie in response.headers().get_all(header::SET_COOKIE) {
                if let Ok(text) = cookie.to_str() {
                    let mut cookies = std::mem::take(&mut self.cookies);
                    cookies.set(text, &self.site(&asked.url));
                    self.cookies = cookies;
                }
            }
            let status = response.status();
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let location = location.filter(|_| status.is_redirection()).and_then(|l| asked.url.join(l).ok());
            match location {
                Some(to) if asked.follow => {
                    if to.scheme() != "http" && to.scheme() != "https" {
                        return Err(format!("{status} leads to {}", excerpt(to.scheme(), 20)));
                    }
                    asked = redirected(asked, status, to);
                }
                location => {
                    let body = body(response).await?;
                    return Ok(Answer { status, url: asked.url, location, body });
                }
            }
        }
        Err(format!("more than {HOPS} redirections in a row"))
    }
}

/// The next request. As browsers do: after 301, 302 and 303 a GET, and who we are is told to nobody else.
fn redirected(asked: Asked, status: StatusCode, to: Url) -> Asked {
    let Asked { mut method, url, mut headers, mut body, follow } = asked;
    let kept = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !kept && method != Method::HEAD {
        method = Method::GET;
        body = None;
        headers.remove(header::CONTENT_TYPE);
    }
    if to.origin() != url.origin() {
        headers = HeaderMap::new();
    }
    Asked { method, url: to, headers, body, follow }
}

async fn body(mut response: reqwest::Response) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(causes)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            return Err(format!("the answer is larger than {} MiB", MAX_BODY >> 20));
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
