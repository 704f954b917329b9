//! The HTTP endpoint: health, metrics, status, plan, console (interface §6).
//!
//! Whoever may read is decided by where it listens: on loopback everybody on the host, elsewhere who knows the token.
//! Whatever changes something needs the token always. On loopback the `Host` header must name loopback, so that a web
//! page whose name was pointed at 127.0.0.1 cannot read through its visitor's browser. It runs on a thread of its own
//! and asks an [`Endpoint`] for every answer; it decides nothing.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long open requests may go on after the stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Where and for whom to listen.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// The bearer token. Off loopback there must be one.
    pub token: Option<SecretString>,
}

/// A link, a topic of it, or one partition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Source region.
    pub from: String,
    /// Target region.
    pub to: String,
    /// All topics when it is left out.
    #[serde(default)]
    pub topic: Option<String>,
    /// All partitions when it is left out.
    #[serde(default)]
    pub partition: Option<i32>,
}

/// Who knows the answers. Called from the endpoint's threads; every call may take its time, none may hang.
pub trait Endpoint: Send + Sync + 'static {
    /// Why the bridge is not ready; empty when it is.
    fn not_ready(&self) -> Vec<String>;

    /// The text of `/metrics`.
    fn metrics(&self) -> String;

    /// The object of `status -o json`.
    fn status(&self) -> Value;

    /// The object of `plan -o json`.
    fn plan(&self) -> Value;

    /// Pauses (or resumes) what is named. The error is for the caller to read.
    fn set_paused(&self, what: &PauseRequest, paused: bool) -> Result<(), String>;
}

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everybody on the network could read and write.
    #[error("admin.listen {listen} is not on loopback: set admin.token, or listen on 127.0.0.1")]
    TokenNeeded {
        /// As configured.
        listen: String,
    },
    /// The system refuses.
    #[error("listen on admin.listen {listen}: {error}")]
    Listen {
        /// As configured.
        listen: String,
        /// Its words.
        error: std::io::Error,
    },
}

/// A running endpoint; dropping it ends it without waiting.
pub struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Where it listens, with the real port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, lets open ones end (2 s), and returns.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the HTTP endpoint's thread panicked");
        }
    }
}

/// Listens and answers until it is stopped. The address is logged; port 0 is told by [`Served::address`].
pub fn serve(admin: &Admin, endpoint: Arc<dyn Endpoint>) -> Result<Served, Error> {
    let failed = |error| Error::Listen { listen: admin.listen.clone(), error };
    let addresses: Vec<SocketAddr> = admin.listen.to_socket_addrs().map_err(failed)?.collect();
    let loopback = addresses.iter().all(|address| address.ip().is_loopback());
    if !loopback && admin.token.is_none() {
        return Err(Error::TokenNeeded { listen: admin.listen.clone() });
    }
    let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let access = Access {
        loopback,
        host: admin.listen.rsplit_once(':').map_or("", |(host, _)| host).to_owned(),
        token: admin.token.as_ref().map(|token| fingerprint(token.expose_secret().as_bytes())),
    };
    let router = router(endpoint, Arc::new(access));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build();
    let runtime = runtime.map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || runtime.block_on(answer(listener, router, stopped)))
        .map_err(failed)?;
    info!(%address, "the HTTP endpoint listens on http://{address}");
    Ok(Served { address, stop: Some(stop), thread: Some(thread) })
}

async fn answer(listener: TcpListener, router: Router, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("the HTTP endpoint does not start: {error}"),
    };
    let (draining, drained) = oneshot::channel();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        // Also when the sender was dropped.
        stopped.await.ok();
        draining.send(()).ok();
    });
    let too_long = async move {
        drained.await.ok();
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        outcome = serving => if let Err(error) = outcome { warn!("the HTTP endpoint ended: {error}") },
        () = too_long => {}
    }
}

fn router(endpoint: Arc<dyn Endpoint>, access: Arc<Access>) -> Router {
    let probes = Router::new()
        .route("/livez", get(async || Json(json!({"live": true}))))
        .route("/readyz", get(ready))
        .route("/", get(async || page("text/html; charset=utf-8", include_str!("console/index.html"))))
        .route("/console.js", get(async || page("text/javascript; charset=utf-8", include_str!("console/console.js"))))
        .route("/console.css", get(async || page("text/css; charset=utf-8", include_str!("console/console.css"))));
    let reading = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/plan", get(plan))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&access), may_read));
    let changing = Router::new()
        .route("/api/v1/links/pause", post(pause))
        .route("/api/v1/links/resume", post(resume))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&access), may_change));
    probes
        .merge(reading)
        .merge(changing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&access), is_ours))
        .with_state(Answers { endpoint, access })
}

#[derive(Clone)]
struct Answers {
    endpoint: Arc<dyn Endpoint>,
    access: Arc<Access>,
}

impl Answers {
    /// Asks the endpoint off the reactor, because it may take locks or write to a broker.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Endpoint) -> T + Send + 'static,
        answer: impl FnOnce(T) -> Response,
    ) -> Response {
        let endpoint = Arc::clone(&self.endpoint);
        match tokio::task::spawn_blocking(move || question(&*endpoint)).await {
            Ok(value) => answer(value),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the bridge failed to answer"),
        }
    }
}

async fn ready(State(answers): State<Answers>, headers: HeaderMap) -> Response {
    let may_read = answers.access.may_read(&headers);
    answers
        .ask(
            |endpoint| endpoint.not_ready(),
            move |reasons| {
                let ready = reasons.is_empty();
                let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                // A probe without the token learns the answer, not the reasons.
                let body = if may_read { json!({"ready": ready, "reasons": reasons}) } else { json!({"ready": ready}) };
                (code, Json(body)).into_response()
            },
        )
        .await
}

async fn metrics(State(answers): State<Answers>) -> Response {
    let text = |text| ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response();
    answers.ask(|endpoint| endpoint.metrics(), text).await
}

async fn status(State(answers): State<Answers>) -> Response {
    answers.ask(|endpoint| endpoint.status(), |value| Json(value).into_response()).await
}

async fn plan(State(answers): State<Answers>) -> Response {
    answers.ask(|endpoint| endpoint.plan(), |value| Json(value).into_response()).await
}

async fn pause(State(answers): State<Answers>, Json(what): Json<PauseRequest>) -> Response {
    set_paused(answers, what, true).await
}

async fn resume(State(answers): State<Answers>, Json(what): Json<PauseRequest>) -> Response {
    set_paused(answers, what, false).await
}

async fn set_paused(answers: Answers, what: PauseRequest, paused: bool) -> Response {
    let outcome = |outcome: Result<(), String>| match outcome {
        Ok(()) => Json(json!({"paused": paused})).into_response(),
        Err(why) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    answers.ask(move |endpoint| endpoint.set_paused(&what, paused), outcome).await
}

fn problem(code: StatusCode, why: &str) -> Response {
    (code, Json(json!({"error": why}))).into_response()
}

fn page(kind: &'static str, content: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}

/// Who may do what.
struct Access {
    loopback: bool,
    /// The host of `admin.listen`, which is as good a `Host` as loopback's names.
    host: String,
    token: Option<Fingerprint>,
}

/// A token's HMAC: comparing two of them takes the same time wherever they differ.
#[derive(Clone)]
struct Fingerprint(Hmac<Sha256>);

fn fingerprint(token: &[u8]) -> Fingerprint {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"longshore admin token").expect("HMAC takes keys of every length");
    mac.update(token);
    Fingerprint(mac)
}

impl Access {
    fn knows_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let Some((_, given)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else { return false };
        let Some(Fingerprint(expected)) = self.token.clone() else { return false };
        let Fingerprint(given) = fingerprint(given.trim().as_bytes());
        expected.verify_slice(&given.finalize().into_bytes()).is_ok()
    }

    fn may_read(&self, headers: &HeaderMap) -> bool {
        self.loopback || self.knows_token(headers)
    }

    fn names_us(&self, headers: &HeaderMap) -> bool {
        if !self.loopback {
            return true;
        }
        let Some(host) = headers.get(header::HOST).and_then(|value| value.to_str().ok()) else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        matches!(name, "localhost" | "127.0.0.1" | "[::1]") || (!self.host.is_empty() && name == self.host)
    }
}

async fn is_ours(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if !access.names_us(request.headers()) {
        return problem(StatusCode::MISDIRECTED_REQUEST, "the Host header does not name this endpoint");
    }
    let mut response = next.run(request).await;
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

async fn may_read(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if access.may_read(request.headers()) { next.run(request).await } else { token_needed() }
}

async fn may_change(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if access.token.is_none() {
        return problem(StatusCode::FORBIDDEN, "set admin.token to change anything through this endpoint");
    }
    if access.knows_token(request.headers()) { next.run(request).await } else { token_needed() }
}

fn token_needed() -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, "a bearer token is needed (admin.token)");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests;
